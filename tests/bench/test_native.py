"""Compiling the bench's programs: once for each version of the sources, and what is told where that cannot be."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from netnet.bench import native, peers
from netnet.bench.peers import Software
from netnet.errors import UsageError

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
needs_go = pytest.mark.skipif(peers.lacking(["go"]) is not None, reason="there is no Go")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of programs, and an empty cache."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "common.h").write_text('#define TOLD "first"\n')
    (folder / "say.c").write_text('#include <stdio.h>\n#include "common.h"\nint main(void) { puts(TOLD); return 0; }\n')
    (folder / "say.go").write_text('package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("first")\n}\n')
    monkeypatch.setattr(native, "SOURCES", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def told(path):
    return subprocess.run([path], capture_output=True, text=True, check=True).stdout.strip()


@needs_cc
def test_c(sources):
    built = native.program("say")
    made = built.stat().st_mtime_ns
    assert told(built) == "first"
    assert native.program("say") == built
    assert built.stat().st_mtime_ns == made


@needs_cc
def test_a_new_version_of_any_header_is_compiled(sources):
    first = native.program("say")
    (sources / "common.h").write_text('#include "more.h"\n')
    (sources / "more.h").write_text('#define TOLD "second"\n')
    second = native.program("say")
    assert (told(first), told(second)) == ("first", "second")
    (sources / "more.h").write_text('#define TOLD "third"\n')
    assert told(native.program("say")) == "third"


@needs_go
def test_go(sources, monkeypatch):
    monkeypatch.setenv("GOFLAGS", "-no-such-flag")
    monkeypatch.setenv("GOOS", "windows")
    built = native.go_program("say")
    made = built.stat().st_mtime_ns
    assert told(built) == "first"
    assert native.go_program("say") == built
    assert built.stat().st_mtime_ns == made
    (sources / "say.go").write_text((sources / "say.go").read_text().replace("first", "second"))
    assert told(native.go_program("say")) == "second"


@needs_cc
def test_c_that_is_wrong(sources):
    (sources / "say.c").write_text("nonsense")
    with pytest.raises(UsageError, match=r"cc could not compile say\.c:\n"):
        native.program("say")


@needs_go
def test_go_that_is_wrong(sources):
    (sources / "say.go").write_text("nonsense")
    with pytest.raises(UsageError, match=r"go could not compile say\.go:\n"):
        native.go_program("say")


def test_without_a_compiler(sources, monkeypatch):
    monkeypatch.setenv("CC", "/no/such/compiler")
    with pytest.raises(UsageError, match="/no/such/compiler cannot be run: No such file or directory"):
        native.program("say")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "/no/such/folder")
    with pytest.raises(UsageError, match="needs a C compiler"):
        native.program("say")


def test_without_go(sources, monkeypatch):
    monkeypatch.setitem(peers.SOFTWARE, "go", Software("go", program="no-such-program", debian="golang-go"))
    with pytest.raises(UsageError, match=r"needs Go for its say\.go; install it: apt install golang-go"):
        native.go_program("say")


def test_a_cache_that_cannot_be(sources, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="file/netnet-bench: cannot be made: Not a directory"):
        native.program("say")
