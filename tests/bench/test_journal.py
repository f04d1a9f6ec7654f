"""The journal of a run: what is kept when a run is stopped, and what is refused."""

from __future__ import annotations

import pytest

from netnet.bench.journal import NAME, Journal
from netnet.errors import UsageError

HEADER = {"size": {"rounds": 3, "echo": (1, 2)}, "environment": "here"}
KEY = ("echo, 1 connection", "netnet", 1)
OTHER = ("echo, 1 connection", "netnet", 2)


def written(folder, *keys):
    with Journal(folder, HEADER) as journal:
        for key in keys:
            journal.put(key, {"CPU": 1.5}, ["a note"])
    return folder / NAME


def test_what_was_measured_is_there_again(tmp_path):
    written(tmp_path / "new" / "folder", KEY)
    with Journal(tmp_path / "new" / "folder", HEADER) as journal:
        assert len(journal) == 1
        assert journal.get(KEY) == ({"CPU": 1.5}, ["a note"])
        assert journal.get(OTHER) is None


def test_a_run_goes_on_more_than_once(tmp_path):
    written(tmp_path, KEY)
    written(tmp_path, OTHER)
    with Journal(tmp_path, HEADER) as journal:
        assert len(journal) == 2


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_line_that_was_not_finished_is_dropped(tmp_path, cut):
    path = written(tmp_path, KEY, OTHER)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    written(tmp_path, OTHER)
    assert path.read_bytes() == content


def test_nothing_of_an_empty_file_is_kept(tmp_path):
    (tmp_path / NAME).write_text('{"size"')
    with Journal(tmp_path, HEADER) as journal:
        assert len(journal) == 0
    assert written(tmp_path, KEY).read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({**HEADER, "environment": "there"}, "another environment; --fresh discards it, --out"),
        ({"size": 1}, "another environment, size;"),
    ],
)
def test_a_run_of_another_kind_does_not_go_on(tmp_path, header, told):
    path = written(tmp_path, KEY)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=told):
        Journal(tmp_path, header)
    assert path.read_bytes() == before
    with Journal(tmp_path, header, fresh=True) as journal:
        assert len(journal) == 0


@pytest.mark.parametrize("content", ["hello\n", '{"a": 1}\n[]\n', '{"a": 1}\n{"title": 1}\n', "\x00\n", "[1]\n[2]\n"])
def test_what_is_no_journal_is_told(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(UsageError, match="--fresh discards it"):
        Journal(tmp_path, {"a": 1})


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be used for the results: .*; choose another --out"):
        Journal(tmp_path / "file", HEADER)


def test_one_that_is_finished_is_gone(tmp_path):
    with Journal(tmp_path, HEADER) as journal:
        journal.put(KEY, {"CPU": 1.0}, [])
        journal.finished()
    assert not (tmp_path / NAME).exists()
