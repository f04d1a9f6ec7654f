"""Nobody gets all of what is scarce: so many at a time for each client, the others of that client wait in line.

For what one client could otherwise use up for everybody: threads that look names up, processors that hash passwords.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator

from netnet.runtime.sync import Semaphore


class Shares:
    """*places* for each key. Keys that nobody uses take no memory."""

    __slots__ = ("_lines", "_places")

    def __init__(self, places: int) -> None:
        self._places = places
        #: the semaphore of each key in use, and how many have or want a place of it
        self._lines: dict[Hashable, tuple[Semaphore, int]] = {}

    @contextlib.contextmanager
    def of(self, key: Hashable) -> Iterator[None]:
        """``with shares.of(client):`` has a place for the lines; waits for it, first come first served. Switches tasks.

        Raises ``Cancelled``.
        """
        line, users = self._lines.get(key) or (Semaphore(self._places), 0)
        self._lines[key] = line, users + 1
        try:
            with line:
                yield
        finally:
            line, users = self._lines[key]
            if users > 1:
                self._lines[key] = line, users - 1
            else:
                del self._lines[key]
