"""Results as files: which formats there are, which one a file's name asks for, and writing one whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netnet.errors import UsageError
from netnet.flame import page, speedscope, svg
from netnet.flame.stacks import Stacks


@dataclass(frozen=True, slots=True)
class About:
    """What was sampled, and how: for titles and headings."""

    title: str
    #: the command line, or the process
    subject: str
    #: samples a second
    rate: float
    #: for so long, in seconds
    seconds: float
    sampler: str

    def facts(self, stacks: Stacks) -> Iterator[tuple[str, str]]:
        """The same, and how many samples there are, as names and values to show."""
        yield "Sampled", self.subject
        yield "By", self.sampler
        yield "Samples", f"{stacks.total:,}, at {self.rate:g} Hz"
        yield "Duration", f"{self.seconds:.1f} s"

    def line(self, stacks: Stacks) -> str:
        """The same in one line."""
        return f"{self.subject} · {stacks.total:,} samples, {self.rate:g} Hz, in {self.seconds:.1f} s · {self.sampler}"


def _svg(stacks: Stacks, about: About) -> str:
    return svg.render(stacks, about.title, about.line(stacks))


def _html(stacks: Stacks, about: About) -> str:
    return page.render(stacks, about.title, about.facts(stacks))


def _folded(stacks: Stacks, about: About) -> str:
    return stacks.text()


def _speedscope(stacks: Stacks, about: About) -> str:
    return speedscope.render(stacks, about.title, about.rate)


#: format → what makes its text
FORMATS: Final[dict[str, Callable[[Stacks, About], str]]] = {
    "svg": _svg,
    "html": _html,
    "folded": _folded,
    "speedscope": _speedscope,
}

#: the end of a file's name → the format that it asks for
SUFFIXES: Final = {
    ".svg": "svg",
    ".html": "html",
    ".htm": "html",
    ".folded": "folded",
    ".txt": "folded",
    ".json": "speedscope",
}


def format_of(path: str | os.PathLike[str], wanted: str | None = None) -> str:
    """*wanted*, or the format that the name of *path* asks for.

    Raises ``UsageError`` where there is none, and where nothing can be written there, so that it is said before sampling.
    """
    out = Path(path)
    found = wanted or SUFFIXES.get(out.suffix.lower())
    if found is None:
        endings = ", ".join(SUFFIXES)
        raise UsageError(
            f"{out}: the name says no format; let it end in one of {endings}, or give one of {', '.join(FORMATS)}"
        )
    if found not in FORMATS:
        raise UsageError(f"there is no format {found!r}; there are {', '.join(FORMATS)}")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file in it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}")
    return found


def write(path: str | os.PathLike[str], stacks: Stacks, about: About, wanted: str | None = None) -> None:
    """Writes *stacks* to the file *path*. Raises ``UsageError`` as ``format_of`` does, and where it cannot be written."""
    text = FORMATS[format_of(path, wanted)](stacks, about)
    try:
        _write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{os.fspath(path)} cannot be written: {error.strerror}") from None


def _write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file so that who reads it meanwhile finds the old one or the new one. Raises ``OSError``."""
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe is written to
        Path(path).write_text(text, encoding="utf-8", errors="replace")
        return
    beside = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        Path(beside).write_text(text, encoding="utf-8", errors="replace")
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def table(stacks: Stacks, count: int) -> str:
    """The top frames as lines: the share of samples in which a frame was innermost, and anywhere."""
    total = max(1, stacks.total)
    lines = ["   self   total  frame"]
    lines += [
        f"{100 * one.self_samples / total:5.1f} % {100 * one.total_samples / total:5.1f} %  {one.name}"
        for one in stacks.top(count)
    ]
    return "\n".join(lines)
