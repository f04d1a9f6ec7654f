"""Sampling a running Python program from outside, whole: py-spy (extra ``bench``) does it, and this runs py-spy.

It sees every process and thread and, with *native*, C code; it does not see which green thread runs, since to it they are
one. It samples what is on a processor; what waits costs nothing and is not in the graph.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from netnet.errors import UsageError
from netnet.flame import programs
from netnet.flame.inside import RATE
from netnet.flame.stacks import Stacks, parse_py_spy

#: what py-spy says once it samples
_BEGUN: Final = "Sampling process"

#: so long a process may take until there is Python in it
START_SECONDS: Final = 5.0
#: so long py-spy may take to write down what it has; native frames are looked up then
WRITE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01

#: what py-spy says where it finds no Python
_NO_PYTHON: Final = ("no python processes", "failed to find", "failed to get python", "failed to locate")


def py_spy() -> str:
    """The path of py-spy. Raises ``UsageError`` where it is not installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    found = beside if os.access(beside, os.X_OK) else shutil.which("py-spy")
    if found is None:
        raise UsageError("py-spy is not installed, which samples whole processes: pip install 'netnet[bench]'")
    return found


def check_rights(pid: int) -> None:
    """Raises ``UsageError`` where the memory of process *pid* must not be read, which is what py-spy does; or no process."""
    programs.look_at(pid)
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        raise UsageError(
            f"process {pid} must not be looked into: be root; for a process of your own 'sysctl -w"
            " kernel.yama.ptrace_scope=0' allows it, in a container the capability SYS_PTRACE. --by-task needs no such right"
        ) from None
    except OSError:  # it has ended just now
        raise UsageError(f"there is no process {pid}") from None


class Recording:
    """py-spy at work on the process *pid* and its children, from now on until ``finish``.

    *rate*: samples a second; *seconds*: it ends by itself a while after that, if nobody ends it. With *starting* the
    process may take a moment until it has become a Python program. Raises ``UsageError`` where py-spy is missing, may not
    look at the process, or finds no Python in it.
    """

    def __init__(
        self,
        pid: int,
        rate: float = RATE,
        *,
        native: bool = False,
        seconds: float | None = None,
        starting: bool = False,
    ) -> None:
        check_rights(pid)
        whole = round(rate)
        if not 1 <= whole <= 10_000:
            raise UsageError(f"py-spy samples 1 to 10000 times a second, not {rate:g}")
        self._command = [py_spy(), "record", "--pid", str(pid), "--rate", str(whole)]
        self._command += ["--format", "raw", "--full-filenames", "--function", "--subprocesses"]
        self._command += ["--native"] if native else []
        self._command += [] if seconds is None else ["--duration", str(int(seconds + WRITE_SECONDS))]
        self.pid = pid
        self._folder = tempfile.mkdtemp(prefix="netnet-flame-")
        self._out = Path(self._folder, "out")
        self._said = Path(self._folder, "said")
        self._spy: subprocess.Popen[bytes] | None = None
        try:
            limit = time.monotonic() + START_SECONDS
            while not self._begin():
                if not starting or not programs.is_alive(pid) or time.monotonic() > limit:
                    raise UsageError(self._failure())
        except BaseException:
            self._close()
            raise

    def _begin(self) -> bool:
        """Starts py-spy; whether it has come to sampling."""
        with self._said.open("wb") as said:
            # a session of its own: Ctrl-C is for this process, which decides what it means
            self._spy = subprocess.Popen(
                [*self._command, "--output", str(self._out)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        while self._spy.poll() is None:
            if _BEGUN in self._told():
                return True
            time.sleep(LOOK_SECONDS)
        return self._spy.returncode == 0

    def _told(self) -> str:
        return self._said.read_text(encoding="utf-8", errors="replace")

    def _failure(self) -> str:
        told = self._told()
        if not programs.is_alive(self.pid):
            return f"process {self.pid} ended before it could be sampled"
        if any(phrase in told.lower() for phrase in _NO_PYTHON):
            return f"process {self.pid} is not a Python program that can be sampled"
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        return f"py-spy failed: {lines[0] if lines else 'it said nothing'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to sample: the process has ended."""
        return self._spy is None or self._spy.poll() is not None

    def finish(self) -> Stacks:
        """Ends the sampling, and returns what was sampled. To be called once. Raises ``UsageError`` when py-spy failed."""
        spy = self._spy
        assert spy is not None
        try:
            if spy.poll() is None:
                spy.send_signal(signal.SIGINT)
            try:
                spy.wait(WRITE_SECONDS)
            except subprocess.TimeoutExpired:
                raise UsageError(f"py-spy did not come to an end within {WRITE_SECONDS:g} s") from None
            if not self._out.exists():
                raise UsageError(self._failure())
            return parse_py_spy(self._out.read_text(encoding="utf-8", errors="replace"))
        finally:
            self._close()

    def _close(self) -> None:
        spy, self._spy = self._spy, None
        if spy is not None and spy.poll() is None:
            spy.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                spy.wait(WRITE_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)


def sample(pid: int, seconds: float, *, native: bool = False, rate: float = RATE) -> Stacks:
    """Samples the running process *pid* and its children for so many seconds, or until it ends.

    *native*: with frames of C code. *rate*: samples a second. Blocks. Raises ``UsageError`` as ``Recording`` does.
    """
    with Recording(pid, rate, native=native, seconds=seconds) as recording:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not recording.ended:
            time.sleep(min(0.05, max(0.0, limit - time.monotonic())))
        return recording.finish()
