"""``netnet bench``: what it refuses, what it writes, how it goes on, what it compares with and saves, and its status.

Nothing is measured: the families are stand-ins.
"""

from __future__ import annotations

import json
import re
import signal

import pytest

from netnet.bench import commands, history, machine
from netnet.bench.families import FAMILIES, Family
from netnet.bench.figures import FULL, Case
from netnet.bench.processes import BenchError
from netnet.cli import main as cli
from tests.bench.tables import table

TITLE = "echo, 64 bytes, 1 connection"


class Stand:
    """What the stand-in family *echo* gives: for each round the ratio to C, or the error that it raises."""

    def __init__(self):
        self.ratios = [1.5]
        self.calls = 0

    def netnet(self):
        ratio = self.ratios[self.calls % len(self.ratios)]
        self.calls += 1
        if isinstance(ratio, BaseException):
            raise ratio
        return {"figure": 4.0 * ratio}

    def cases(self, size):
        made = table(TITLE, "µs", {}, base="C epoll", subject="echo", place={"connections": 1})
        made.missing["gevent"] = "pip install gevent"
        return [Case(made, {"C epoll": lambda: {"figure": 4.0}, "netnet": self.netnet}, len(self.ratios))]


@pytest.fixture
def family(monkeypatch):
    """Replaces the families by one."""
    stand = Stand()
    there = {"echo": Family("echo servers", stand.cases)}
    monkeypatch.setattr(commands, "FAMILIES", there)
    monkeypatch.setattr(commands, "cases", lambda names, size: stand.cases(size) if "echo" in names else [])
    monkeypatch.setattr(commands, "raise_descriptor_limit", lambda: 0)
    return stand


