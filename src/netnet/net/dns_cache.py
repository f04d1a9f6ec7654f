"""Answers that are still good: least recently used go first, and each lives as long as its servers said.

Not locked: every operation on the table is one call into the interpreter, so OS threads may share a cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: the longest that an answer is kept, whatever it says of itself (RFC 8767 speaks of a cap of days to weeks)
TTL_SECONDS_MAX: Final = 86400
#: the longest that it is remembered that there is nothing (RFC 2308, section 5: one to three hours)
NEGATIVE_SECONDS_MAX: Final = 3 * 3600


class _Kept(NamedTuple):
    since: float
    until: float
    value: object


class Cache(Generic[T]):
    """A bounded table of values that end. Instants are those of the caller's clock."""

    def __init__(self, entries_max: int) -> None:
        if entries_max < 0:
            raise ValueError(f"a cache has 0 or more entries, not {entries_max}")
        self.entries_max = entries_max
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, now: float) -> T | None:
        """The value of *key*, if it is still good at the instant *now*.

        One that was kept later than *now* is of another clock, and not good.
        """
        kept = self._kept.get(key)
        if kept is None:
            return None
        if not kept.since <= now < kept.until:
            self._kept.pop(key, None)
            return None
        try:
            self._kept.move_to_end(key)
        except KeyError:  # another thread has just dropped it
            pass
        return kept.value  # type: ignore[return-value]

    def put(self, key: Hashable, value: T, now: float, seconds: float) -> None:
        """Keeps *value* for so many seconds; not at all for 0."""
        if seconds <= 0 or not self.entries_max:
            return
        self._kept.pop(key, None)
        self._kept[key] = _Kept(now, now + seconds, value)
        while len(self._kept) > self.entries_max:
            try:
                self._kept.popitem(last=False)
            except KeyError:
                break

    def clear(self) -> None:
        """Forgets all."""
        self._kept.clear()
