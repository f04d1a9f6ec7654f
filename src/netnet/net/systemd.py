"""Being a service of systemd: the sockets that it hands over, telling it how things are, and its watchdog.

It needs no library: sockets are descriptors from 3 on, described by environment variables (sd_listen_fds(3)); notices
are datagrams to the socket that ``NOTIFY_SOCKET`` names (sd_notify(3)); the watchdog is two variables
(sd_watchdog_enabled(3)). Where no service manager is, the functions say so by what they return.

A notice is sent at once, so it neither switches tasks nor is stopped by a cancellation: "stopping" is what a server says
when it was cancelled. Only when the manager's queue is full is it tried again, a few times. Not here: handing
descriptors to the manager's store, which needs one that outlives the process.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from errno import EAGAIN
from typing import Final

from netnet.errors import UsageError
from netnet.net.sockets import Socket
from netnet.net.waiting import NOSIGNAL, UNIX
from netnet.runtime.api import sleep
from netnet.runtime.scope import shield
from netnet.runtime.worker import running, worker_or_none

log = logging.getLogger("netnet")

#: ``SD_LISTEN_FDS_START``
FIRST_DESCRIPTOR: Final = 3

#: as many as the manager would hand over at most; keeps a nonsense number from being tried out
DESCRIPTORS_MAX: Final = 65536

#: what the manager reads of one notice; it drops the rest
NOTICE_BYTES_MAX: Final = 4096

#: when the manager's queue is full: pauses before trying again, in seconds
PAUSES: Final = (0.01, 0.03, 0.1, 0.3, 0.5)

_LISTEN: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_CONNECTED: Final = (socket.SOCK_STREAM, getattr(socket, "SOCK_SEQPACKET", -1))


def inherited_sockets(*, unset: bool = True) -> dict[str, list[Socket]]:
    """The sockets that systemd has handed over, by name (``FileDescriptorName=``, else the unit's), in its order.

    Empty where there are none for this process. Sockets without a name are called ``"unknown"``. They are not
    inherited by child programs, and non-blocking for everybody who has them. Listeners, datagram sockets and, with
    ``Accept=yes``, connections come alike; family and type are asked of the kernel. *unset* takes the variables
    away, so that children do not take them for theirs; a second call then returns nothing.

    Raises ``UsageError`` for variables that make no sense, and for a descriptor that is not open, no socket, or bound
    without listening; nothing has changed then. Does not switch tasks. See sd_listen_fds(3), systemd.socket(5).
    """
    found: dict[str, list[Socket]] = {}
    for fd, name in list(_handed_over()):
        sock = Socket(fileno=fd)
        os.set_inheritable(fd, False)
        sock._descriptor.twins = True  # the manager has it, too
        found.setdefault(name, []).append(sock)
    if unset:
        for variable in _LISTEN:
            os.environ.pop(variable, None)
    return found


def _handed_over() -> Iterator[tuple[int, str]]:
    """Number and name of each descriptor, looked at before anything is done with the first."""
    if _number("LISTEN_PID", 1) != os.getpid():
        return
    count = _number("LISTEN_FDS", 0, DESCRIPTORS_MAX) or 0
    listed = os.environ.get("LISTEN_FDNAMES")
    names = ["unknown"] * count if listed is None else listed.split(":") if listed or count else []
    if len(names) != count:
        raise UsageError(f"LISTEN_FDS is {count}, but LISTEN_FDNAMES has {len(names)} names: {listed!r}")
    for fd, name in enumerate(names, FIRST_DESCRIPTOR):
        _check(fd, name)
        yield fd, name


def _check(fd: int, name: str) -> None:
    what = f"descriptor {fd} ({name!r} of LISTEN_FDNAMES)"
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        raise UsageError(f"LISTEN_FDS promises {what}, which cannot be used: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{what} is no socket; of ListenFIFO= and the like, nothing can be made here")
    probe = socket.socket(fileno=fd)
    try:
        if probe.type in _CONNECTED and not probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            try:
                probe.getpeername()
            except OSError:
                raise UsageError(f"{what} is neither listening nor connected") from None
    finally:
        probe.detach()


def _number(variable: str, least: int, most: int = 2**64 - 1) -> int | None:
    """The value of an environment variable; ``None`` where it is not set or empty."""
    text = os.environ.get(variable)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise UsageError(f"{variable} is {text!r}, which is not a number from {least} to {most}")
    return int(text)


# -- telling


def notify(
    *,
    ready: bool = False,
    reloading: bool = False,
    stopping: bool = False,
    status: str | None = None,
    errno: int | None = None,
    exit_status: int | None = None,
    mainpid: int | None = None,
    watchdog: bool | str = False,
    watchdog_usec: int | None = None,
    extend_timeout_usec: int | None = None,
) -> bool:
    """Tells the service manager how this service is; true when it was told, false where there is none to tell.

    - *ready*: it has started, or has reloaded. *reloading*: it has begun to reload (say *ready* when through).
      *stopping*: it has begun to end.
    - *status*: one line for ``systemctl status``. *errno*, *exit_status*: why it failed.
    - *mainpid*: the process number of the service, where that is not the one that was started.
    - *watchdog*: it is alive; ``"trigger"``: it is not, act. *watchdog_usec*: the interval from now on, in microseconds.
    - *extend_timeout_usec*: starting, reloading or stopping takes so many microseconds more, from now.

    The unit needs ``Type=notify`` (or ``NotifyAccess=``). That the manager is away or does not listen is logged once
    for each reason, and never raised. Raises ``ValueError`` for what cannot be said, ``UsageError`` for a
    ``NOTIFY_SOCKET`` that is no UNIX socket. Does not switch tasks, unless the manager's queue is full: then it tries
    for a second, cancelled or not. See sd_notify(3).
    """
    if watchdog not in (False, True, "trigger"):
        raise ValueError(f"watchdog is True, False or 'trigger', not {watchdog!r}")
    lines = [
        *_line("READY", 1 if ready else None),
        *_line("RELOADING", 1 if reloading else None),
        *_line("MONOTONIC_USEC", time.monotonic_ns() // 1000 if reloading else None),
        *_line("STOPPING", 1 if stopping else None),
        *_line("STATUS", status),
        *_line("ERRNO", errno),
        *_line("EXIT_STATUS", exit_status),
        *_line("MAINPID", mainpid),
        *_line("WATCHDOG", int(watchdog) if watchdog is True else watchdog or None),
        *_line("WATCHDOG_USEC", watchdog_usec),
        *_line("EXTEND_TIMEOUT_USEC", extend_timeout_usec),
    ]
    if not lines:
        raise ValueError("notify() without anything to say; see its parameters")
    notice = "\n".join(lines).encode("utf-8", "surrogateescape")
    if len(notice) > NOTICE_BYTES_MAX:
        raise ValueError(f"a notice of {len(notice)} bytes; the service manager reads {NOTICE_BYTES_MAX}")
    path = os.environ.get("NOTIFY_SOCKET")
    return bool(path) and _tell(_address(path or ""), notice)


def _line(name: str, value: int | str | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{name}={value}: it cannot be negative")
    if isinstance(value, str) and ("\n" in value or "\0" in value):
        raise ValueError(f"{name} is one line, not {value!r}")
    return [f"{name}={value}"]


def _address(path: str) -> str:
    """What to send to. A name in the abstract space is written with ``@``."""
    if path.startswith("/") and UNIX >= 0:
        return path
    if path.startswith("@") and len(path) > 1 and UNIX >= 0:
        return "\0" + path[1:]
    raise UsageError(f"NOTIFY_SOCKET is {path!r}; netnet tells UNIX sockets only: /path or @name")


def _tell(address: str, notice: bytes) -> bool:
    try:
        with socket.socket(UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            _send(sock, notice)
    except OSError as error:
        _warn_once(error.strerror or str(error))
        return False
    return True


def _send(sock: socket.socket, notice: bytes) -> None:
    for pause in PAUSES:
        try:
            sock.send(notice, NOSIGNAL)
        except BlockingIOError:  # its queue is full, and the kernel does not tell when there is room
            _pause(pause)
        else:
            return
    sock.send(notice, NOSIGNAL)


def _pause(seconds: float) -> None:
    if worker_or_none() is not None:
        with shield():
            sleep(seconds)
    elif getattr(running, "loop", None) is None:
        time.sleep(seconds)
    else:  # in a callback of the loop, which must not wait
        raise BlockingIOError(EAGAIN, "its queue is full")


_warned: set[str] = set()


def _warn_once(reason: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        log.warning("the service manager at %s cannot be told: %s", os.environ.get("NOTIFY_SOCKET"), reason)


# -- the watchdog


def watchdog_seconds() -> float | None:
    """Within how many seconds ``notify(watchdog=True)`` has to be said again; ``None`` where nobody waits for it.

    Say it twice as often. Raises ``UsageError`` for variables that make no sense. See sd_watchdog_enabled(3).
    """
    usec = _number("WATCHDOG_USEC", 1)
    pid = _number("WATCHDOG_PID", 1)
    if usec is None or pid not in (None, os.getpid()):
        return None
    return usec / 1e6


__all__ = ["inherited_sockets", "notify", "watchdog_seconds"]
