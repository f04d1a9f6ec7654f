"""Log lines in few system calls: the lines of one turn of the loop go out together."""

from __future__ import annotations

import contextlib
from typing import TextIO

from netnet.runtime.worker import running


class LineWriter:
    """Writes lines to *stream* at the end of the loop's turn. A stream that cannot be written to loses them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        """Takes a line, without its end. Never waits for another task."""
        self._lines.append(line)
        if len(self._lines) == 1:
            running.loop.call_soon(self._flush)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        with contextlib.suppress(OSError, ValueError):
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
