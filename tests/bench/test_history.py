"""Earlier runs: which figures are compared, when one counts as worse, what stands in a file, and which files are refused."""

from __future__ import annotations

import json
import math
import os

import pytest

from netnet.bench import history, machine
from netnet.bench.figures import FULL, QUICK
from netnet.bench.history import HistoryError, compare, course, latest, read, recorded, runs, spread, verdict, write
from netnet.bench.report import terminal
from tests.bench.tables import table, told

ECHO = "echo, 64 bytes, 100 connections"
SHARE = "time-out around a receive, of an echo round trip with 100 connections"
CAPACITY = "workers, echo with 100 connections"


def echo_table(netnet=(6.0, 6.2, 6.1), c=(4.0, 4.0, 4.0), gevent=(10.0, 10.0, 10.0)):
    samples = {"C epoll": list(c), "netnet": list(netnet), "gevent": list(gevent)}
    return table(ECHO, "µs", {peer: values for peer, values in samples.items() if values}, base="C epoll")


def share_table(*values):
    return table(SHARE, "%", {"netnet": list(values)}, base="netnet")


def capacity_table(one, two):
    samples = {"1 worker": list(one), "2 workers": list(two)}
    return table(CAPACITY, "a second", samples, base="1 worker", ours="2 workers", higher=True)


# -- the verdict


@pytest.mark.parametrize(
    ("before", "now", "low", "high", "lower_is_better"),
    [
        (1.0, 1.0, 1.0, 1.0, "same"),
        (1.0, 1.10, 1.09, 1.11, "same"),  # not more than the tolerance
        (1.0, 1.11, 1.05, 1.12, "worse"),
        (1.0, 1.11, 1.0, 1.12, "same"),  # one round was no worse than before
        (1.0, 1.11, 0.9, 1.4, "same"),  # within the spread
        (1.0, 2.0, 0.99, 3.0, "same"),
        (1.0, 0.9, 0.8, 0.95, "same"),
        (1.0, 0.89, 0.85, 0.95, "better"),
        (1.0, 0.89, 0.85, 1.0, "same"),
        (0.0, 0.0, 0.0, 0.0, "same"),
        (0.0, 1.0, 1.0, 1.0, "worse"),  # connections lost where there were none
        (0.0, 1.0, 0.0, 2.0, "same"),
        (3.0, 0.0, 0.0, 0.0, "better"),
        (-1.0, -1.0, -2.0, 0.0, "same"),  # a difference that noise has turned round
        (-1.0, 2.0, 1.0, 3.0, "worse"),
    ],
)
def test_verdict(before, now, low, high, lower_is_better):
    assert verdict(before, now, low, high) == lower_is_better
    opposite = {"same": "same", "better": "worse", "worse": "better"}
    assert verdict(before, now, low, high, higher=True) == opposite[lower_is_better]


@pytest.mark.parametrize(
    ("figures", "rival", "expected"),
    [
        (echo_table(netnet=(6.0, 9.0), c=(4.0, 4.5)), "C epoll", (1.5, 2.0)),
        (echo_table(netnet=(8.0, 2.0), c=(4.0, 0.0)), "C epoll", (2.0, 2.0)),  # a round without a figure
        (echo_table(netnet=(8.0,), c=(0.0,)), "C epoll", (-math.inf, math.inf)),
        (share_table(11.0, 9.0, 10.0), None, (9.0, 11.0)),
    ],
)
def test_spread(figures, rival, expected):
    assert spread(figures.figures(), rival) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("title", "base", "ours", "expected"),
    [
        (ECHO, "C epoll", "netnet", ["C epoll", "gevent"]),  # the base, and what a target is about
        ("echo, 64 bytes, 1 connection", "C epoll", "netnet", ["C epoll"]),
        ("2000 idle proxied connections", "microsocks", "netnet", ["microsocks"]),
        (SHARE, "netnet", "netnet", [None]),
        ("what no target is about", "netnet", "netnet", [None]),
        ("what has no base", "", "netnet", [None]),
        (CAPACITY, "1 worker", "2 workers", ["1 worker"]),
    ],
)
def test_what_is_compared(title, base, ours, expected):
    assert history.rivals(title, base, ours) == expected


# -- one run beside another


def verdicts(now, before, *, place="here", other="here"):
    found = compare(now, place, recorded(before, FULL, other))
    return {change.name: change.verdict for change in found}


