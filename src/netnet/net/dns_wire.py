"""Questions and answers as bytes, and back: RFC 1035 messages, read and written by dnspython, which is imported when the
first question is asked. Bytes in, plain values out; nothing here reads, waits or tells the time.

Everything from the network may be forged or broken: what cannot be read, or answers another question, is ``None``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from netnet.net.dns_cache import NEGATIVE_SECONDS_MAX, TTL_SECONDS_MAX
from netnet.net.hosts import failure, same_form

if TYPE_CHECKING:
    import dns.message
    import dns.rrset

#: bytes of a UDP answer that we are ready to take: what passes every path unfragmented (DNS flag day 2020)
PAYLOAD_OCTETS: Final = 1232
#: names that lead to the next name, for one question
ALIASES_MAX: Final = 16
#: addresses that are taken of one answer; a TCP answer has room for thousands
VALUES_MAX: Final = 256

TYPES: Final = {int(socket.AF_INET): "A", int(socket.AF_INET6): "AAAA"}

NOERROR: Final = 0
FORMERR: Final = 1
NXDOMAIN: Final = 3
NOTIMP: Final = 4


class Question(NamedTuple):
    """A name without its end dot, and the type of record that is asked for."""

    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.name} {self.type}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a question, read: for which name there was something in the end (or nothing), what, and for how long.

    ``unknown``: the name does not exist at all. ``leads_on``: the servers tell another name and nothing of that name;
    ``aliases`` counts how many names led here.
    """

    code: int
    truncated: bool = False
    name: str = ""
    values: tuple[str, ...] = ()
    ttl_seconds: float = 0.0
    unknown: bool = False
    leads_on: bool = False
    aliases: int = 0


class Query:
    """One question on the wire, with an identity of its own."""

    def __init__(self, question: Question, *, extended: bool = True) -> None:
        """*extended*: with EDNS (RFC 6891), which says how large an answer may be.

        Raises ``gaierror`` where dnspython is missing, or the name cannot be asked for.
        """
        codec()
        import dns.exception
        import dns.message

        self.question = question
        try:
            self._message = dns.message.make_query(
                f"{question.name}.",
                question.type,
                use_edns=0 if extended else None,
                payload=PAYLOAD_OCTETS if extended else None,
                id=int.from_bytes(os.urandom(2), "big"),
            )
            self.wire = self._message.to_wire()
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            raise failure(socket.EAI_NONAME, question.name, f"this cannot be asked for: {error}") from None

    def read(self, wire: bytes) -> Reply | None:
        """The reply in *wire*, if that is one to this very question."""
        import dns.flags
        import dns.message

        try:
            head = dns.message.from_wire(wire, question_only=True)
            if not self._message.is_response(head):
                return None
            if head.flags & dns.flags.TC:
                return Reply(int(head.rcode()), truncated=True)
            whole = dns.message.from_wire(wire, ignore_trailing=True)
            if whole.rcode() not in (NOERROR, NXDOMAIN):
                return Reply(int(whole.rcode()))
            return _follow(self.question, whole)
        except Exception:  # whatever a reader may make of bytes that somebody else has made: it is no reply
            return None


def _follow(question: Question, message: dns.message.Message) -> Reply:
    """From the name that was asked for along its aliases (CNAME) to what is told of the last one."""
    import dns.rdatatype

    wanted = dns.rdatatype.from_text(question.type)
    records = {
        (_text(rrset.name), rrset.rdtype): rrset
        for rrset in reversed(message.answer)
        if rrset.rdclass == message.question[0].rdclass
    }
    name = question.name.lower()
    ttls: list[int] = []
    for aliases in range(ALIASES_MAX + 1):
        found = records.get((name, wanted))
        if found is not None:
            values = _values(found)
            return Reply(
                NOERROR, name=name, values=values, ttl_seconds=min([*ttls, found.ttl, TTL_SECONDS_MAX]), aliases=aliases
            )
        alias = records.get((name, dns.rdatatype.CNAME))
        if alias is None:
            break
        ttls.append(alias.ttl)
        name = _text(next(iter(alias)).target)
    else:
        aliases = ALIASES_MAX + 1
    unknown = message.rcode() == NXDOMAIN
    negative = _negative_seconds(message.authority)
    leads_on = bool(aliases) and not unknown and (negative is None or aliases > ALIASES_MAX)
    ttl = min([*ttls, TTL_SECONDS_MAX if leads_on else negative or 0])
    return Reply(NOERROR, name=name, ttl_seconds=ttl, unknown=unknown, leads_on=leads_on, aliases=aliases)


def _values(rrset: dns.rrset.RRset) -> tuple[str, ...]:
    """Addresses, or of PTR records the names."""
    values = dict.fromkeys(_value(record) for record in rrset)
    return tuple(values)[:VALUES_MAX]


def _value(record: object) -> str:
    address = getattr(record, "address", None)
    return same_form(str(address)) if address is not None else _text(record.target)  # type: ignore[attr-defined]


def _text(name: object) -> str:
    return str(name).removesuffix(".").lower()


def _negative_seconds(authority: Iterable[dns.rrset.RRset]) -> float | None:
    """For how long there is nothing: the lesser of the SOA record's own time and its minimum (RFC 2308, section 5).

    ``None`` where there is no such record: then nobody said that there is nothing.
    """
    import dns.rdatatype

    for rrset in authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min(rrset.ttl, next(iter(rrset)).minimum, NEGATIVE_SECONDS_MAX))
    return None


def reverse_name(address: str) -> str:
    """The name below which the name of an IP address is told: RFC 1035, section 3.5, and RFC 3596, section 2.5."""
    import ipaddress

    return ipaddress.ip_address(address.partition("%")[0]).reverse_pointer


def codec() -> None:
    """Raises ``gaierror`` (``EAI_FAIL``), with what to do about it, where dnspython is missing."""
    try:
        import dns.message  # noqa: F401
    except ImportError:
        raise failure(socket.EAI_FAIL, "name server", "asking one needs dnspython; pip install 'netnet[dns]'") from None
