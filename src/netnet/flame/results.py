"""The counts that sampled processes have written into a folder (``inside``), put together."""

from __future__ import annotations

import os
from typing import Any, Final

from netnet.flame import private
from netnet.flame.stacks import Stacks

_ENDING: Final = ".json"


class Results:
    """Files of *folder*, a descriptor, whose names begin with *token*, by *user*."""

    def __init__(self, folder: int, token: str, user: int) -> None:
        self._folder = folder
        self._beginning = f"{token}-"
        self._user = user

    def names(self) -> list[str]:
        """The files that are there."""
        return sorted(
            name for name in os.listdir(self._folder) if name.startswith(self._beginning) and name.endswith(_ENDING)
        )

    def pids(self, *, done: bool = False) -> set[int]:
        """The processes that have begun to record, by their own numbers; *done*: those that have written their last."""
        values = map(self._read, self.names())
        return {value["pid"] for value in values if value is not None and (value["done"] or not done)}

    def stacks(self) -> Stacks:
        """What all of them have counted."""
        stacks = Stacks()
        for name in self.names():
            value = self._read(name)
            for samples, stack in () if value is None else value["stacks"]:
                stacks.add(tuple(stack), samples)
        return stacks.settled()

    def remove(self) -> None:
        """Removes the files."""
        for name in os.listdir(self._folder):
            if name.startswith(self._beginning):
                private.remove(self._folder, name)

    def _read(self, name: str) -> Any:
        value = private.read_json(self._folder, name, self._user)
        return value if _is_result(value) else None


def _is_result(value: Any) -> bool:
    """Whether it has the form that ``inside`` writes: it comes from another process, perhaps of another user."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("pid"), int)
        and isinstance(value.get("done"), bool)
        and isinstance(value.get("stacks"), list)
        and all(
            isinstance(one, list)
            and len(one) == 2
            and isinstance(one[0], int)
            and isinstance(one[1], list)
            and all(isinstance(frame, str) for frame in one[1])
            for one in value["stacks"]
        )
    )