C, GEVENT = f"{ECHO} against C epoll", f"{ECHO} against gevent"


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        ([echo_table()], [echo_table()], {C: "same", GEVENT: "same"}),
        # both are slower by half, as on a slower machine: nothing has changed
        ([echo_table((9, 9.3, 9.15), (6, 6, 6), (15, 15, 15))], [echo_table()], {C: "same", GEVENT: "same"}),
        ([echo_table((7.2, 7.4, 7.3))], [echo_table()], {C: "worse", GEVENT: "worse"}),
        ([echo_table((5.0, 5.2, 5.1))], [echo_table()], {C: "better", GEVENT: "better"}),
        # only gevent has become faster
        ([echo_table(gevent=(8, 8, 8))], [echo_table()], {C: "same", GEVENT: "worse"}),
        ([echo_table(gevent=())], [echo_table()], {C: "same", GEVENT: "gone"}),
        ([echo_table()], [echo_table(gevent=())], {C: "same", GEVENT: "new"}),
        ([echo_table(gevent=())], [echo_table(gevent=())], {C: "same"}),
        ([echo_table()], [], {C: "new", GEVENT: "new"}),
        ([], [echo_table()], {}),  # a family that was not asked for
        ([share_table(10, 11, 12)], [share_table(9)], {SHARE: "worse"}),
        ([share_table(8, 11, 12)], [share_table(9)], {SHARE: "same"}),
        ([capacity_table([100], [190])], [capacity_table([50], [95])], {f"{CAPACITY} against 1 worker": "same"}),
        ([capacity_table([100], [150])], [capacity_table([50], [95])], {f"{CAPACITY} against 1 worker": "worse"}),
        ([capacity_table([100], [195])], [capacity_table([50], [75])], {f"{CAPACITY} against 1 worker": "better"}),
    ],
)
def test_compare(now, before, expected):
    assert verdicts(now, before) == expected


def test_only_ratios_are_compared_with_another_environment():
    found = verdicts([echo_table(), share_table(20)], [echo_table(), share_table(10)], place="here", other="there")
    assert found == {C: "same", GEVENT: "same", SHARE: "not compared"}


def test_what_is_gone_says_why():
    now = echo_table(gevent=())
    now.missing["gevent"] = "pip install gevent"
    (_, gone) = compare([now], "", recorded([echo_table()], FULL, ""))
    assert gone.why == ": gevent is missing: pip install gevent"


def test_changes_are_told():
    run = recorded([echo_table(), share_table(9)], FULL, "an environment")
    text = told(terminal.changes, compare([echo_table((7.2, 7.4, 7.3))], "", run), run, "a.json")
    assert f"since a.json ({run.made}; an environment)" in text
    assert f"{C:76}    1.52 →    1.82  worse\n" in text
    assert "it has none of these figures" in told(terminal.changes, [], run, "a.json")


# -- the course


def test_course():
    first, second = (
        recorded([echo_table()], FULL, "one"),
        recorded([echo_table((8, 8, 8)), share_table(9)], FULL, "two"),
    )
    assert course([first, second]) == {
        C: pytest.approx([1.525, 2.0]),
        GEVENT: pytest.approx([0.61, 0.8]),
        SHARE: [None, 9.0],
    }
    quick = recorded([share_table(7)], QUICK, "three")
    text = told(terminal.history, [("a.json", first), ("b.json", quick), ("c.json", second)])
    assert "size full, 2 runs\n   1  a.json  one\n   2  c.json  two\n" in text
    assert f"{SHARE:76}       –       9\n" in text
    assert "size quick, 1 runs\n   1  b.json  three\n" in text
    assert f"{SHARE:76}       7\n" in text


def test_a_long_course_shows_the_last_runs():
    count = terminal.COURSE_RUNS + 5
    text = told(terminal.history, [(f"{n}.json", recorded([share_table(n)], FULL, "")) for n in range(count)])
    assert f"{count} runs, the last {terminal.COURSE_RUNS}" in text
    assert " 4.json" not in text
    assert " 5.json" in text


# -- files


def test_round_trip(tmp_path):
    run = recorded(
        [echo_table(), share_table(9.87654321), capacity_table([1e5], [2e5])], FULL, "µ-kernel 1, 2 processors"
    )
    path = write(run, tmp_path)
    assert path.name.startswith(run.made[:10] + "-")
    assert path.suffix == ".json"
    assert read(path) == run
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert run.tables[1].medians == {"netnet": 9.87654}
    assert run.tables[0].ratios == {"C epoll": 1.0, "netnet": 1.525, "gevent": 2.5}


def test_figures_without_ratio_are_kept(tmp_path):
    lost = table("9000 proxied connections at once, traffic on 100", "lost", {"netnet": [0.0]}, base="netnet")
    run = recorded([lost], FULL, "")
    assert read(write(run, tmp_path)) == run
    assert (run.tables[0].medians, run.tables[0].ratios) == ({"netnet": 0.0}, {})


