"""Targets: which of them a table can tell of, and on which side of the limit a figure is."""

from __future__ import annotations

import re

import pytest

from netnet.bench.report import terminal
from netnet.bench.targets import TARGETS, Target, measured, ratio
from tests.bench.tables import table, told

RELAY = "relay, one way, one stream, messages of 1 MiB"
CAPACITY = "workers, echo with 100 connections"


def relay_table(*netnet):
    return table(RELAY, "s", {"C splice": [1.0, 3.0, 2.0], "netnet": list(netnet)}, base="C splice")


def capacity_table(two):
    return table(CAPACITY, "a second", {"1 worker": [100.0], "2 workers": [two]}, ours="2 workers", higher=True)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (relay_table(2.2), r"C splice +1\.10× +target 1\.15×: reached"),
        (relay_table(2.4), r"C splice +1\.20× +target 1\.15×: missed"),
        (capacity_table(190), r"1 worker +1\.90× +target at least 1\.7×: reached"),
        (capacity_table(160), r"1 worker +1\.60× +target at least 1\.7×: missed"),
        (table("1000 idle proxied connections", "kB", {"netnet": [1.5]}), r"1\.50 kB +target 2 kB: reached"),
        (
            table("9000 proxied connections at once, traffic on 100", "lost", {"netnet": [0]}),
            r"0\.00 lost .*: reached",
        ),
        (
            table("9000 proxied connections at once, traffic on 100", "lost", {"netnet": [1]}),
            r"1\.00 lost .*: missed",
        ),
    ],
)
def test_reached_and_missed(figures, expected):
    assert re.search(expected, told(terminal.targets, [figures]))


@pytest.mark.parametrize(
    "figures",
    [
        table("what no target is about", "s", {"netnet": [1.0]}),
        table(RELAY, "s", {"netnet": [1.0]}),  # the peer is missing
        table(RELAY, "s", {"C splice": [1.0]}),
        table(RELAY, "s", {"C splice": [0.0], "netnet": [1.0]}),
    ],
)
def test_nothing_to_tell(figures):
    assert list(measured([figures])) == []
    assert told(terminal.targets, [figures]) == ""


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
