"""What a server is to do, as values: its limits, its entrances, its users. Where they come from (a file, a program) is
not here. Every limit has its unit in its name, and its reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from netnet.net.relay import LINGER_SECONDS

if TYPE_CHECKING:
    from netnet.socks.rules import Rules

#: a proxied connection has two sockets; while it moves bulk, it may have a pipe each way for a moment
DESCRIPTORS_A_CONNECTION: Final = 2

#: kept back for the listener, the poller, the logs and the splice pipes
DESCRIPTORS_SPARE: Final = 640


class Authentication(StrEnum):
    """Who may come in at an entrance."""

    NONE = "none"  #: anybody; a password that is offered is taken, and means nothing
    OPTIONAL = "optional"  #: anybody; who logs in has to get it right, and is known by that name
    PASSWORD = "password"  #: users only


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the proxy, with its unit in its name. ``None``: no limit."""

    #: a client has so long to send its request. Humans do not type it: a few round trips on a bad line
    handshake_seconds: float = 10.0
    #: and so long the target may take to answer, names included; the protocol gives up after two minutes
    connect_seconds: float = 30.0
    #: so long BIND waits for the connection (the memo of SOCKS4 says two minutes)
    bind_seconds: float = 120.0
    #: the longest silence of a connection. Longer than the keep-alives of ssh and web sockets, short enough to tidy up
    idle_seconds: float | None = 3600.0
    #: the longest silence after one side has finished
    linger_seconds: float = LINGER_SECONDS
    #: connections at once, in all; None: what the descriptors allow
    connections: int | None = None
    connections_per_user: int | None = None
    connections_per_client: int | None = None
    #: new connections of one client: so many a second in the long run, and so many at once before that counts
    new_connections_per_second_per_client: float | None = None
    new_connections_burst: int = 50
    #: bytes a second, each way
    bandwidth_per_connection: int | None = None
    bandwidth_per_user: int | None = None
    #: after so many failed logins of a client in a row each answer to it is delayed, up to so long
    failed_logins_free: int = 3
    failed_login_delay_seconds: float = 3.0
    #: and after so many it is not served for so long
    failed_logins_max: int = 10
    ban_seconds: float = 600.0
    #: associations: targets at once, and silence after which one is forgotten (RFC 4787 REQ-5: two minutes or more)
    udp_targets: int = 256
    udp_idle_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in. *password* is a hash as ``netnet proxy hash-password`` makes it."""

    name: str
    password: str = field(repr=False)
    connections: int | None = None  #: instead of ``Limits.connections_per_user``
    bandwidth: int | None = None  #: instead of ``Limits.bandwidth_per_user``


#: the protocols that an entrance can speak
PROTOCOLS: Final = frozenset({"socks4", "socks5", "http"})


@dataclass(frozen=True, slots=True)
class Entrance:
    """How clients of one listener are treated.

    *proxy_protocol*: who connects tells in front, by PROXY protocol v1 or v2, whom it connects for; only the networks
    *proxy_protocol_from* may connect there ("unix": the peers of a UNIX socket; empty: everybody who can).
    *deny_private*: see ``rules``; ``None``: where others than this machine can connect. *advertise*: the address that
    replies tell, where the own one cannot be reached; *ports*: the range for BIND and datagrams.
    """

    name: str = ""
    protocols: frozenset[str] = PROTOCOLS
    authentication: Authentication = Authentication.NONE
    proxy_protocol: bool = False
    proxy_protocol_from: tuple[str, ...] = ()
    deny_private: bool | None = None
    advertise: str | None = None
    ports: tuple[int, int] | None = None
    strict_udp: bool = False  #: datagrams only from the very address and port that the client announced


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a server goes by."""

    limits: Limits = Limits()
    users: Mapping[str, User] = field(default_factory=dict)
    rules: Rules | None = None  #: None: everything is allowed (but see ``Entrance.deny_private``)


def connections_max(descriptors: int) -> int:
    """How many connections a proxy can have at once with so many descriptors."""
    spare = min(DESCRIPTORS_SPARE, descriptors // 4)
    return max(1, (descriptors - spare) // DESCRIPTORS_A_CONNECTION)
