"""The bench in its smallest size: each family runs with the peers that are here and gives every quantity for each. Says
nothing of speed. Peers from PyPI that the tests do not install count as missing, and are named so."""

from __future__ import annotations

import math
import shutil
import sys

import pytest

from netnet.bench import running
from netnet.bench.families import FAMILIES
from netnet.bench.figures import FULL, SMOKE
from netnet.bench.journal import Journal
from netnet.bench.targets import TARGETS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
    pytest.mark.timeout(180),
]


class Unwatched:
    """Where nobody wants to know how far it is."""

    def measuring(self, case, peer, number):
        """Nothing."""

    def measured(self):
        """Nothing."""

    def case_done(self, case):
        """Nothing."""


@pytest.mark.client("microsocks")
@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, tmp_path):
    cases = FAMILIES[name].cases(SMOKE)
    with Journal(tmp_path, {}) as journal:
        running.run(cases, SMOKE, journal, Unwatched())
    for case in cases:
        table = case.table
        assert table.failed == {}, table.title
        assert table.samples[table.ours] or table.ours in table.missing, table.title
        for peer, samples in table.samples.items():
            assert len(samples) == running.rounds_of(case, SMOKE)
            for sample in samples:
                assert set(sample) <= {quantity.name for quantity in table.quantities}, peer
                assert table.quantities[0].name in sample
                assert all(math.isfinite(value) for value in sample.values())


def test_every_target_is_about_a_figure_that_is_measured():
    tables = {
        figures.title: {*case.measures, *case.table.missing}
        for family in FAMILIES.values()
        for case in family.cases(FULL)
        for figures in case.table.judged_figures()
    }
    for target in TARGETS:
        if not target.table.endswith(", throughput"):  # judged with four processors only
            assert target.table in tables
            assert target.peer is None or target.peer in tables[target.table]


def test_the_cases_of_a_family_say_what_they_are():
    for family in FAMILIES.values():
        for case in family.cases(FULL):
            table = case.table
            assert table.base in {*case.measures, *table.missing}
            assert table.ours in {*case.measures, *table.missing}
            assert not set(case.measures) & set(table.missing)
            assert {quantity.name for quantity in table.quantities} >= set(table.judged)
            assert bool(table.place) <= bool(table.subject)
