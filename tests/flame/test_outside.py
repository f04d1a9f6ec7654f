"""Sampling from outside, by py-spy: a real program; and what is said where that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from netnet.errors import UsageError
from netnet.flame import outside, programs
from tests.flame.programs import BURNING, first_line, needs_proc, python, share, started

pytestmark = needs_proc


@pytest.fixture
def spy():
    """Skips where py-spy is missing, or may not look at a child of ours."""
    try:
        outside.py_spy()
        with started(["sleep", "60"]) as process:
            outside.check_rights(process.pid)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("native", [False, True])
def test_a_running_program(spy, tmp_path, native):
    (tmp_path / "program.py").write_text(textwrap.dedent(BURNING))
    with started(python(tmp_path / "program.py", 60)) as process:
        pid = int(first_line(process))
        stacks = outside.sample(pid, 0.5, native=native)
        assert share(stacks, "burn (program.py:") > 0.8
        assert any(".so" in frame or ".c:" in frame for stack in stacks for frame in stack) is native
        assert not any(str(tmp_path) in frame for stack in stacks for frame in stack)
        assert process.poll() is None


def test_it_ends_with_the_program(spy, tmp_path):
    (tmp_path / "program.py").write_text(textwrap.dedent(BURNING))
    with started(python(tmp_path / "program.py", 1.5)) as process:
        assert share(outside.sample(int(first_line(process)), 60), "burn ") > 0.5


def test_what_is_no_python(spy):
    with started(["sleep", "60"]) as process:
        with pytest.raises(UsageError, match=f"process {process.pid} is not a Python program"):
            outside.sample(process.pid, 0.1)


def test_there_is_no_such_process(spy):
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(UsageError, match=f"there is no process {ended.pid}"):
        outside.sample(ended.pid, 0.1)


@pytest.mark.parametrize("rate", [0.2, 1e6])
def test_rates_that_py_spy_does_not_have(spy, rate):
    with pytest.raises(UsageError, match="1 to 10000 times a second"):
        outside.sample(os.getpid(), 0.1, rate=rate)


def test_py_spy_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"pip install 'netnet\[bench\]'"):
        outside.py_spy()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a process that is another user's")
def test_a_process_that_must_not_be_looked_into():
    with started(["sleep", "60"]) as process:
        code = f"""
            import os
            from netnet.flame import outside
            from netnet.errors import UsageError
            os.setgid(65533); os.setuid(65533)
            try:
                outside.check_rights({process.pid})
            except UsageError as error:
                print(error)
        """
        done = subprocess.run(
            python("-c", textwrap.dedent(code)), capture_output=True, text=True, timeout=20, check=True
        )
    assert "be root" in done.stdout
    assert "ptrace_scope" in done.stdout


def test_processes():
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert child.pid in programs.descendants(os.getpid())
        about = programs.look_at(child.pid)
        assert (about.pid, about.user, about.caught, about.ended) == (child.pid, os.geteuid(), 0, False)
        assert programs.command_line(child.pid) == "sleep 60"
        assert programs.is_alive(child.pid)
    finally:
        child.kill()
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) is not None
    assert not programs.is_alive(child.pid)  # nobody has asked for its end yet
    child.wait()
    assert not programs.is_alive(child.pid)
    assert programs.command_line(child.pid) == f"process {child.pid}"
