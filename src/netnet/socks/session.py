"""What there is to tell of one connection of the proxy: while it lasts, and in one line when it has ended.

Passwords are not here, and nothing of what is relayed. Who writes the line, and where to, is the server's *report*.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from netnet.socks.requests import Command, Outcome, Request


class Moving(Protocol):
    """What moves the bytes of a connection: a relay, or an association."""

    @property
    def sent(self) -> int: ...

    @property
    def received(self) -> int: ...

    def abort(self, reason: str = "aborted") -> None: ...


class Ending(StrEnum):
    """How a connection ended. These words stand in the log and in the metrics."""

    CLOSED = "closed"  #: both sides had finished: the regular end
    RESET = "reset"  #: one side broke off
    IDLE = "idle"  #: silent for too long
    LINGER = "linger"  #: one side had finished, and the other was silent for too long
    CLIENT_LEFT = "client left"  #: in the middle of the handshake
    BAD_REQUEST = "bad request"
    HANDSHAKE_TIMEOUT = "handshake timeout"
    LOGIN_FAILED = "login failed"
    BANNED = "banned"
    LIMIT = "limit"  #: there were as many connections as there may be, of this user or client
    DENIED = "denied"  #: by a rule
    UNRESOLVED = "unresolved"  #: the name has no address, or nobody could tell
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect timeout"
    UPSTREAM = "upstream"  #: the proxy on the way failed, or said no
    UNSUPPORTED = "unsupported"
    FAILED = "failed"  #: any other error of the network
    STOPPED = "stopped"  #: the proxy was told to stop
    ERROR = "internal error"  #: a bug, or no memory


#: what the outcome of a request that failed is called in the log
ENDING_OF_OUTCOME = {
    Outcome.FAILED: Ending.FAILED,
    Outcome.DENIED: Ending.DENIED,
    Outcome.NETWORK_UNREACHABLE: Ending.UNREACHABLE,
    Outcome.HOST_UNREACHABLE: Ending.UNREACHABLE,
    Outcome.REFUSED: Ending.REFUSED,
    Outcome.TIMED_OUT: Ending.CONNECT_TIMEOUT,
    Outcome.COMMAND_UNSUPPORTED: Ending.UNSUPPORTED,
    Outcome.ADDRESS_UNSUPPORTED: Ending.UNSUPPORTED,
}

#: what commands are called in the log; to ask the enumeration for it costs ten times as much
COMMAND_TEXT = {command: command.name.lower() for command in Command}

#: what a relay says at its end → the ending; anything else is the text of an error: a reset
ENDING_OF_RELAY = {
    "closed": Ending.CLOSED,
    "idle": Ending.IDLE,
    "no data after half-close": Ending.LINGER,
    "the run was stopped": Ending.STOPPED,
    "the proxy stops": Ending.STOPPED,
    "internal error": Ending.ERROR,
}


@dataclass(slots=True, eq=False)
class Session:
    """One connection. Times are instants of the loop's clock, in seconds.

    *sent* and *received* count the bytes to the target and from it; while a relay runs, ask ``bytes_sent`` and
    ``bytes_received``.
    """

    client: str  #: its address, or "unix"
    began: float
    listener: str = ""
    protocol: str = ""  #: "socks4", "socks4a", "socks5", "http"; "" while it has not said
    user: str | None = None  #: who has logged in
    request: Request | None = None
    address: str = ""  #: where the target really is, when that stands
    rule: str = ""  #: which rule decided
    route: str = ""  #: the upstream chain that it went through; "" for none
    sent: int = 0
    received: int = 0
    opened: float | None = None  #: when the connection to the target stood
    ended: float | None = None
    ending: Ending | None = None
    detail: str = ""  #: more about the end, for people
    relay: Moving | None = field(default=None, repr=False)

    @property
    def bytes_sent(self) -> int:
        """To the target, so far."""
        return self.sent if self.relay is None else self.sent + self.relay.sent

    @property
    def bytes_received(self) -> int:
        """From the target, so far."""
        return self.received if self.relay is None else self.received + self.relay.received

    @property
    def target(self) -> str:
        """Where the client wanted to go; "-" while it has not said."""
        return "-" if self.request is None else str(self.request)

    @property
    def command(self) -> str:
        """What it wanted, in lower case; "" while it has not said."""
        return "" if self.request is None else COMMAND_TEXT[self.request.command]

    def seconds(self, now: float) -> float:
        """How long it has lasted."""
        return (now if self.ended is None else self.ended) - self.began

    def fields(self, now: float) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "client": self.client,
            "listener": self.listener,
            "protocol": self.protocol,
            "user": self.user,
            "command": self.command,
            "target": self.target,
            "address": self.address,
            "rule": self.rule,
            "route": self.route,
            "sent": self.bytes_sent,
            "received": self.bytes_received,
            "seconds": round(self.seconds(now), 3),
            "ending": self.ending,
            "detail": self.detail,
        }

    def line(self, now: float) -> str:
        """One line for people: who, where, rule, bytes to the target and from it, seconds, how it ended."""
        who = self.client if self.user is None else f"{self.user}@{self.client}"
        where = self.target if self.command in ("", "connect") else f"{self.command} {self.target}"
        through = f" through {self.route}" if self.route else ""
        rule = f" [{self.rule}]" if self.rule else ""
        detail = f": {self.detail}" if self.detail else ""
        line = (
            f"{who} -> {where}{through}{rule} {self.bytes_sent}/{self.bytes_received} bytes {self.seconds(now):.3f} s"
            f" {self.ending or 'open'}{detail}"
        )
        return line if line.isprintable() else _printable(line)

    def json(self, now: float) -> str:
        """The same for programs, in one line."""
        return json.dumps(self.fields(now), ensure_ascii=True)


def _printable(line: str) -> str:
    """*line*, with what would break it up, or could not be written, as escapes: so nobody forges a line of the log."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
