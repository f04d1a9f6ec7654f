"""Starting what is measured, pinned to a processor, and reading what it has used. Linux: it reads ``/proc``."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from netnet.bench.native import program
from netnet.errors import Error

#: a program that has not said its port by then will not
START_SECONDS = 15.0

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class BenchError(Error):
    """A program of the bench did not do what it should; the message has its last words."""


def processors() -> tuple[int | None, int | None]:
    """The processor of the server and that of the load; ``None`` where there are not two to choose from."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


class Process:
    """A running program; a context manager that ends it."""

    def __init__(self, command: Sequence[str], processor: int | None) -> None:
        self.command = command
        pin = (lambda: os.sched_setaffinity(0, {processor})) if processor is not None else None
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=pin
        )
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()

    def line(self) -> list[str]:
        """The words of the next line that it prints. Raises ``BenchError`` when it ends instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{' '.join(self.command)} ended with status {self._process.wait()}")
        return line.split()

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def port(self) -> int:
        """The port that it says it listens on: the first word of the form ``port N`` or ``host:N``."""
        words = self.line()
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "port":
                return int(following)
            if ":" in word and word.rstrip(",").rpartition(":")[2].isdigit():
                return int(word.rstrip(",").rpartition(":")[2])
        raise BenchError(f"{' '.join(self.command)} printed no port: {' '.join(words)}")

    def cpu_seconds(self) -> float:
        """The processor time that it has used, ended threads included; in steps of a clock tick (10 ms)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Its memory: the proportional set size of all its pages."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise BenchError("the kernel tells no Pss")


def load(*arguments: object) -> Process:
    """Starts the load generator."""
    return Process([str(program("load")), *map(str, arguments)], processors()[1])


def serving(command: Sequence[str], *, near_load: bool = False) -> Process:
    """Starts a server on its own processor; with *near_load* on that of the load, for what is not measured."""
    return Process(command, processors()[1 if near_load else 0])


def python_server(name: str, *arguments: object) -> list[str]:
    """The command of one of the programs in ``servers``. Run by its path, so that it imports only what it needs."""
    return [sys.executable, str(Path(__file__).parent / "servers" / f"{name}.py"), *map(str, arguments)]


def free_port() -> int:
    """A port that nobody listens on now, for programs that cannot be told to choose one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def listening(command: Sequence[str], port: int) -> Iterator[Process]:
    """Starts a server that does not say its port, and waits until it listens there."""
    with serving(command) as process:
        for _ in range(int(START_SECONDS / 0.05)):
            with socket.socket() as probe:
                probe.settimeout(0.05)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise BenchError(f"{' '.join(command)} does not listen on port {port}")
        yield process
