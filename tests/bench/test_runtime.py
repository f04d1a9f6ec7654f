"""The families runtime and start: what counts of a work, how memory and lost tasks are told, and what is not here. That
all works run is seen in ``test_smoke``; nothing is said of speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from netnet.bench import peers, processes
from netnet.bench.families import importing, runtime
from netnet.bench.families.inside import Work
from netnet.bench.figures import FULL, SMOKE
from netnet.bench.processes import BenchError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")

PROBES = Path(processes.__file__).parent / "probes"

#: a library whose works tell how often they were asked, and use CPU time in and out of what counts
MADE_UP = """
import time

def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def plain(count):
    burn(0.2 if count < 100 else 0.02)

def prepared(count, stopwatch, standing):
    burn(standing / 10)
    with stopwatch:
        burn(0.01)
    burn(standing / 10)
    with stopwatch:
        burn(0.01)

def sleepers(count, pause):
    pause("ready")
    kept = bytearray(count * 100_000)
    kept[:] = b"x" * len(kept)
    pause("asleep")
    return count - 3

WORKS = {"plain": plain}
PREPARED = {"prepared": prepared}
HOLDING = {"sleepers": sleepers}
"""


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """The name of a library whose works are ``MADE_UP``."""
    (tmp_path / "on_madeup.py").write_text(MADE_UP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "madeup"


@pytest.mark.parametrize(("name", "more"), [("plain", ()), ("prepared", (2,))])
def test_neither_the_warm_up_nor_what_stands_counts(made_up, name, more):
    taken = Work(made_up, name, 100, more).microseconds() * 100 / 1e6
    assert 0.02 <= taken < 0.2


def test_the_memory_of_sleepers_and_those_that_are_lost(made_up):
    sample = runtime._asleep(Work(made_up, "sleepers", 200))
    assert sample["memory"] == pytest.approx(100, rel=0.1)
    assert sample["lost"] == 3


def test_a_work_that_there_is_not(made_up):
    with pytest.raises(BenchError, match="KeyError: 'nonsense'"):
        Work(made_up, "nonsense", 1).microseconds()


def works_of(library):
    code = f"import on_{library} as on; print(*on.WORKS, *on.PREPARED, *on.HOLDING)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROBES, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("library", ["asyncio", "gevent", "trio", "threads"])
def test_a_library_has_no_works_of_its_own(library):
    remedy = Work(library, "single", 1).remedy
    if remedy:
        pytest.skip(f"missing: {remedy}")
    assert works_of(library) <= works_of("netnet")
    assert library == "threads" or works_of("netnet") - works_of(library) == {"judge"}


@pytest.mark.parametrize("cases", [runtime.runtime, importing.importing])
def test_making_the_cases_starts_nothing(cases, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    titles = [case.table.title for case in cases(FULL)]
    assert len(set(titles)) == len(titles)


def test_libraries_that_are_not_here_are_named(monkeypatch):
    monkeypatch.setattr(peers, "has", lambda *modules: False)
    for case in [*runtime.runtime(SMOKE), *importing.importing(SMOKE)]:
        assert not {"gevent", "trio"} & set(case.measures)
        assert case.table.missing == {
            library: f"pip install {library}" for library in ("gevent", "trio") if library in case.table.missing
        }
        assert {*case.measures, *case.table.missing} >= {case.table.base, case.table.ours}
    assert any(set(case.table.missing) == {"gevent", "trio"} for case in runtime.runtime(SMOKE))


def test_import_brings_greenlet_and_nothing_else():
    assert importing.brought_along().endswith("outside the standard library: greenlet, netnet")


def test_a_module_that_cannot_be_imported():
    with pytest.raises(BenchError, match="No module named 'nonsense'"):
        importing.import_milliseconds("nonsense")
