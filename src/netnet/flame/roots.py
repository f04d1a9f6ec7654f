"""The root frames of a sample: which task ran, and the group that it belongs to.

Groups have no names, so one is called after the task whose lines have opened it. A task without a name of its own is
called after its function, without its number, so that a thousand connections fall together. Given names are kept;
addresses in them are not, and where many differ in their numbers only they fall together as well.
"""

from __future__ import annotations

import re
from typing import Any, Final

from netnet.flame.frames import GROUP, NO_GROUP, TASK
from netnet.flame.stacks import ALIKE_MAX, pattern
from netnet.runtime.group import TaskGroup
from netnet.runtime.task import Task

_ADDRESS: Final = re.compile(
    r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # 192.0.2.1:80
    r"|\[[0-9a-fA-F:.]+(?:%\w+)?\](?::\d+)?"  # [2001:db8::1]:80
    r"|(?<![\w:])[0-9a-fA-F]{0,4}:[0-9a-fA-F]{0,4}:[0-9a-fA-F:.]*"  # 2001:db8::1
)


def without_addresses(name: str) -> str:
    """*name* with ``ADDRESS`` in place of each IP address, and of its port."""
    return _ADDRESS.sub("ADDRESS", name)


class Roots:
    """Makes root frames, and sees to it that there are not too many: what differs in numbers only is one after a while."""

    def __init__(self) -> None:
        self._alike: dict[str, set[str]] = {}

    def of(self, task: Task[Any]) -> tuple[str, str]:
        """The two root frames of *task*. From other OS threads, too, while the task goes on."""
        parent = task.parent
        owner = parent.owner if isinstance(parent, TaskGroup) else None
        group = NO_GROUP if owner is None else f"{GROUP}{self._name(owner)}"
        return group, f"{TASK}{self._name(task)}"

    def _name(self, task: Task[Any]) -> str:
        given = task._name
        if not given:
            return task.name.removesuffix(f"-{task.number}")
        name = without_addresses(given)
        kind = pattern(name)
        alike = self._alike.setdefault(kind, set())
        if len(alike) <= ALIKE_MAX:
            alike.add(name)
        return name if len(alike) <= ALIKE_MAX else kind
