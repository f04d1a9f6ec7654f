"""In which line of a TOML document something stands: what ``tomllib`` does not tell.

It reads documents that ``tomllib`` has accepted, so it checks nothing; of values it looks only for the end. A path is what
leads to a value in the result of ``tomllib``: keys, and indexes of arrays. Of a table that is written in several places
(``[a]``, then ``[a.b]``) the first counts. See https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from typing import Final

#: keys and indexes, from the outside in
Path = tuple[str | int, ...]

#: between statements, and within arrays: white space, line ends, comments
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
#: quotation marks at the end of a long string may belong to it: up to two
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
#: a number, a date, a boolean: what ends before the next mark
_OTHER: Final = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1 on, of each key, table and array element of *text*, a document that ``tomllib`` accepts."""
    return _Scanner(text).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.ends = [match.start() for match in re.finditer("\n", text)]
        self.found: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}  #: arrays of tables: how many there are so far

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.statement(table)
            self.skip(_BLANK)
        return self.found

    def header(self) -> Path:
        start = self.at
        several = self.text.startswith("[[", start)
        self.at += 1 + several
        keys = self.keys()
        self.at += 1 + several
        path = self.inside((), keys[:-1], start) + keys[-1:]
        self.note(path, start)
        if several:
            index = self.counts[path] = self.counts.get(path, -1) + 1
            path = (*path, index)
            self.note(path, start)
        return path

    def inside(self, path: Path, keys: Path, start: int) -> Path:
        """The table that *keys* lead to: of an array of tables, its last one."""
        for key in keys:
            path = (*path, key)
            self.note(path, start)
            if path in self.counts:
                path = (*path, self.counts[path])
        return path

    def statement(self, table: Path) -> None:
        start = self.at
        keys = self.keys()
        path = self.inside(table, keys[:-1], start) + keys[-1:]
        self.note(path, start)
        self.at += 1  # the equals sign
        self.value(path)

    def keys(self) -> Path:
        """A key with its dots, and the space around it."""
        keys: list[str] = []
        while True:
            self.skip(_SPACE)
            keys.append(self.key())
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(keys)
            self.at += 1

    def key(self) -> str:
        start = self.at
        if self.text[start] in "\"'":
            self.skip(_STRING)
            return str(tomllib.loads(f"key = {self.text[start : self.at]}")["key"])
        self.skip(_BARE)
        return self.text[start : self.at]

    def value(self, path: Path) -> None:
        self.skip(_SPACE)
        first = self.text[self.at]
        if first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        elif first in "\"'":
            self.skip(_STRING)
        else:
            self.skip(_OTHER)

    def array(self, path: Path) -> None:
        index = 0
        while self.more("]"):
            self.note((*path, index), self.at)
            self.value((*path, index))
            index += 1

    def inline_table(self, path: Path) -> None:
        while self.more("}"):
            self.statement(path)

    def more(self, end: str) -> bool:
        """Goes to the next element, over the opening bracket or the comma; false when it has gone over *end*."""
        self.skip(_BLANK)
        if self.text[self.at] != end:
            self.at += 1
            self.skip(_BLANK)
        if self.text[self.at] != end:
            return True
        self.at += 1
        return False

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def note(self, path: Path, at: int) -> None:
        self.found.setdefault(path, bisect_left(self.ends, at) + 1)


__all__ = ["Path", "lines_of"]
