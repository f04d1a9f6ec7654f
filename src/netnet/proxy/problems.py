"""What is wrong with a configuration: where, what, and what to write instead. All of it at once, not the first only.

Passwords and hashes never get into a message: readers do not show such values, and what looks like one is blacked out
once more here, since keys and values can be mixed up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from netnet.errors import Error
from netnet.proxy.toml_lines import Path

#: what is shown of a value at most, in characters
SHOWN_MAX: Final = 60

#: what TOML calls the types that values come in
KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}

#: hashes, and what stands before the host of a URL
_SECRETS: Final = (
    (re.compile(r"\$(?:[0-9a-z]{1,3}|scrypt|argon2\w*)\$[^\s'\"]*"), "(a hash)"),
    (re.compile(r"//[^\s'\"]*@"), "//(hidden)@"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. *key* leads to it, like ``rule[2].ports``, counted from 1; *line* is ``None`` if unknown."""

    file: str
    line: int | None
    key: str
    text: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.key}: {self.text}" if self.key else f"{where}: {self.text}"


class ConfigurationError(Error):
    """The configuration cannot be used. ``problems`` has all that is wrong, in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Wrong(ValueError):
    """A value that cannot be used; the message says why and what to write instead."""


@dataclass(slots=True)
class Report:
    """Collects what is wrong with one file, and what is only questionable."""

    file: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, text: str) -> Problem:
        """One that is not collected: *text* about what *path* leads to."""
        return Problem(self.file, self.line(path), without_secrets(key_text(path)), without_secrets(text))

    def line(self, path: Path) -> int | None:
        """The line of what *path* leads to, or of the innermost that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def finish(self) -> None:
        """Raises ``ConfigurationError`` if anything is wrong."""
        if self.problems:
            raise ConfigurationError(sorted(self.problems, key=lambda problem: problem.line or 0))


@dataclass(frozen=True, slots=True)
class Place:
    """A value of the file: where it stands, and whom to tell what is wrong with it."""

    report: Report
    path: Path = ()

    def __truediv__(self, part: str | int) -> Place:
        return Place(self.report, (*self.path, part))

    def wrong(self, text: str) -> None:
        """Notes an error. Goes on, so that all of them are found."""
        self.report.problems.append(self.report.problem(self.path, text))

    def warn(self, text: str) -> None:
        """Notes what works, but is not what one should do."""
        self.report.warnings.append(self.report.problem(self.path, text))

    def read(self, reader: Callable[[Any, Place], Any], value: object, otherwise: object = None) -> Any:
        """What *reader* makes of *value*; *otherwise* if it is wrong, which is noted."""
        try:
            return reader(value, self)
        except Wrong as error:
            self.wrong(str(error))
            return otherwise


def key_text(path: Path) -> str:
    """A path as it is told: ``rule[2].ports``, counted from 1."""
    parts = (f"[{part + 1}]" if isinstance(part, int) else f".{_key(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def _key(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part)


def quoted(value: object) -> str:
    """A value as one can show it: as it is written in the file, and not too long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return KINDS[type(value)]
    if not isinstance(value, str):
        return str(value)[:SHOWN_MAX]
    if value.startswith("$") or ("://" in value and "@" in value):
        return "(hidden)"
    text = ascii(value)[1:-1] if not value.isprintable() else value
    return f'"{text}"' if len(text) <= SHOWN_MAX else f'"{text[:SHOWN_MAX]}…"'


def kind(value: object) -> str:
    """What TOML calls a value of this type."""
    return KINDS.get(type(value), "a date or a time")


def without_secrets(text: str) -> str:
    """*text* with everything blacked out that looks like a hash, or like the password of a URL."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def near_miss(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "…"?)`` if one of *known* is much like *word*, else nothing."""
    import difflib  # here, since a good file does not need it

    names = list(known)
    found = difflib.get_close_matches(word.lower(), names, 1, 0.6)
    found = found or [name for name in names if min(len(name), len(word)) > 2 and _begins(word.lower(), name)]
    return f"; did you mean {quoted(found[0])}?" if found else ""


def _begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


__all__ = [
    "ConfigurationError",
    "Path",
    "Place",
    "Problem",
    "Report",
    "Wrong",
    "key_text",
    "kind",
    "near_miss",
    "quoted",
    "without_secrets",
]