def test_nothing_in_a_file_names_the_machine(tmp_path):
    content = write(recorded([echo_table()], FULL, machine.environment()), tmp_path).read_text()
    for name in (os.uname().nodename, str(tmp_path), os.path.expanduser("~"), os.getcwd()):
        assert name not in content or len(name) < 3


def made_at(folder, made, size=FULL, value=1.0):
    run = recorded([share_table(value)], size, "")
    return write(history.Run(made, run.environment, run.size, run.tables), folder)


def test_the_latest_is_the_one_that_was_made_last(tmp_path):
    made_at(tmp_path, "2030-01-02T10:00:00Z", value=1)
    last = made_at(tmp_path, "2030-01-02T11:00:00Z", value=2)
    made_at(tmp_path, "2029-12-31T23:59:59Z", value=3)
    made_at(tmp_path, "2031-01-01T00:00:00Z", QUICK)
    (tmp_path / "README.md").write_text("no run")
    where, run = latest(tmp_path, FULL)
    assert where == last.name
    assert run == read(last)
    assert [found.made[:4] for _, found in runs(tmp_path)] == ["2029", "2030", "2030", "2031"]


def test_there_may_be_none(tmp_path):
    assert latest(tmp_path, FULL) is None
    assert latest(tmp_path / "missing", FULL) is None
    made_at(tmp_path, "2031-01-01T00:00:00Z", QUICK)
    assert latest(tmp_path, FULL) is None


def changed(**entries):
    content = {"format": 1, "made": "2030-01-01T00:00:00Z", "environment": "e", "size": "full", "tables": [], **entries}
    return json.dumps({name: value for name, value in content.items() if value is not None})


def with_table(**entries):
    one = {"title": "t", "unit": "u", "base": "b", "ours": "o", "higher": False, "medians": {}, "ratios": {}, **entries}
    return changed(tables=[{name: value for name, value in one.items() if value is not None}])


@pytest.mark.parametrize(
    "content", [changed(), with_table(), with_table(medians={"o": 1, "b": 2.5}), changed() + "\n\n"]
)
def test_files_that_are_read(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    assert read(path).size == "full"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("[]", "an object was expected where 'format' should be"),
        ("null", "an object was expected"),
        ("\udcff", "codec can't decode"),
        ("[" * 100_000, ""),
        (" " * (history.FILE_BYTES_MAX + 1), "larger than"),
        (changed(format=None), "'format' is missing or not what it should be"),
        (changed(format=True), "'format' is missing"),
        (changed(format=2), "its format is 2, this bench reads 1"),
        (changed(made="yesterday"), "yesterday"),
        (changed(made="2030-1-1T0:0:0Z"), "is not of the form"),
        (changed(made=5), "'made' is missing"),
        (changed(environment="\x1b[2J"), "'environment' is missing or not what it should be"),
        (changed(environment="a\nb"), "'environment' is missing or not what it should be"),
        (changed(environment=None), "'environment' is missing"),
        (changed(size=["full"]), "'size' is missing"),
        (changed(tables={}), "'tables' is missing"),
        (changed(tables=["t"]), "an object was expected where 'title' should be"),
        (changed(tables=json.loads(with_table())["tables"] * 2), "two tables have the same title"),
        (with_table(title=None), "'title' is missing"),
        (with_table(higher=0), "'higher' is missing"),
        (with_table(medians=[1]), "'medians' is missing"),
        (with_table(medians={"o": "1"}), "'medians' is missing"),
        (with_table(medians={"o": True}), "'medians' is missing"),
        (with_table(medians={"o": math.nan}), "'medians' is missing"),
        (with_table(ratios={"o": math.inf}), "'ratios' is missing"),
        (with_table(medians={"o": 10**400}), "too large"),
        (with_table(medians={"\x07": 1}), "'medians' is missing"),
    ],
)
def test_files_that_are_refused(tmp_path, content, told):
    path = tmp_path / "a.json"
    path.write_text(content, errors="surrogateescape")
    for refused in (lambda: read(path), lambda: latest(tmp_path, FULL)):
        with pytest.raises(HistoryError) as error:
            refused()
        message = str(error.value)
        assert message.startswith(f"{path}: no run of this bench: ")
        assert told in message
        assert "\n" not in message


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(HistoryError, match=r"missing\.json: cannot be read: No such file"):
        read(tmp_path / "missing.json")
    with pytest.raises(HistoryError, match="cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(HistoryError, match="cannot be written: No such file"):
        write(recorded([], FULL, ""), tmp_path / "missing")


def test_the_folder_is_made(tmp_path):
    assert history.prepared(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="file: cannot be made: File exists"):
        history.prepared(tmp_path / "file")
