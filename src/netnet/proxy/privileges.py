"""Who the workers are: another user than root, if the service was started as root. Not here: capabilities and sandboxes,
which whoever starts the service sets up better (see ``packaging/netnet.service``).

The supervisor stays who it was, to be able to open the sockets of a new configuration. It serves nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from netnet.errors import UsageError

#: prctl(2): from then on no execve(2) gives more rights, so that nobody comes back to root by a program
_PR_SET_NO_NEW_PRIVS: Final = 38


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and groups."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def become(self) -> None:
        """Makes this process theirs, for good. Raises ``OSError``."""
        prctl = _prctl()  # first, since they may not be able to read Python's library
        if os.geteuid() == 0:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        if os.getresuid() != (self.uid,) * 3 or os.getresgid() != (self.gid,) * 3:
            raise PermissionError(f"this process is not {self.user}, although it should be")
        if prctl is not None:
            prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def identity(user: str | None, group: str | None) -> Identity | None:
    """Who *user* and *group* are; ``None`` to stay who we are. Raises ``UsageError`` for unknown ones, and for those that
    this process cannot become."""
    if user is None and group is None:
        return None
    import grp
    import pwd

    try:
        entry = pwd.getpwuid(os.getuid()) if user is None else pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"there is no user {user!r} on this machine") from None
    try:
        gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {group!r} on this machine") from None
    if os.geteuid() != 0 and (entry.pw_uid, gid) != (os.geteuid(), os.getegid()):
        raise UsageError(f"only root can become user {entry.pw_name!r}; start as root, or leave user and group out")
    return Identity(entry.pw_name, entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)))


def _prctl() -> Callable[..., object] | None:
    """prctl(2), on Linux where Python has ctypes. Elsewhere it has to do without: workers start no programs anyhow."""
    try:
        import ctypes  # here, since few programs need it, and it takes long

        function: Callable[..., object] = ctypes.CDLL(None).prctl
    except (ImportError, AttributeError, OSError):
        return None
    return function
