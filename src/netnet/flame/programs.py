"""Processes as /proc tells of them: who descends from whom, which signals they handle, whose they are. See proc(5)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from netnet.errors import UsageError


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as it was a moment ago."""

    pid: int
    #: its number in its own name space
    own_pid: int
    #: the effective one
    user: int
    #: the signals that it has handlers for, a bit each
    caught: int
    ended: bool

    def catches(self, number: int) -> bool:
        """Whether it has a handler for this signal."""
        return bool(self.caught >> (number - 1) & 1)


def look_at(pid: int) -> Process:
    """The process with this number. Raises ``UsageError`` where there is none, or no /proc."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except (FileNotFoundError, ProcessLookupError):
        hint = "" if os.path.isdir("/proc/self") else " to be seen: sampling needs /proc"
        raise UsageError(f"there is no process {pid}{hint}") from None
    own = fields.get("NSpid", str(pid)).split()[-1]
    ended = fields["State"].split()[0] in ("Z", "X")
    return Process(pid, int(own), int(fields["Uid"].split()[1]), int(fields["SigCgt"], 16), ended)


def is_alive(pid: int) -> bool:
    """Whether it has not ended; one whose end nobody has asked for yet has."""
    try:
        return not look_at(pid).ended
    except UsageError:
        return False


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b") ")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pile = [pid]
    while pile:
        own = children.get(pile.pop(), [])
        found += own
        pile += own
    return found


def command_line(pid: int) -> str:
    """What a process was started with, or its number where that cannot be told."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
    except OSError:
        words = []
    text = " ".join(word.decode("utf-8", "replace") for word in words)
    return text or f"process {pid}"
