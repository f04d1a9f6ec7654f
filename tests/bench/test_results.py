"""The results of a run as a file: all that was measured comes back, and what is not such a file is told."""

from __future__ import annotations

import json
import os

import pytest

from netnet.bench import machine, peers, results
from netnet.bench.figures import Quantity, Table
from netnet.bench.peers import SOFTWARE, Software
from netnet.bench.results import Flame, Results
from netnet.errors import UsageError


def some_results():
    table = Table(
        "echo",
        "echo, 64 bytes, 1 connection",
        (Quantity("CPU", "µs"), Quantity("p99", "µs")),
        base="C epoll",
        place={"connections": 1},
        judged=("p99",),
        published={"netnet": 1.5},
    )
    table.add("netnet", {"CPU": 6.0, "p99": 80.5})
    table.missing["gevent"] = "pip install gevent"
    table.failed["trio"] = "it ended"
    return Results(
        "2030-01-01T00:00:00Z", "1.0", "quick", 7, "netnet bench run", machine.environment(), machine.description(),
        peers.versions(), [table], [Flame("the proxy", "flame.svg")],
    )  # fmt: skip


def test_round_trip(tmp_path):
    made = some_results()
    path = results.write(made, tmp_path / "new")
    assert results.read(path) == results.read(path.parent) == made
    assert [entry.name for entry in path.parent.iterdir()] == [results.NAME]


def test_nothing_in_it_names_the_machine(tmp_path):
    content = results.write(some_results(), tmp_path).read_text()
    for name in (os.uname().nodename, str(tmp_path), os.path.expanduser("~"), os.getcwd()):
        assert name not in content or len(name) < 3


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("tables"),
        lambda content: content.update(format=99),
        lambda content: content.pop("format"),
        lambda content: content.update(more=1),
        lambda content: content["tables"].append(1),
        lambda content: content["tables"][0].pop("title"),
        lambda content: content["tables"][0]["quantities"].append({"name": "x"}),
    ],
)
def test_what_is_no_results_is_told(tmp_path, change):
    path = results.write(some_results(), tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=f"{results.NAME}: no results of this bench"):
        results.read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null"])
def test_other_files_are_told(tmp_path, content):
    (tmp_path / results.NAME).write_text(content)
    with pytest.raises(UsageError, match="no results of this bench"):
        results.read(tmp_path)


def test_a_folder_without_any(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        results.read(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="choose another --out"):
        results.write(some_results(), tmp_path / "file")


# -- the software that is compared


def test_what_is_lacking_is_two_commands():
    assert peers.lacking([]) is None
    everything = peers.lacking(SOFTWARE)
    here = [name for name, one in SOFTWARE.items() if one.is_here()]
    assert everything is None or not any(f" {name} " in f"{everything} " for name in here)


def test_lacking(monkeypatch):
    absent = {
        "one": Software("one", module="no_such_module"),
        "two": Software("two", module="no_such_other"),
        "three": Software("three", program="no-such-program", debian="three-package"),
        "here": Software("pytest", module="pytest"),
    }
    monkeypatch.setattr(peers, "SOFTWARE", absent)
    assert peers.lacking(["one", "here"]) == "pip install one"
    assert peers.lacking(absent) == "pip install one two && apt install three-package"
    assert list(peers.versions()) == ["here"]


def test_a_programs_version():
    told = Software("python", program="python3", debian="python3", version_arguments=("--version",)).version()
    assert told is None or told.startswith("3.")


def test_the_machine_is_described():
    assert all(machine.description().values())
    assert "greenlet" in machine.environment()
