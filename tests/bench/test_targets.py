"""Targets: which of them a table can tell of, and on which side of the limit a figure is."""

from __future__ import annotations

import re

import pytest

from netnet.bench import report
from netnet.bench.figures import Figures
from netnet.bench.targets import TARGETS, Target, measured, ratio

RELAY = "relay of bulk data, one way, one stream"
CAPACITY = "echo capacity with 100 connections, by CPU of the workers"


def relay_table(*netnet):
    return Figures(RELAY, "s", {"C splice": [1.0, 3.0, 2.0], "netnet": list(netnet)}, base="C splice")


def capacity_table(two):
    return Figures(CAPACITY, "a second", {"1 worker": [100.0], "2 workers": [two]}, ours="2 workers", higher=True)


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (relay_table(2.2), r"C splice +1\.10× +target 1\.15×: reached"),
        (relay_table(2.4), r"C splice +1\.20× +target 1\.15×: missed"),
        (capacity_table(190), r"1 worker +1\.90× +target at least 1\.7×: reached"),
        (capacity_table(160), r"1 worker +1\.60× +target at least 1\.7×: missed"),
        (Figures("2000 idle proxied connections", "kB", {"netnet": [1.5]}), r"1\.50 kB +target 2 kB: reached"),
        (
            Figures("9000 proxied connections at once, traffic on 100", "lost", {"netnet": [0]}),
            r"0\.00 lost .*: reached",
        ),
        (
            Figures("9000 proxied connections at once, traffic on 100", "lost", {"netnet": [1]}),
            r"1\.00 lost .*: missed",
        ),
    ],
)
def test_reached_and_missed(capsys, figures, told):
    report.targets([figures], print)
    assert re.search(told, capsys.readouterr().out)


@pytest.mark.parametrize(
    "figures",
    [
        Figures("what no target is about", "s", {"netnet": [1.0]}),
        Figures(RELAY, "s", {"netnet": [1.0]}),  # the peer is missing
        Figures(RELAY, "s", {"C splice": [1.0]}),
        Figures(RELAY, "s", {"C splice": [0.0], "netnet": [1.0]}),
    ],
)
def test_nothing_to_tell(capsys, figures):
    report.targets([figures], print)
    assert list(measured([figures])) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "to", "expected"),
    [(3.0, 2.0, 1.5), (0.0, 2.0, 0.0), (1.0, 0.0, None), (None, 1.0, None), (1.0, None, None)],
)
def test_ratio(value, to, expected):
    assert ratio(value, to) == expected


def test_the_limit_itself_is_good_enough():
    assert Target("t", None, 1.5).reached(1.5)
    assert Target("t", None, 1.5, at_least=True).reached(1.5)


def test_no_target_stands_twice():
    assert len({(target.table, target.peer) for target in TARGETS}) == len(TARGETS)
