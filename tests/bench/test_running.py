"""Running cases: peers take turns, one that fails has no more, and what a journal has is not measured again."""

from __future__ import annotations

import dataclasses

import pytest

from netnet.bench import running
from netnet.bench.figures import SMOKE, Case
from netnet.bench.journal import Journal
from netnet.bench.processes import BenchError
from tests.bench.tables import table

SIZE = dataclasses.replace(SMOKE, rounds=3)


class Watching:
    """Keeps what a watcher is told."""

    def __init__(self):
        self.turns, self.steps, self.done = [], 0, []

    def measuring(self, case, peer, number):
        self.turns.append((peer, number))

    def measured(self):
        self.steps += 1

    def case_done(self, case):
        self.done.append(case.table.title)


class Peers:
    """Peers whose samples count up; *fail* names those that cannot be measured, from a turn on."""

    def __init__(self, *names, fail=None):
        self.calls = []
        self.table = table("a case", "µs", {})
        self._fail = fail or {}
        self.case = Case(self.table, {name: lambda name=name: self._measure(name) for name in names})

    def _measure(self, name):
        self.calls.append(name)
        turn = self.calls.count(name)
        if turn >= self._fail.get(name, 100):
            raise BenchError(f"{name} ended with status 3")
        self.table.note(f"{name} says so")
        return {"figure": float(turn)}


def run(peers, folder, size=SIZE):
    watching = Watching()
    with Journal(folder, {}) as journal:
        running.run([peers.case], size, journal, watching)
    return watching


def test_peers_take_turns(tmp_path):
    peers = Peers("a", "b")
    watching = run(peers, tmp_path)
    assert peers.calls == ["a", "b"] * 3
    assert watching.turns == [(name, number) for number in (1, 2, 3) for name in ("a", "b")]
    assert watching.steps == running.count([peers.case], SIZE) == 6
    assert watching.done == ["a case"]
    assert peers.table.samples == {name: [{"figure": 1.0}, {"figure": 2.0}, {"figure": 3.0}] for name in ("a", "b")}
    assert peers.table.notes == ["a says so", "b says so"]


def test_a_case_may_have_rounds_of_its_own(tmp_path):
    peers = Peers("a")
    peers.case.rounds = 1
    assert run(peers, tmp_path).steps == 1
    assert peers.calls == ["a"]


@pytest.mark.parametrize("turn", [1, 2])
def test_one_that_fails_has_no_more_turns_and_the_others_go_on(tmp_path, turn):
    peers = Peers("a", "b", fail={"a": turn})
    watching = run(peers, tmp_path)
    assert peers.calls.count("a") == turn
    assert peers.calls.count("b") == 3
    assert watching.steps == 6
    assert peers.table.failed == {"a": "a ended with status 3"}
    assert len(peers.table.samples.get("a", [])) == turn - 1


def test_what_was_measured_is_not_measured_again(tmp_path):
    stopped = Peers("a", "b")
    run(stopped, tmp_path, dataclasses.replace(SIZE, rounds=2))
    again = Peers("a", "b")
    watching = run(again, tmp_path)
    assert again.calls == ["a", "b"]
    assert watching.steps == 6
    assert again.table.samples["a"] == [{"figure": 1.0}, {"figure": 2.0}, {"figure": 1.0}]
    assert again.table.notes == ["a says so", "b says so"]


def test_what_failed_is_tried_again(tmp_path):
    run(Peers("a", fail={"a": 1}), tmp_path)
    again = Peers("a")
    run(again, tmp_path)
    assert again.calls == ["a"] * 3


def test_only_some_peers():
    one, other = Peers("a", "b"), Peers("c")
    one.table.missing = {"d": "pip install d", "e": "pip install e"}
    kept = running.only([one.case, other.case], ["b", "e"])
    assert [list(case.measures) for case in kept] == [["b"]]
    assert one.table.missing == {"e": "pip install e"}
