"""Names to addresses. What is an IP address already is taken as it is; names go to ``getaddrinfo`` in an OS thread."""

from __future__ import annotations

import socket
from typing import NamedTuple

from netnet.runtime.threads import to_thread
from netnet.runtime.worker import worker_or_none


class Resolved(NamedTuple):
    """One address that can be connected to: the family, and the address in the form that the family's sockets take."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]


def numeric(host: str, port: int) -> Resolved | None:
    """*host* when it is an IP address; ``None`` for a name, and for what needs a look (a scoped IPv6 address)."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        pass
    else:
        return Resolved(socket.AF_INET, (host, port))
    if ":" in host and "%" not in host:
        try:
            socket.inet_pton(socket.AF_INET6, host)
        except OSError:
            return None
        return Resolved(socket.AF_INET6, (host, port, 0, 0))
    return None


def resolve(
    host: str, port: int, *, family: int = 0, type: int = socket.SOCK_STREAM, passive: bool = False
) -> list[Resolved]:
    """Every address of *host*, in the order in which the system would have them tried (RFC 6724).

    *family* restricts it to one (``AF_INET``, ``AF_INET6``). *passive*: for listening; an empty host is every
    interface. Switches tasks for a name; outside a loop it blocks. Raises ``socket.gaierror`` when there is none,
    ``UnicodeError`` for what cannot be a name, ``Cancelled``. See getaddrinfo(3).
    """
    known = numeric(host, port)
    if known is not None and family in (0, known.family):
        return [known]
    flags = socket.AI_PASSIVE if passive else 0
    arguments = (host or None, port, family, type, 0, flags)
    found = socket.getaddrinfo(*arguments) if worker_or_none() is None else to_thread(socket.getaddrinfo, *arguments)
    return [Resolved(entry[0], entry[4]) for entry in found]  # type: ignore[arg-type]
