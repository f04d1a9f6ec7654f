"""Folded stacks, which all of this package works on: each stack that was seen, from the outermost frame on, with how often.

Also read and written here is the text that flame graph tools exchange: a line a stack, frames with ``;`` between them, and
the count after a space. It has no way to write a ``;`` or a line's end within a frame: the first becomes a ``:``, the
second a space. py-spy writes the same, with a frame for the process in front, which may contain both: those frames are
dropped, so that the processes of a server fall together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Self

from netnet.errors import UsageError
from netnet.flame.frames import GROUP, TASK, label

#: root frames that differ in their numbers only are shown one by one up to so many, and else as one
ALIKE_MAX: Final = 8

#: what stands for the samples of a process in which no frame was seen
EMPTY: Final = "(no Python)"

#: in every frame of the import machinery
_IMPORTING: Final = " (<frozen importlib._bootstrap"

_PROCESS = re.compile(r'(?:^|(?<=;))process \d+:".*?"(?:;|(?= \d+$))', re.DOTALL | re.MULTILINE)
_OF_PY_SPY = re.compile(r"^(.*) \((.+?)(?::(\d+))?\)$", re.DOTALL)
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_NUMBER = re.compile(r"\d+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class Frame(NamedTuple):
    """What a frame has: samples in which it was the innermost, and samples in which it was anywhere."""

    name: str
    self_samples: int
    total_samples: int


class Stacks(dict[tuple[str, ...], int]):
    """How often each stack was seen: frames from the outermost on → samples."""

    def add(self, stack: tuple[str, ...], samples: int = 1) -> None:
        """*samples* more of this stack."""
        if samples:
            self[stack] = self.get(stack, 0) + samples

    def merge(self, other: Mapping[tuple[str, ...], int]) -> Self:
        """Adds all of *other* to these, and returns these."""
        for stack, samples in other.items():
            self.add(stack, samples)
        return self

    @property
    def total(self) -> int:
        """All samples."""
        return sum(self.values())

    def frames(self) -> list[Frame]:
        """Every frame; in a stack that has it several times (recursion) it counts once. By their own samples, most first."""
        own: dict[str, int] = defaultdict(int)
        total: dict[str, int] = defaultdict(int)
        for stack, samples in self.items():
            if stack:
                own[stack[-1]] += samples
            for name in set(stack):
                total[name] += samples
        found = [Frame(name, own[name], total[name]) for name in total]
        return sorted(found, key=lambda one: (-one.self_samples, -one.total_samples, one.name))

    def top(self, count: int) -> list[Frame]:
        """The *count* frames with the most samples of their own."""
        return self.frames()[:count]

    def settled(self) -> Stacks:
        """The same, fit to be read.

        Root frames that differ in their numbers only are one where there are many of them. Calls of the import machinery
        are left out, unless they are the innermost: there are six of them between a module and the one that it imports.
        """
        alike: dict[str, set[str]] = defaultdict(set)
        for stack in self:
            for name in stack[:2]:
                if _is_root(name):
                    alike[pattern(name)].add(name)
        many = {kind for kind, names in alike.items() if len(names) > ALIKE_MAX or kind in names}
        settled = Stacks()
        for stack, samples in self.items():
            names = [pattern(name) if _is_root(name) and pattern(name) in many else name for name in stack[:2]]
            names += stack[2:]
            settled.add((*(name for name in names[:-1] if _IMPORTING not in name), *names[-1:]), samples)
        return settled

    def text(self) -> str:
        """As folded text, sorted."""
        lines = (f"{';'.join(map(_plain, stack))} {samples}\n" for stack, samples in self.items())
        return "".join(sorted(lines))


def _is_root(name: str) -> bool:
    return name.startswith((GROUP, TASK))


def pattern(name: str) -> str:
    """*name* with an ``N`` for each number."""
    return _NUMBER.sub("N", name)


def _plain(frame: str) -> str:
    return _CONTROL.sub(" ", frame).replace(";", ":")


def parse(text: str) -> Stacks:
    """Reads folded text. Raises ``UsageError`` for a line without a count."""
    return _stacks(_lines(text))


def _lines(text: str) -> Iterator[tuple[list[str], int]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        stack, _, count = line.rstrip().rpartition(" ")
        if not (count.isascii() and count.isdigit()):
            raise UsageError(f"line {number} of folded stacks has no count at its end: {line[:80]!r}")
        yield [frame for frame in stack.split(";") if frame], int(count)


def _stacks(lines: Iterable[tuple[Iterable[str], int]]) -> Stacks:
    stacks = Stacks()
    for stack, samples in lines:
        stacks.add(tuple(stack), samples)
    return stacks


def parse_py_spy(text: str) -> Stacks:
    """Reads what ``py-spy record --format raw --full-filenames`` has written, with its frames as ``frames.label`` has them.

    Raises ``UsageError`` for a line without a count.
    """
    lines = _lines(_PROCESS.sub("", text))
    return _stacks(((_of_py_spy(frame) for frame in stack or (EMPTY,)), samples) for stack, samples in lines).settled()


def _of_py_spy(frame: str) -> str:
    found = _OF_PY_SPY.match(frame)
    if found is None:
        return frame
    name, path, line = found.groups()
    return label(_ADDRESS.sub("?", name), path, None if line is None else int(line))
