"""The listeners of a configuration, and that nobody opens a proxy to the world by accident.

A listener is public if its address is neither loopback nor a UNIX socket, or if a load balancer brings it clients from
elsewhere (PROXY protocol). A public one asks for passwords, or the file says that it is meant to go without; and unless the
file says otherwise, it lets nobody into private networks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from netnet.kernel.address import Address, InetAddress, IPv4Address, IPv6Address, UnixAddress
from netnet.net.resolvers import current_resolver
from netnet.proxy.forms import Systemd
from netnet.proxy.keys import LISTENER, read_keys
from netnet.proxy.problems import ConfigurationError, Place, Problem, quoted
from netnet.socks.ranges import loopback
from netnet.socks.settings import Authentication, Entrance, User

DEFAULT_LISTEN: Final = "127.0.0.1:1080"

_OPEN: Final = (
    "can be reached from other machines and asks for no password; an open proxy is found and abused within hours."
    ' Set authentication = "password" and name [users], or listen on 127.0.0.1; where a firewall keeps strangers out, say'
    " public_without_authentication = true"
)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where clients come in, and how they are treated.

    Either *address* is given, or *systemd*: the name of sockets that systemd hands over (``""``: all of them). Their
    addresses are known only then, so ask ``entrance_at`` for the entrance. *deny_private* is as it was told, ``None`` if
    it was not; *entrance* has what follows from it.
    """

    address: Address | None
    systemd: str | None
    entrance: Entrance
    public_without_authentication: bool = False
    deny_private: bool | None = None
    origin: Problem = field(default=Problem("listener", None, "", ""), repr=False)  #: where it stands in the file

    def entrance_at(self, address: Address) -> Entrance:
        """The entrance for a socket of systemd that listens on *address*.

        Raises ``ConfigurationError`` if that is public and nobody has said that this is meant. Does not switch tasks.
        """
        public = self.entrance.proxy_protocol or not local(address)
        if public and not self._may_be_public:
            raise ConfigurationError([replace(self.origin, text=f"{quoted(str(address))}, from systemd, {_OPEN}")])
        return replace(self.entrance, deny_private=public if self.deny_private is None else self.deny_private)

    @property
    def _may_be_public(self) -> bool:
        return self.public_without_authentication or self.entrance.authentication == Authentication.PASSWORD


def local(address: Address) -> bool:
    """Whether only this machine can reach *address*. A name is looked up, which can switch tasks.

    Raises ``socket.gaierror`` for a name that cannot be looked up.
    """
    if isinstance(address, UnixAddress):
        return True
    if isinstance(address, (IPv4Address, IPv6Address)):
        return bool(loopback(address.packed))
    return bool(address.host) and all(map(local, _addresses(address)))


def _addresses(name: InetAddress) -> list[InetAddress]:
    entries = current_resolver().getaddrinfo(name.host, name.port, 0, socket.SOCK_STREAM)
    return [InetAddress(str(entry[4][0]), name.port) for entry in entries]


def read_listeners(place: Place, tables: Sequence[Mapping[str, Any]], users: Mapping[str, User]) -> list[Listener]:
    """The listeners that *tables* tell. What is wrong is noted. Names in addresses are looked up, which can switch tasks."""
    found = [(place / index, _listener(place / index, table, users)) for index, table in enumerate(tables)]
    good = [(where, listener) for where, listener in found if listener is not None]
    _check_unique(good, "address", address_text)
    _check_unique(good, "name", _own_name)
    _check_systemd(good)
    return [listener for _, listener in good]


def _listener(place: Place, table: Mapping[str, Any], users: Mapping[str, User]) -> Listener | None:
    before = len(place.report.problems)
    values = read_keys(place, table, LISTENER)
    sound = len(place.report.problems) == before
    address = values["address"]
    if address is None:
        return None
    authentication = Authentication(values["authentication"])
    balancers = values["proxy_protocol_from"]
    _check_authentication(place, table, authentication, users)
    public = _public(place / "address", address, balancers is not None)
    if isinstance(address, InetAddress) and balancers and "unix" in balancers:
        (place / "proxy_protocol_from").wrong('"unix" are the peers of a UNIX socket, and this listener is none')
    listener = Listener(
        address=None if isinstance(address, Systemd) else address,
        systemd=address.name if isinstance(address, Systemd) else None,
        entrance=Entrance(
            name=values["name"] or str(address),
            protocols=frozenset(values["protocols"]),
            authentication=authentication,
            proxy_protocol=balancers is not None,
            proxy_protocol_from=balancers or (),
            deny_private=public if values["deny_private"] is None else values["deny_private"],
            **{name: values[name] for name in ("advertise", "ports", "strict_udp")},
        ),
        public_without_authentication=values["public_without_authentication"],
        deny_private=values["deny_private"],
        origin=place.report.problem((*place.path, "address"), ""),
    )
    if sound and public and not isinstance(address, Systemd) and not listener._may_be_public:
        (place / "address").wrong(f"{quoted(str(address))} {_OPEN}")
    return listener


def _public(place: Place, address: Address | Systemd, balanced: bool) -> bool:
    """Whether clients come from elsewhere. Sockets of systemd are taken to be public until they are seen."""
    if isinstance(address, Systemd) or balanced:
        return True
    try:
        return not local(address)
    except (socket.gaierror, UnicodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it cannot be a host name"
        place.wrong(f"{quoted(str(address))} cannot be looked up ({told}); write an IP address")
        return False


def _check_authentication(
    place: Place, table: Mapping[str, Any], authentication: Authentication, users: Mapping[str, User]
) -> None:
    if authentication != Authentication.PASSWORD:
        return
    if not users:
        (place / "authentication").wrong('"password", but there are no [users], so nobody could come in')
    if isinstance(protocols := table.get("protocols"), list) and "socks4" in protocols:
        (place / "protocols").wrong(
            '"socks4" has no passwords, so nobody could use it here; leave it out, or set authentication = "optional"'
        )


# -- twice the same


def address_text(listener: Listener) -> str:
    """What may be there once only; ``""`` for port 0, of which the kernel makes another one each time."""
    if listener.address is None:
        return str(Systemd(listener.systemd or ""))
    return "" if isinstance(listener.address, InetAddress) and listener.address.port == 0 else str(listener.address)


def _own_name(listener: Listener) -> str:
    """The name, unless it follows from the address, of which the same is told already."""
    name = listener.entrance.name
    return "" if name in (str(listener.address), address_text(listener)) else name


def _check_unique(listeners: Sequence[tuple[Place, Listener]], key: str, value: Callable[[Listener], str]) -> None:
    first: dict[str, Place] = {}
    for place, listener in listeners:
        text = value(listener)
        if text and first.setdefault(text, place) is not place:
            (place / key).wrong(f"{quoted(text)} is taken already{_line(first[text])}")


def _check_systemd(listeners: Sequence[tuple[Place, Listener]]) -> None:
    """Notes the one that takes all sockets of systemd, if others name theirs."""
    if any(listener.systemd for _, listener in listeners):
        for place, listener in listeners:
            if listener.systemd == "":
                (place / "address").wrong(
                    '"systemd" takes all sockets, but another listener takes some by name; name them all'
                )


def _line(place: Place) -> str:
    line = place.report.line(place.path)
    return f", by the one in line {line}" if line else ""


__all__ = ["DEFAULT_LISTEN", "Listener", "address_text", "local", "read_listeners"]
