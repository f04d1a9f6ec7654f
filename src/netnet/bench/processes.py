"""Starting what is measured, pinned to a processor, and reading what it has used. Linux: it reads ``/proc``.

A program that is started leads a process group of its own, and ends with all that is in it. What is counted where a server
has several processes is that group, and all that descend from it: some servers give their children groups of their own.
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

#: between the moment a server's connections are gone and the moment its end can be seen
GRACE_SECONDS = 1.0

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

_HERE = Path(__file__).parent


class BenchError(Error):
    """A program of the bench did not do what it should; the message has its last words, where they are kept."""


def said(command: Sequence[str]) -> str:
    """A command as a message has it: without the folders of its programs and files, which are this machine's affair."""
    return " ".join(os.path.basename(word) if os.path.isabs(word) else word for word in command)


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
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL if self._errors is None else self._errors,
                    text=True,
                    process_group=0,
                    preexec_fn=None if on is None else lambda: os.sched_setaffinity(0, on),
                )
            except OSError as error:
                raise BenchError(f"{os.path.basename(command[0])} cannot be started: {error.strerror}") from None
            undo.pop_all()
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        for pid, _fields in list(self._group()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
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
        return BenchError(f"{said(self.command)} ended with status {status}{self._last_words()}")

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
        raise BenchError(f"{said(self.command)} printed no port: {' '.join(words)}")

    def group_cpu_seconds(self) -> dict[int, float]:
        """The processor time that each process of its group has used itself, by process id.

        Ended threads are included; it goes in steps of a clock tick (10 ms).
        """
        return {pid: _cpu_seconds(fields) for pid, fields in self._group()}

    def group_used_seconds(self, before: Mapping[int, float]) -> list[float]:
        """What each process of its group has used since it was *before*. Raises ``BenchError`` when one is gone."""
        after = self.group_cpu_seconds()
        gone = set(before) - set(after)
        if gone:
            raise BenchError(f"{said(self.command)}: {len(gone)} of its processes ended while they were measured")
        return [seconds - before.get(pid, 0.0) for pid, seconds in after.items()]

    def total_cpu_seconds(self) -> float:
        """The processor time of all its group, with those that have ended and were waited for by others of it."""
        return sum(_cpu_seconds(fields, ended=True) for _, fields in self._group())

    def group_resident_bytes(self) -> int:
        """The memory of its group: the proportional set size of all their pages, so that what they share counts once."""
        return sum(_resident_bytes(pid) for pid, _ in self._group())

    def group_peak_bytes(self) -> int:
        """The most memory that the processes of its group have had, each at its own time; shared pages count in each."""
        return sum(_peak_bytes(pid) for pid, _ in self._group())

    def _group(self) -> Iterator[tuple[int, list[str]]]:
        """The processes of its group and their descendants, and their status; those that have ended are not told."""
        members = {self.pid}
        for pid, fields in sorted(_all_processes(), key=_age):
            if int(fields[_GROUP]) == self.pid or int(fields[_PARENT]) in members:
                members.add(pid)
                if fields[0] != "Z":
                    yield pid, fields


#: the places of fields of ``/proc/PID/stat`` behind the name
_PARENT, _GROUP, _STARTED = 1, 2, 19


def _age(process: tuple[int, list[str]]) -> tuple[int, int]:
    """Sorts parents before their children."""
    return int(process[1][_STARTED]), process[0]


def _all_processes() -> Iterator[tuple[int, list[str]]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                yield int(entry), _status(int(entry))


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise BenchError("the kernel tells no Pss")


def _status(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, which may hold anything: the state is the first (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _cpu_seconds(fields: Sequence[str], *, ended: bool = False) -> float:
    """What a process has used; with *ended* also what those of its children had that it has waited for."""
    return sum(map(int, fields[11 : 15 if ended else 13])) / _TICKS


def _only(processor: int | None) -> set[int] | None:
    return None if processor is None else {processor}


def load(*arguments: object, on: Collection[int] | None = None) -> Process:
    """Starts the load generator, on its own processor unless *on* says others; its last words are kept."""
    command = [str(program("load")), *map(str, arguments)]
    return Process(command, _only(processors()[1]) if on is None else on, keep_errors=True)


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
    words. Raises ``BenchError``, also when the server has ended."""
    try:
        client.line()
        before = server.total_cpu_seconds()
        words = client.line()
    except BenchError:
        server.still_runs(GRACE_SECONDS)  # if it is the server that failed, that is what to tell
        raise
    server.still_runs()
    return server.total_cpu_seconds() - before, words


def free_port() -> int:
    """A port that nobody listens on now, for programs that cannot be told to choose one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
