"""What becomes of a request by a configuration, rule by rule: ``netnet proxy explain``. Nothing is connected to; a name is
looked up if that takes part in the answer."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from netnet.errors import UsageError
from netnet.kernel.address import InetAddress, IPv4Address, IPv6Address, parse_address
from netnet.net.resolve import resolve
from netnet.proxy.config import Configuration
from netnet.proxy.listeners import Listener
from netnet.socks.requests import Command, address_text
from netnet.socks.rules import Rules, literal
from netnet.socks.settings import Authentication


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody who asks. *client*: an IP address, or "unix". *destination*: "host:port". *listener*: a name or address."""

    client: str
    destination: str
    user: str | None = None
    command: Command = Command.CONNECT
    listener: str | None = None


def explain(configuration: Configuration, question: Question) -> Iterator[str]:
    """The answer, line by line. Looks names up, which switches tasks. Raises ``UsageError`` for a question that makes no
    sense."""
    client = _client(question.client)
    target = _target(question.destination)
    listener = _listener(configuration.listeners, question.listener)
    entrance = listener.entrance
    yield f"listener {entrance.name!r}: deny private is {'off' if entrance.deny_private is False else 'on'}"
    if entrance.authentication is Authentication.PASSWORD and question.user is None:
        yield "denied: this listener serves users only (say --user)"
        return
    if entrance.authentication is Authentication.NONE and question.user is not None:
        yield "logins mean nothing at this listener: rules see nobody who has logged in"
        question = replace(question, user=None)
    if question.user is not None and question.user not in configuration.settings.users:
        yield f"denied: there is no user {question.user!r}"
        return
    rules = configuration.settings.rules or Rules(())
    packed = target.packed if isinstance(target, (IPv4Address, IPv6Address)) else literal(target.host)
    yield from _judged(rules, client, question, target, packed, entrance.deny_private is not False)


def _judged(
    rules: Rules, client: bytes, question: Question, target: InetAddress, packed: bytes, deny_private: bool
) -> Iterator[str]:
    def answer(address: bytes) -> Sequence[str]:
        return rules.explain(
            client, question.user, question.command, target.host, address, target.port, deny_private=deny_private
        )

    yield from answer(packed)
    if packed or rules.judge(
        client, question.user, question.command, target.host, b"", target.port, deny_private=deny_private
    ):
        return
    try:
        found = resolve(target.host, target.port)
    except socket.gaierror as error:
        yield f"{target.host} cannot be looked up here: {error.strerror}"
        return
    for candidate in found:
        address = candidate.packed
        yield f"{target.host} is {address_text(address)}:"
        yield from (f"  {line}" for line in answer(address))


def _client(text: str) -> bytes:
    if text == "unix":
        return b""
    try:
        return ipaddress.ip_address(text.strip("[]")).packed
    except ValueError:
        raise UsageError(f'the client {text!r} is no IP address; write one, or "unix"') from None


def _target(text: str) -> InetAddress:
    target = parse_address(text)
    if not isinstance(target, InetAddress):
        raise UsageError(f"the destination {text!r} is no host and port")
    return target


def _listener(listeners: Sequence[Listener], wanted: str | None) -> Listener:
    if wanted is None:
        return listeners[0]
    for listener in listeners:
        if wanted in (listener.entrance.name, str(listener.address)):
            return listener
    names = ", ".join(listener.entrance.name for listener in listeners)
    raise UsageError(f"there is no listener {wanted!r}; there are: {names}")
