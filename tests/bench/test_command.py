"""``python -m netnet.bench``: what it refuses, what it compares with, what it saves, and its status. Nothing is measured:
the families are stand-ins."""

from __future__ import annotations

import dataclasses

import pytest

from netnet.bench import __main__ as command
from netnet.bench import figures, history
from netnet.bench.families import FAMILIES
from netnet.bench.figures import Figures
from netnet.bench.processes import BenchError

TITLE = "echo, 64 bytes, 1 connection"


@pytest.fixture
def family(monkeypatch):
    """Replaces the families by one, ``echo``, that gives the ratios in the list that it returns."""
    ratios = [1.5]

    def echo(size, progress):
        progress("at it")
        return [
            Figures(
                TITLE, "µs", {"C epoll": [4.0] * len(ratios), "netnet": [4.0 * one for one in ratios]}, base="C epoll"
            )
        ]

    monkeypatch.setattr(command, "FAMILIES", {"echo": echo})
    monkeypatch.setattr(command, "raise_descriptor_limit", lambda: 0)
    return ratios


@pytest.fixture
def bench(tmp_path):
    return lambda *arguments: command.main([*arguments, "--folder", str(tmp_path)])


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "no such family: nonsense; there are: echo"),
        (["--quick", "--smoke"], "not allowed with"),
        (["--smoke", "--save"], "--smoke only tells that it runs"),
        (["--smoke", "--strict"], "--smoke only tells that it runs"),
        (["--smoke", "--against", "x"], "--smoke only tells that it runs"),
        (["--history", "--save"], "--history measures nothing"),
        (["--history", "echo"], "--history measures nothing"),
        (["--against"], "expected one argument"),
    ],
)
def test_what_is_refused(capsys, arguments, told):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


def test_every_family_is_in_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in FAMILIES)


def test_the_first_run_has_nothing_to_compare_with(bench, family, tmp_path, capsys):
    assert bench("--strict") == 0
    told = capsys.readouterr().out
    assert f"no earlier run of size full in {tmp_path} to compare with" in told
    assert TITLE in told
    assert files(tmp_path) == []


def test_a_saved_run_is_what_the_next_compares_with(bench, family, tmp_path, capsys):
    assert bench("--save") == 0
    (name,) = files(tmp_path)
    assert f"saved {tmp_path / name}" in capsys.readouterr().out
    assert bench() == 0
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
    assert bench("--save") == 0
    capsys.readouterr()
    family[:] = ratios
    assert bench(*(["--strict"] if strict else [])) == status
    assert f"  {told}\n" in capsys.readouterr().out


def test_what_is_worse_can_be_saved(bench, family, tmp_path):
    bench("--save")
    family[:] = [3.0]
    assert bench("--save", "--strict") == 3
    assert len(files(tmp_path)) == 2


def test_runs_of_another_size_are_not_compared(bench, family, capsys):
    bench("--quick", "--save")
    capsys.readouterr()
    assert bench() == 0
    assert "no earlier run of size full" in capsys.readouterr().out


def test_against_a_file(bench, family, tmp_path, capsys):
    run = history.recorded(command.FAMILIES["echo"](figures.FULL, str), figures.FULL, "elsewhere")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = history.write(run, elsewhere)
    family[:] = [3.0]
    assert bench("--against", str(path), "--strict") == 3
    assert f"since {path.name} ({run.made}; elsewhere)" in capsys.readouterr().out
    assert bench("--against", str(path), "--quick") == 2
    assert capsys.readouterr().err == f"netnet.bench: {path}: a run of size full; this one is quick\n"


@pytest.mark.parametrize("arguments", [[], ["--save"], ["--history"], ["--strict", "--quick"]])
def test_a_file_that_cannot_be_read_is_one_line_before_anything_is_measured(bench, family, tmp_path, capsys, arguments):
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert bench(*arguments) == 2
    out, err = capsys.readouterr()
    assert err == f"netnet.bench: {broken}: no run of this bench: 'format' is missing or not what it should be\n"
    assert out == ""


def test_a_folder_that_cannot_be_made_is_told_first(family, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command.main(["--save", "--folder", str(tmp_path / "file" / "below")]) == 2
    out, err = capsys.readouterr()
    assert "cannot be made" in err
    assert out == ""


def test_smoke_compares_nothing_and_needs_no_folder(bench, family, tmp_path, capsys):
    (tmp_path / "broken.json").write_text("{}")
    assert bench("--smoke") == 0
    assert "since" not in capsys.readouterr().out


def test_a_program_that_fails_ends_the_run(bench, monkeypatch, family, tmp_path, capsys):
    def failing(size, progress):
        raise BenchError("a program ended with status 1")

    monkeypatch.setattr(command, "FAMILIES", {"echo": command.FAMILIES["echo"], "failing": failing})
    assert bench("--save") == 1
    out, err = capsys.readouterr()
    assert err == "netnet.bench: failing: a program ended with status 1\n"
    assert TITLE in out
    assert files(tmp_path) == []


def test_history(bench, family, tmp_path, capsys):
    assert bench("--history") == 0
    assert f"no run in {tmp_path}; --save writes one" in capsys.readouterr().out
    bench("--save")
    family[:] = [1.6]
    bench("--save", "--quick")
    capsys.readouterr()
    bench("--history")
    told = capsys.readouterr().out
    assert "size full, 1 runs" in told
    assert "size quick, 1 runs" in told
    bench("--history", "--quick")
    told = capsys.readouterr().out
    assert "size full" not in told
    assert f"{TITLE + ' against C epoll':76}     1.6\n" in told


def test_sizes_have_names_of_their_own():
    sizes = [figures.FULL, figures.QUICK, figures.SMOKE]
    assert len({size.name for size in sizes}) == 3
    assert all(value for size in sizes for value in dataclasses.asdict(size).values())
