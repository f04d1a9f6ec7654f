"""Starting what is measured, pinned to a processor, and reading what it has used. Linux: it reads ``/proc``.

A program that is started leads a process group of its own, and ends with all that is in it; that group is also what is
counted where a server has several processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from netnet.bench.native import program
from netnet.errors import Error

#: a program that has not said its port by then will not
START_SECONDS = 15.0

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

_HERE = Path(__file__).parent


class BenchError(Error):
    """A program of the bench did not do what it should; the message has its last words, where they are kept."""


def processors() -> tuple[int | None, int | None]:
    """The processor of the server and that of the load; ``None`` where there are not two to choose from."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


class Process:
    """A running program, on some processors or (``None``) on any; a context manager that ends it.

    With *keep_errors* what it writes to standard error is kept for the message of a ``BenchError``, else it is dropped:
    keeping costs the program time, so it is for programs that write nothing there while they are measured.
    """

    def __init__(self, command: Sequence[str], on: Collection[int] | None = None, *, keep_errors: bool = False) -> None:
        self.command = command
        self._errors: IO[bytes] | None = None
        with contextlib.ExitStack() as undo:
            if keep_errors:
                self._errors = undo.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if self._errors is None else self._errors,
                text=True,
                process_group=0,
                preexec_fn=None if on is None else lambda: os.sched_setaffinity(0, on),
            )
            undo.pop_all()
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of the group have ended
            os.killpg(self.pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()

    def line(self) -> list[str]:
        """The words of the next line that it prints. Raises ``BenchError`` when it ends instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return line.split()

    def finish(self) -> None:
        """Waits until it has ended. Raises ``BenchError`` when its status is not 0."""
        if self._process.wait():
            raise self._failure()

    def still_runs(self, grace_seconds: float = 0.0) -> None:
        """Raises ``BenchError`` when it has ended, or ends within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
            raise self._failure()

    def _failure(self) -> BenchError:
        status = self._process.wait()
        return BenchError(f"{' '.join(self.command)} ended with status {status}{self._last_words()}")

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def tell(self, line: str) -> None:
        """Writes a line to its standard input. Raises ``BenchError`` when it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def port(self) -> int:
        """The port that it says it listens on: the first word of the form ``port N`` or ``host:N``."""
        words = self.line()
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "port":
                return int(following)
            if ":" in word and word.rstrip(",").rpartition(":")[2].isdigit():
                return int(word.rstrip(",").rpartition(":")[2])
        raise BenchError(f"{' '.join(self.command)} printed no port: {' '.join(words)}")

    def group_cpu_seconds(self) -> dict[int, float]:
        """The processor time that each process of its group has used, by process id: its own and its children's.

        Ended threads are included; it goes in steps of a clock tick (10 ms).
        """
        return {pid: _cpu_seconds(fields) for pid, fields in self._group()}

    def group_used_seconds(self, before: Mapping[int, float]) -> list[float]:
        """What each process of its group has used since it was *before*. Raises ``BenchError`` when one is gone."""
        after = self.group_cpu_seconds()
        gone = set(before) - set(after)
        if gone:
            raise BenchError(f"{' '.join(self.command)}: {len(gone)} of its processes ended while they were measured")
        return [seconds - before.get(pid, 0.0) for pid, seconds in after.items()]

    def group_resident_bytes(self) -> int:
        """The memory of its group: the proportional set size of all their pages, so that what they share counts once."""
        return sum(_resident_bytes(pid) for pid, _ in self._group())

    def _group(self) -> Iterator[tuple[int, list[str]]]:
        """The processes of its group, and their status; those that have ended and were not waited for are not told."""
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                    fields = _status(int(entry))
                    if int(fields[2]) == self.pid and fields[0] != "Z":
                        yield int(entry), fields


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise BenchError("the kernel tells no Pss")


def _status(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, which may hold anything: the state is the first (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _cpu_seconds(fields: Sequence[str]) -> float:
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _only(processor: int | None) -> set[int] | None:
    return None if processor is None else {processor}


def load(*arguments: object, on: Collection[int] | None = None) -> Process:
    """Starts the load generator, on its own processor unless *on* says others."""
    return Process([str(program("load")), *map(str, arguments)], _only(processors()[1]) if on is None else on)


def serving(command: Sequence[str], *, near_load: bool = False, on: Collection[int] | None = None) -> Process:
    """Starts a server on its own processor, unless *on* says others; with *near_load* on that of the load, for what is
    not measured."""
    return Process(command, _only(processors()[1 if near_load else 0]) if on is None else on)


def probing(command: Sequence[str], on: Collection[int] | None = None) -> Process:
    """Starts a program that is quiet on standard error, on the server's processor unless *on* says others; its last
    words there are kept."""
    return Process(command, _only(processors()[0]) if on is None else on, keep_errors=True)


def python_server(name: str, *arguments: object) -> list[str]:
    """The command of one of the programs in ``servers``. Run by its path, so that it imports only what it needs."""
    return [sys.executable, str(_HERE / "servers" / f"{name}.py"), *map(str, arguments)]


def probe(library: str, work: str, *numbers: int) -> list[str]:
    """The command that lets *library* do a *work* of ``probes``. Run by its path, as the servers are."""
    return [sys.executable, str(_HERE / "probes" / "measure.py"), library, work, *map(str, numbers)]


def window(server: Process, client: Process) -> tuple[float, list[str]]:
    """The CPU seconds of the server, with all its processes, between the load's "start" and its result, and the result's
    words. Raises ``BenchError``, also when one of the server's processes is gone."""
    client.line()
    before = server.group_cpu_seconds()
    words = client.line()
    return sum(server.group_used_seconds(before)), words


def free_port() -> int:
    """A port that nobody listens on now, for programs that cannot be told to choose one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@contextlib.contextmanager
def listening(command: Sequence[str], port: int, *, look_seconds: float = 0.05) -> Iterator[Process]:
    """Starts a server that does not say its port, and waits until it listens there: it looks every *look_seconds*.

    Raises ``BenchError`` when it does not, or ends.
    """
    with serving(command) as process:
        for _ in range(int(START_SECONDS / look_seconds)):
            with socket.socket() as attempt:
                attempt.settimeout(0.05)
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            process.still_runs(look_seconds)
        else:
            raise BenchError(f"{' '.join(command)} does not listen on port {port}")
        yield process
