"""Who looks names up: a replaceable value. The system (the default), a table for tests, or ``dns.DnsResolver``.

A resolver has two methods in the shape of the standard library, ``getaddrinfo`` and ``getnameinfo``. All look-ups of
netnet go to the current one, which ``use_resolver`` sets for some lines and for the tasks spawned in them. IP addresses
need no resolver, and no look-up of one comes here. What netnet's own calls make of the answers is in ``resolve``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from netnet.errors import ThreadError
from netnet.net.hosts import (
    Entry,
    Found,
    Host,
    Service,
    Sockaddr,
    address_info,
    as_name,
    failure,
    is_address,
    name_info,
    table_of,
)
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.threads import to_thread
from netnet.runtime.worker import worker_or_none

T = TypeVar("T")
R = TypeVar("R", bound="Resolver")


@runtime_checkable
class Resolver(Protocol):
    """What looks names up. Both methods may switch tasks, and work outside a loop too."""

    def getaddrinfo(
        self, host: Host, service: Service, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Entry]:
        """As ``socket.getaddrinfo``: the addresses to try, in order. Raises ``socket.gaierror``."""

    def getnameinfo(self, sockaddr: Sockaddr, flags: int) -> tuple[str, str]:
        """As ``socket.getnameinfo``: the names of a host and a service. Raises ``socket.gaierror``."""


class SystemResolver:
    """Asks the system, getaddrinfo(3): in a task in an OS thread, so that other tasks run on, else directly.

    Where OS threads are forbidden or cannot be started it hands the look-up to one ``DnsResolver`` of the process, made
    with its defaults. An error of the look-up itself is raised as it is.
    """

    def getaddrinfo(
        self, host: Host, service: Service, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Entry]:
        """``socket.getaddrinfo``. Switches tasks. Raises ``socket.gaierror``, ``UnicodeError``, ``Cancelled``."""
        arguments = (host, service, family, type, proto, flags)
        look: Callable[..., list[Entry]] = socket.getaddrinfo  # type: ignore[assignment]  # its tuples are narrower
        return self.call(look, arguments, lambda: without_threads().getaddrinfo(*arguments))

    def getnameinfo(self, sockaddr: Sockaddr, flags: int) -> tuple[str, str]:
        """``socket.getnameinfo``. Switches tasks. Raises ``socket.gaierror``, ``Cancelled``."""
        arguments = (sockaddr, flags)
        return self.call(socket.getnameinfo, arguments, lambda: without_threads().getnameinfo(*arguments))

    def call(self, look: Callable[..., T], arguments: tuple[object, ...], otherwise: Callable[[], T]) -> T:
        """``look(*arguments)``, where it can block nobody else; ``otherwise()`` where no thread can be had for it."""
        if worker_or_none() is None:
            refuse_to_block()
            return look(*arguments)
        try:
            return to_thread(look, *arguments)
        except ThreadError:
            pass  # not an error of the look-up: it has not begun
        return otherwise()


class HostTable:
    """A resolver that knows what it is told, for tests: ``HostTable({"db.test": ["127.0.0.1", "::1"]})``.

    *addresses* maps names to IP addresses (or to a single one), in the order in which they shall be tried. Upper and
    lower case make no difference, nor does an end dot. The way back gives the first name of an address. Of everything
    else *otherwise*, another resolver, is asked; without one an unknown name is a ``gaierror`` (``EAI_NONAME``).
    Raises ``AddressError`` for what is no IP address. Its look-ups do not switch tasks.
    """

    def __init__(self, addresses: Mapping[str, str | Iterable[str]], otherwise: Resolver | None = None) -> None:
        if otherwise is not None and not isinstance(otherwise, Resolver):
            raise _no_resolver(otherwise)
        self._table = table_of(addresses)
        self._otherwise = otherwise

    def getaddrinfo(
        self, host: Host, service: Service, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Entry]:
        """The addresses of *host*. Raises ``socket.gaierror``; ``EAI_NODATA`` for a known name without such an address."""
        if self._otherwise is not None and host and not self._knows(host):
            return self._otherwise.getaddrinfo(host, service, family, type, proto, flags)
        return address_info(self._find, host, service, family, type, proto, flags)

    def getnameinfo(self, sockaddr: Sockaddr, flags: int) -> tuple[str, str]:
        """The first name of an address, and its service. Raises ``socket.gaierror``."""
        if self._otherwise is None:
            return name_info(self._table.name_of, sockaddr, flags)
        address = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        if self._table.name_of(address) is None:
            return self._otherwise.getnameinfo(sockaddr, flags)
        return name_info(self._table.name_of, sockaddr, flags)

    def _knows(self, host: str | bytes) -> bool:
        if is_address(host):
            return True
        try:
            return as_name(host) in self._table
        except socket.gaierror:
            return False

    def _find(self, name: str, families: tuple[int, ...]) -> Found:
        if name not in self._table:
            raise failure(socket.EAI_NONAME, name)
        return self._table.find(name, families) or Found(name, ())


_system = SystemResolver()
_current: contextvars.ContextVar[Resolver] = contextvars.ContextVar("netnet resolver", default=_system)


def current_resolver() -> Resolver:
    """The resolver that look-ups go to here: that of the innermost ``use_resolver``, else the system's."""
    return _current.get()


@contextlib.contextmanager
def use_resolver(resolver: R) -> Iterator[R]:
    """Has *resolver* look all names up in the lines of a ``with`` statement, and in the tasks that are spawned there.

    ::

        with netnet.use_resolver(netnet.HostTable({"db.test": ["127.0.0.1"]})):
            sock = netnet.connect("db.test:5432")

    Works outside a loop too. It is a context variable: other tasks and threads do not see it. Raises ``TypeError`` for
    what is no resolver. Does not switch tasks.
    """
    if not isinstance(resolver, Resolver):
        raise _no_resolver(resolver)
    token = _current.set(resolver)
    try:
        yield resolver
    finally:
        _current.reset(token)


def _no_resolver(value: object) -> TypeError:
    return TypeError(f"a resolver has the methods getaddrinfo and getnameinfo, which {value!r} has not")


@functools.cache
def without_threads() -> Resolver:
    """The resolver for where there are no OS threads: one ``DnsResolver`` a process, with its defaults."""
    from netnet.net.dns import DnsResolver

    return DnsResolver()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=without_threads.cache_clear)


__all__ = ["HostTable", "Resolver", "SystemResolver", "current_resolver", "use_resolver", "without_threads"]
