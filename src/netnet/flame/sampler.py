"""The sampler as an instrument: for one run, in the program's own lines."""

from __future__ import annotations

import os
import sys
import time
from typing import Self

from netnet.errors import UsageError
from netnet.flame import writing
from netnet.flame.inside import RATE, begin, end
from netnet.flame.stacks import Stacks
from netnet.flame.starting import Started
from netnet.runtime.instruments import Instrument


class Sampler(Instrument):
    """Samples a run by task and writes a flame graph at its end: ``run(main, instruments=[Sampler("out.svg")])``.

    *path*: the file; the end of its name says the format (``.svg``, ``.html``, ``.folded``, ``.json`` for speedscope), or
    *format* does. ``None``: nothing is written; either way ``stacks`` has the samples afterwards. *rate*: samples for each
    second of processor time. Forked children, workers too, are sampled with it. It takes SIGPROF, costs nothing on the way
    of a switch, and samples one run at a time of a process, in its main thread; else the run ends with ``UsageError``.
    Lines outside ``netnet.run``, or around a loop that is driven by hand: ``with Sampler("out.svg"): ...``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        rate: float = RATE,
        title: str = "Flame graph by task",
        format: str | None = None,
    ) -> None:
        self._format = None if path is None else writing.format_of(path, format)
        self._path = path
        self._rate = rate
        self._title = title
        self._files: Started | None = None
        self._began = 0.0
        self._pid = 0
        #: what was sampled, once it has ended
        self.stacks = Stacks()

    def run_began(self) -> None:
        """Begins to sample. Raises ``UsageError`` outside the main thread, and where this process is sampled already."""
        files = Started(self._rate)
        try:
            begin(files.recorder())
        except BaseException:
            files.close()
            raise
        self._files = files
        self._pid = os.getpid()
        self._began = time.monotonic()

    def run_ended(self) -> None:
        """Ends it, and writes the file. Raises ``OSError``. Does nothing in a forked child, nor where it has not begun."""
        files, self._files = self._files, None
        if files is None or self._pid != os.getpid():
            return
        end()
        with files:
            self.stacks = files.finish()
        if self._path is not None:
            subject = " ".join(sys.argv) or "this program"
            seconds = time.monotonic() - self._began
            about = writing.About(self._title, subject, self._rate, seconds, "netnet's sampler, by task")
            writing.write(self._path, self.stacks, about, self._format)

    def __enter__(self) -> Self:
        if self._files is not None:
            raise UsageError("this sampler is at work already; make a new one")
        self.run_began()
        return self

    def __exit__(self, *_: object) -> None:
        self.run_ended()


__all__ = ["Sampler"]