@pytest.fixture
def bench(tmp_path, monkeypatch, fonts):
    """Runs the command in a folder of its own; results go to ``netnet-bench`` there, the history to ``bench/history``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: cli.main(["bench", *arguments])


def saved(folder):
    return sorted(path.name for path in (folder / history.FOLDER).glob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--quick", "--smoke"], "not allowed with"),
        (["run", "--against"], "expected one argument"),
        (["run", "--seed", "x"], "invalid int value"),
        ([], "required: COMMAND"),
        (["fly"], "invalid choice"),
    ],
)
def test_what_is_no_command(bench, capsys, arguments, told):
    with pytest.raises(SystemExit) as stop:
        bench(*arguments)
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "nonsense"], "no such family: nonsense; there are: echo"),
        (["run", "--smoke", "--save"], "--smoke only tells that it runs"),
        (["run", "--smoke", "--strict"], "--smoke only tells that it runs"),
        (["run", "--smoke", "--against", "x"], "--smoke only tells that it runs"),
        (["run", "--peers", "netnet,nobody"], "no such peer: nobody; there are: C epoll, netnet, gevent"),
        (["run", "--only", "nothing"], "no case has 'nothing' in its title"),
        (["run", "--against", "missing.json"], "missing.json: cannot be read"),
        (["report", "missing"], "missing: cannot be read"),
    ],
)
def test_what_is_refused(bench, family, capsys, arguments, told):
    assert bench(*arguments) == 1
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""
    assert family.calls == 0


def test_the_extra_is_named_where_it_is_missing(bench, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench("list") == 1
    assert "the bench needs rich and matplotlib: pip install 'netnet[bench]'" in capsys.readouterr().err


def test_list_tells_every_family(bench, capsys):
    assert bench("list") == 0
    told = capsys.readouterr().out
    for name, one in FAMILIES.items():
        assert re.search(rf"^{name} +{re.escape(one.about)}$", told, re.MULTILINE)


def test_every_title_is_one_of_its_own():
    titles = [case.table.title for one in FAMILIES.values() for case in one.cases(FULL)]
    assert len(set(titles)) == len(titles)
    for name, one in FAMILIES.items():
        assert {case.table.family for case in one.cases(FULL)} == {name}


def test_a_run_writes_its_report(bench, family, tmp_path, capsys):
    assert bench("run", "--out", "here", "--seed", "5") == 0
    told = capsys.readouterr().out
    assert TITLE in told
    assert "the report: here/report.html, here/report.md, here/results.json" in told
    found = json.loads((tmp_path / "here" / "results.json").read_text())
    assert found["seed"] == 5
    assert found["command"] == "netnet bench run --seed 5"
    assert found["tables"][0]["samples"] == {"C epoll": [{"figure": 4.0}], "netnet": [{"figure": 6.0}]}
    for name in ("report.md", "report.html"):
        text = (tmp_path / "here" / name).read_text()
        assert TITLE in text
        assert "pip install gevent" in text
    assert not (tmp_path / "here" / "samples.jsonl").exists()


def test_the_report_can_be_written_anew(bench, family, tmp_path, capsys):
    bench("run", "--out", "here")
    (tmp_path / "here" / "report.md").unlink()
    assert bench("report", "here") == 0
    assert TITLE in capsys.readouterr().out
    assert TITLE in (tmp_path / "here" / "report.md").read_text()


def test_a_run_that_was_stopped_goes_on(bench, family, tmp_path, capsys):
    family.ratios = [1.5, KeyboardInterrupt(), 2.0]
    assert bench("run") == 130
    assert "the same command goes on where it was" in capsys.readouterr().out
    family.ratios[1] = 1.0
    family.calls = 1
    assert bench("run") == 0
    assert "going on with a run that was stopped: 3 are there" in capsys.readouterr().out
    found = json.loads((tmp_path / "netnet-bench" / "results.json").read_text())
    assert found["tables"][0]["samples"]["netnet"] == [{"figure": 6.0}, {"figure": 4.0}, {"figure": 8.0}]


def test_a_run_of_another_size_does_not_go_on(bench, family, capsys):
    family.ratios = [KeyboardInterrupt()]
    bench("run")
    assert bench("run", "--quick") == 1
    assert "an unfinished run with another size; --fresh discards it" in capsys.readouterr().err
    family.ratios = [1.0]
    assert bench("run", "--quick", "--fresh") == 0
    assert bench("run") == 1
    assert "has the results of another run (quick" in capsys.readouterr().err


def test_runs_of_the_same_kind_add_to_a_folder(bench, family, tmp_path, monkeypatch):
    bench("run")
    other = Case(table("another case", "µs", {}), {"netnet": lambda: {"figure": 1.0}})
    monkeypatch.setattr(commands, "cases", lambda names, size: [other])
    assert bench("run") == 0
    found = json.loads((tmp_path / "netnet-bench" / "results.json").read_text())
    assert {one["title"] for one in found["tables"]} == {TITLE, "another case"}


def test_only_some_peers(bench, family, tmp_path):
    assert bench("run", "--peers", "netnet, gevent") == 0
    (found,) = json.loads((tmp_path / "netnet-bench" / "results.json").read_text())["tables"]
    assert set(found["samples"]) == {"netnet"}
    assert found["missing"] == {"gevent": "pip install gevent"}


def test_only_some_peers_do_not_replace_a_whole_run(bench, family, tmp_path, capsys):
    bench("run")
    before = (tmp_path / "netnet-bench" / "results.json").read_bytes()
    assert bench("run", "--peers", "netnet") == 1
    assert "--peers would take the others' figures out of them; --out chooses another" in capsys.readouterr().err
    assert (tmp_path / "netnet-bench" / "results.json").read_bytes() == before
    assert bench("run", "--peers", "netnet", "--fresh") == 0


def test_a_failure_of_ours_is_the_status_and_the_report_is_written(bench, family, tmp_path, capsys):
    family.ratios = [BenchError("it ended with status 9")]
    assert bench("run") == 1
    assert f"netnet failed in: {TITLE}: it ended with status 9" in capsys.readouterr().out
    assert "it ended with status 9" in (tmp_path / "netnet-bench" / "report.md").read_text()


# -- the history


def test_a_saved_run_is_what_the_next_compares_with(bench, family, tmp_path, capsys):
    assert bench("run", "--save") == 0
    (name,) = saved(tmp_path)
    assert f"saved {history.FOLDER / name}" in capsys.readouterr().out
    assert bench("run") == 0
    told = capsys.readouterr().out
    assert f"since {name}" in told
    assert "1.5 →     1.5  same" in told


@pytest.mark.parametrize(
    ("ratios", "strict", "status", "told"),
    [
        ([1.7, 1.8, 1.9], True, 3, "worse"),
        ([1.7, 1.8, 1.9], False, 0, "worse"),
        ([1.4, 1.8, 1.9], True, 0, "same"),
        ([1.55, 1.6, 1.62], True, 0, "same"),
        ([1.0, 1.1, 1.2], True, 0, "better"),
    ],
)
def test_status(bench, family, capsys, ratios, strict, status, told):
    assert bench("run", "--save") == 0
    capsys.readouterr()
    family.ratios, family.calls = ratios, 0
    assert bench("run", *(["--strict"] if strict else [])) == status
    assert f"  {told}\n" in capsys.readouterr().out


def test_what_is_worse_can_be_saved(bench, family, tmp_path):
    bench("run", "--save")
    family.ratios = [3.0]
    assert bench("run", "--save", "--strict") == 3
    assert len(saved(tmp_path)) == 2


def test_runs_of_another_size_are_not_compared(bench, family, capsys):
    bench("run", "--quick", "--save", "--out", "quick")
    capsys.readouterr()
    assert bench("run") == 0
    assert "since" not in capsys.readouterr().out


def test_against_a_file(bench, family, tmp_path, capsys):
    (case,) = family.cases(FULL)
    case.table.add("C epoll", {"figure": 4.0})
    case.table.add("netnet", {"figure": 6.0})
    run = history.recorded([case.table], FULL, "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    path = history.write(run, tmp_path / "elsewhere")
    family.ratios = [3.0]
    assert bench("run", "--against", str(path), "--strict") == 3
    assert f"since {path.name} ({run.made}; elsewhere)" in capsys.readouterr().out
    assert bench("run", "--against", str(path), "--quick", "--out", "quick") == 1
    assert f"{path}: a run of size full; this one is quick" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run"], ["run", "--save"], ["history"], ["run", "--strict"]])
def test_a_file_that_cannot_be_read_is_one_line_before_anything_is_measured(bench, family, tmp_path, capsys, arguments):
    (tmp_path / history.FOLDER).mkdir(parents=True)
    (tmp_path / history.FOLDER / "broken.json").write_text("{}")
    assert bench(*arguments) == 1
    out, err = capsys.readouterr()
    assert err.endswith("broken.json: no run of this bench: 'format' is missing or not what it should be\n")
    assert out == ""


def test_a_folder_that_cannot_be_made_is_told_first(bench, family, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert bench("run", "--save", "--folder", "file/below") == 1
    out, err = capsys.readouterr()
    assert "cannot be" in err
    assert out == ""


def test_history(bench, family, capsys):
    assert bench("history") == 0
    assert "no run in bench/history; --save writes one" in capsys.readouterr().out
    bench("run", "--save")
    family.ratios = [1.6]
    bench("run", "--save", "--quick", "--out", "quick")
    capsys.readouterr()
    bench("history")
    told = capsys.readouterr().out
    assert "size full, 1 runs" in told
    assert "size quick, 1 runs" in told
    bench("history", "--quick")
    told = capsys.readouterr().out
    assert "size full" not in told
    assert f"{TITLE + ' against C epoll':76}     1.6\n" in told


def test_the_environment_names_what_figures_hang_on():
    assert re.search(r"\d+ processors; greenlet \d", machine.environment())


def test_sigterm_is_as_it_was_before(bench, capsys):
    before = signal.getsignal(signal.SIGTERM)
    bench("list")
    assert signal.getsignal(signal.SIGTERM) == before
