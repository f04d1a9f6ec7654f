"""Which requests are allowed, and how they go: ordered rules, the first that matches decides. A pure table: it looks no
name up and connects to nothing.

A rule matches if each of its conditions does; an empty condition always does, and of several items one is enough. An
IPv4-mapped address is judged as the IPv4 address. Items about addresses (networks, "private", "loopback", "public") need
the address of a named host: ``Rules.judge`` says so by answering ``None``, and is asked again for each address. Items
about names never match a request for an address, however it is spelt (see ``ranges.literal``).

*Deny private.* Where the entrance asks for it, an address in a special range (``ranges.private``) is denied although a
rule or the default allows it, unless the rule that decides names it: by a network in its destinations, or by the word
"private" (all of them) or "loopback". 0.0.0.0/0 and ::/0 name nothing, they are another way of saying "anywhere". So a
name under somebody else's control cannot lead inside, and that is judged by the address that is connected to. A name
that goes to an upstream proxy is not looked up here, so what it leads to is for that proxy to judge.

0.0.0.0 and :: lead to this very host (Linux connects them to it), so items about loopback match them too. In a BIND
request they are no address but "any peer": not private, not public, matched by networks alone. Who has then connected
is an address as any other, and to be judged as one.

*Cost.* Each condition is a table from a value to an integer with a bit for every rule that the value matches: addresses,
ports and times by a binary search in disjoint intervals, users, commands and names by dictionaries. Their conjunction's
lowest bit is the rule. So a thousand rules cost hardly more than ten, and an address list of any length one search
(the bit-vector scheme of packet classification: Lakshman and Stiliadis, SIGCOMM 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import Final, NamedTuple, TypeVar

from netnet.socks.ranges import Intervals, Network, literal, loopback, plain, private, text_of
from netnet.socks.requests import ADDRESSES_KEPT, Command
from netnet.socks.rule_items import (
    UNIX,
    WORDS,
    Names,
    read_client,
    read_command,
    read_destination,
    read_ports,
    read_time,
    read_user,
    time_text,
)

__all__ = ["DEFAULT", "DENY_PRIVATE", "Mistake", "Route", "Rule", "Rules", "RulesError", "Verdict", "literal"]

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")

#: what a verdict gives as its rule where none of the rules has decided
DEFAULT: Final = "default"
DENY_PRIVATE: Final = "deny private"

#: so many items of a condition are told to a person
_ITEMS_SHOWN: Final = 5

#: addresses that lead to this host, and as what they arrive there
_HERE: Final = {bytes(4): b"\x7f\0\0\1", bytes(16): bytes(15) + b"\1"}


@dataclass(frozen=True, slots=True)
class Route:
    """How an allowed connection goes."""

    #: a chain of proxy URLs, nearest first; empty: directly. Not printed, since it may hold passwords
    upstream: tuple[str, ...] = field(default=(), repr=False)
    upstream_name: str = ""  #: what the log calls it
    source: str | None = None  #: the local IP address to connect from
    interface: str | None = None  #: SO_BINDTODEVICE
    mark: int | None = None  #: SO_MARK


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. An empty condition is always met."""

    name: str
    allow: bool
    clients: tuple[str, ...] = ()  #: networks and addresses; "unix": over a UNIX socket
    users: tuple[str, ...] = ()  #: names; "*": whoever has logged in, "-": whoever has not
    commands: tuple[Command, ...] = ()
    destinations: tuple[str, ...] = ()  #: networks, addresses, names, "*.example.com", "private", "loopback", "public"
    ports: tuple[tuple[int, int], ...] = ()  #: first and last
    times: tuple[str, ...] = ()  #: "Mon-Fri 08:00-18:00", "Sat,Sun", "22:00-06:00"; local time
    route: Route = Route()


class Verdict(NamedTuple):
    """What the rules say: whether, by which rule, why in words, and which way. Made in advance and shared."""

    allow: bool
    rule: str
    why: str
    route: Route = Route()


class Mistake(NamedTuple):
    """What is wrong with one item: the rule's number from 0, its name, the field, the item, and what to do."""

    number: int
    rule: str
    field: str
    item: str
    text: str

    def __str__(self) -> str:
        return f"rule {self.rule!r}: {self.field.removesuffix('s')} {self.item!r} {self.text}"


class RulesError(ValueError):
    """Rules that cannot be meant so. *mistakes* are all of them; the message has a line for each."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


class _Reading:
    """The items of all the rules, read; collects what is wrong with them."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.mistakes: list[Mistake] = []

    def each(
        self, field: str, items_of: Callable[[Rule], Sequence[_Item]], read: Callable[[_Item], _Read]
    ) -> list[tuple[int, _Read]]:
        """Every item of a field, as its rule's bit and what it was read as."""
        found = []
        for bit, rule in enumerate(self.rules):
            items = items_of(rule)
            if isinstance(items, str):
                self.wrong(bit, field, items, "is one text; write a tuple of texts")
                continue
            for item in items:
                try:
                    found.append((bit, read(item)))
                except ValueError as reason:
                    self.wrong(bit, field, _item_text(item), str(reason))
        return found

    def wrong(self, bit: int, field: str, item: str, text: str) -> None:
        self.mistakes.append(Mistake(bit, self.rules[bit].name, field, item, text))

    def names(self) -> None:
        """Rules are told apart by name in logs and figures, so each needs one of its own."""
        seen = {DEFAULT, DENY_PRIVATE}
        for bit, rule in enumerate(self.rules):
            if not rule.name or rule.name in seen:
                self.wrong(bit, "name", rule.name, "is empty or taken already; give the rule a name of its own")
            seen.add(rule.name)

    def sources(self) -> None:
        for bit, rule in enumerate(self.rules):
            source = rule.route.source
            if source is not None and (not literal(source) or "/" in source):
                self.wrong(bit, "source", source, "is no IP address; write a local one, as 192.0.2.1")

    def done(self) -> None:
        """Raises ``RulesError`` if anything was wrong."""
        if self.mistakes:
            raise RulesError(self.mistakes)


def _free(rules: Sequence[Rule], field: str) -> int:
    """The bits of the rules that don't have this condition."""
    return sum(1 << bit for bit, rule in enumerate(rules) if not getattr(rule, field))


def _bits(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _families(items: Iterable[tuple[int, Network]], free: int) -> tuple[Intervals, Intervals]:
    """Tables of the IPv4 networks and of the IPv6 ones."""
    known = list(items)
    ipv4, ipv6 = ([(net.first, net.last, bit) for bit, net in known if net.bits == bits] for bits in (32, 128))
    return Intervals(ipv4, free), Intervals(ipv6, free)


class _Clients:
    """A client's packed address, ``b""`` for a UNIX socket → the rules for it."""

    __slots__ = ("_ipv4", "_ipv6", "_unix")

    def __init__(self, items: Sequence[tuple[int, Network | None]], free: int) -> None:
        self._ipv4, self._ipv6 = _families(((bit, net) for bit, net in items if net is not None), free)
        self._unix = free | _bits(bit for bit, net in items if net is None)

    def at(self, packed: bytes) -> int:
        if not packed:
            return self._unix
        packed = plain(packed)
        return (self._ipv4 if len(packed) == 4 else self._ipv6).at(int.from_bytes(packed, "big"))


class _Users:
    """A user's name, ``None`` for nobody → the rules for them."""

    __slots__ = ("_by_name", "_others")

    def __init__(self, items: Sequence[tuple[int, str]], free: int) -> None:
        self._others = free | _bits(bit for bit, name in items if name == "*")
        self._by_name: dict[str | None, int] = {}
        for bit, name in items:
            if name not in ("*", "-"):
                self._by_name[name] = self._by_name.get(name, self._others) | 1 << bit
        self._by_name[None] = free | _bits(bit for bit, name in items if name == "-")

    def at(self, user: str | None) -> int:
        return self._by_name.get(user, self._others)


class _Destinations:
    """Addresses and names → the rules for them.

    The rules that *name* an address, by a network or a word, are told apart from those that hold it among others: only
    those open a private address.
    """

    __slots__ = ("_free", "_ipv4", "_ipv6", "_loopback", "_names", "_private", "_public", "_whole", "by_address")

    def __init__(self, items: Sequence[tuple[int, Network | str]], free: int) -> None:
        nets = [(bit, item) for bit, item in items if isinstance(item, Network)]
        texts = [(bit, item) for bit, item in items if isinstance(item, str)]
        self._free = free
        self._ipv4, self._ipv6 = _families((one for one in nets if not one[1].whole), 0)
        self._whole = {size: _bits(b for b, net in nets if net.whole and net.bits == 8 * size) for size in (4, 16)}
        words = {word: _bits(bit for bit, text in texts if text == word) for word in WORDS}
        self._private, self._loopback, self._public = words["private"], words["loopback"], words["public"]
        named = [(bit, text) for bit, text in texts if text not in words]
        self._names = Names(named) if named else None
        #: the rules that need the address of a named host
        self.by_address = _bits(bit for bit, _ in nets) | self._private | self._loopback | self._public

    def networks(self, packed: bytes) -> int:
        """The rules with a network that an address is in, the whole family aside."""
        return (self._ipv4 if len(packed) == 4 else self._ipv6).at(int.from_bytes(packed, "big"))

    def naming(self, packed: bytes, special: str | None) -> int:
        """The rules that name an address; *special* is the range it is in."""
        mask = self.networks(packed)
        if special is None:
            return mask
        arrives = _HERE.get(packed)
        if arrives is not None:
            return mask | self._private | self._loopback | self.networks(arrives)
        return mask | self._private | (self._loopback if loopback(packed) else 0)

    def among(self, packed: bytes, special: str | None) -> int:
        """The rules that hold an address without naming it."""
        return self._free | self._whole[len(packed)] | (self._public if special is None else 0)

    def any_peer(self, packed: bytes) -> int:
        """The rules for whoever connects to a BIND."""
        return self._free | self._whole[len(packed)] | self.networks(packed)

    def at(self, command: Command, host: str, packed: bytes) -> int:
        """The rules for a request; of a name that is not looked up, those that hold it for certain."""
        if not packed:
            return self.anywhere(host)
        if command is Command.BIND and packed in _HERE:
            return self.any_peer(packed) | self.by_name(host)
        special = private(packed)
        return self.naming(packed, special) | self.among(packed, special) | self.by_name(host)

    def by_name(self, host: str) -> int:
        """The rules with a name that *host* is; none if it is an address."""
        return 0 if self._names is None else self._names.at(host)

    def anywhere(self, host: str) -> int:
        """The rules that hold a named host whatever its address is."""
        return self._free | self.by_name(host)


class Rules:
    """Ordered rules. Never changed: other rules are another object.

    *default_allow*: what holds if no rule matches. *now*: the local time, for rules with times; it is not asked if
    there are none. Raises ``RulesError``, a ``ValueError``, that tells each wrong item and what to write instead.
    """

    def __init__(
        self, rules: Sequence[Rule], *, default_allow: bool = True, now: Callable[[], datetime] = datetime.now
    ) -> None:
        self.rules: Final = tuple(rules)
        self.default_allow: Final = default_allow
        self._now = now
        self._everything = (1 << len(self.rules)) - 1
        self._read()
        word = "allow" if default_allow else "deny"
        default = Verdict(default_allow, DEFAULT, f"no rule matches, and the default is to {word}")
        #: the last one, which stands at -1 as well, is for no rule
        self._verdicts = [*(Verdict(r.allow, r.name, f"rule {r.name!r}", r.route) for r in self.rules), default]
        self._denied: dict[str, Verdict] = {}
        #: of the last addresses, what ``_look_at`` says: most connections go to a few
        self._known = lru_cache(maxsize=ADDRESSES_KEPT)(self._look_at)

    def _read(self) -> None:
        """Makes the tables. One that would not tell rules apart is left out."""
        reading, free = _Reading(self.rules), partial(_free, self.rules)
        reading.names()
        reading.sources()
        clients = reading.each("clients", lambda rule: rule.clients, read_client)
        users = reading.each("users", lambda rule: rule.users, read_user)
        commands = reading.each("commands", lambda rule: rule.commands, read_command)
        destinations = reading.each("destinations", lambda rule: rule.destinations, read_destination)
        ports = reading.each("ports", lambda rule: rule.ports, read_ports)
        times = reading.each("times", lambda rule: rule.times, read_time)
        reading.done()
        self._clients = _Clients(clients, free("clients")) if clients else None
        #: of the last clients, the rules for each
        self._of_client = lru_cache(maxsize=ADDRESSES_KEPT)(self._clients.at) if self._clients is not None else None
        self._users = _Users(users, free("users")) if users else None
        by_command = {one: free("commands") | _bits(b for b, its in commands if its is one) for one in Command}
        self._commands = by_command if commands else None
        self._destinations = _Destinations(destinations, free("destinations")) if destinations else None
        self._ports = Intervals(((*item, bit) for bit, item in ports), free("ports")) if ports else None
        spans = ((*span, bit) for bit, week in times for span in week)
        self._times = Intervals(spans, free("times")) if times else None

    def judge(
        self,
        client: bytes,
        user: str | None,
        command: Command,
        host: str,
        packed: bytes,
        port: int,
        *,
        deny_private: bool,
    ) -> Verdict | None:
        """What holds for a request.

        *client*: its packed address, ``b""`` for a UNIX socket. *user*: who has logged in. *host*, *port*: where to, as
        asked for; *packed*: the address, ``b""`` for a name that was not looked up. Returns ``None`` if that takes the
        address: look the name up, and ask again for each address. With an address the answer is never ``None``.
        Switches no tasks, raises nothing.
        """
        mask = self._everything
        if self._users is not None:
            mask &= self._users.at(user)
        if self._commands is not None:
            mask &= self._commands[command]
        if self._ports is not None:
            mask &= self._ports.at(port)
        if self._of_client is not None:
            mask &= self._of_client(client)
        if self._times is not None:
            mask &= self._times.at(_minute_of_week(self._now()))
        if packed:
            return self._judge_address(mask, command, host, plain(packed), deny_private)
        return self._judge_name(mask, host, deny_private)

    def _judge_name(self, mask: int, host: str, deny_private: bool) -> Verdict | None:
        """The same for a name; *mask* are the rules whose other conditions match."""
        if self._destinations is not None:
            sure = self._destinations.anywhere(host)
            mask &= sure | self._destinations.by_address
            if mask & -mask & ~sure:
                return None
        verdict = self._verdicts[(mask & -mask).bit_length() - 1]
        if deny_private and verdict.allow and not verdict.route.upstream:
            return None
        return verdict

    def _judge_address(self, mask: int, command: Command, host: str, packed: bytes, deny_private: bool) -> Verdict:
        """The same for an address."""
        destinations = self._destinations
        named, special = 0, None
        if command is Command.BIND and packed in _HERE:
            if destinations is not None:
                mask &= destinations.any_peer(packed) | destinations.by_name(host)
        elif destinations is not None or deny_private:
            special, named, holding = self._known(host, packed)
            mask &= holding
        first = mask & -mask
        verdict = self._verdicts[first.bit_length() - 1]
        if special is None or not deny_private or not verdict.allow or first & named:
            return verdict
        return self._denied.get(special) or self._deny(special)

    def _look_at(self, host: str, packed: bytes) -> tuple[str | None, int, int]:
        """Of an address: the special range that it is in, the rules that name it, and those that hold it."""
        special = private(packed)
        destinations = self._destinations
        if destinations is None:
            return special, 0, self._everything
        named = destinations.naming(packed, special)
        return special, named, named | destinations.among(packed, special) | destinations.by_name(host)

    def _deny(self, special: str) -> Verdict:
        """The verdict for a special range, made once for each: there are a few dozen."""
        verdict = self._denied[special] = Verdict(False, DENY_PRIVATE, f"the address is not public: {special}")
        return verdict

    def explain(
        self,
        client: bytes,
        user: str | None,
        command: Command,
        host: str,
        packed: bytes,
        port: int,
        *,
        deny_private: bool,
    ) -> list[str]:
        """The same for a person: a line for each rule up to the one that decides, then the verdict and why.

        It reads the tables that ``judge`` reads. Costs a step for each rule.
        """
        packed = plain(packed)
        found = [*self._found_who(client, user), *self._found_what(command, host, packed, port)]
        if self._times is not None:
            minute = _minute_of_week(self._now())
            found.append(("times", f"time {time_text(minute)}", self._times.at(minute)))
        judge = partial(self.judge, client, user, command, host, packed, port)
        verdict, open_verdict = judge(deny_private=deny_private), judge(deny_private=False)
        return [*self._steps(found, bool(packed)), _conclusion(verdict, open_verdict, host)]

    def _found_who(self, client: bytes, user: str | None) -> Iterable[tuple[str, str, int]]:
        """Of each condition that there is: its field, the request's value as text, the rules that it matches."""
        if self._clients is not None:
            yield "clients", f"client {text_of(plain(client)) if client else UNIX}", self._clients.at(client)
        if self._users is not None:
            yield "users", "user (nobody has logged in)" if user is None else f"user {user}", self._users.at(user)

    def _found_what(self, command: Command, host: str, packed: bytes, port: int) -> Iterable[tuple[str, str, int]]:
        """The same of what is asked for."""
        if self._commands is not None:
            yield "commands", f"command {command.name.lower()}", self._commands[command]
        if self._destinations is not None:
            where = f"destination {_destination_text(host, packed)}"
            yield "destinations", where, self._destinations.at(command, host, packed)
        if self._ports is not None:
            yield "ports", f"port {port}", self._ports.at(port)

    def _steps(self, found: Sequence[tuple[str, str, int]], sure: bool) -> Iterable[str]:
        """A line for each rule up to the first that matches, or that could. *sure*: the address is known."""
        unsure = 0 if sure or self._destinations is None else self._destinations.by_address
        for bit, rule in enumerate(self.rules):
            head = f"rule {bit + 1} {rule.name!r} ({'allow' if rule.allow else 'deny'}):"
            noes = [(name, text) for name, text, mask in found if not mask >> bit & 1]
            if not noes:
                yield f"{head} matches"
                return
            if [name for name, _ in noes] == ["destinations"] and unsure >> bit & 1:
                yield f"{head} needs the address of the {noes[0][1]} to tell"
                return
            yield f"{head} {'; '.join(_no(text, getattr(rule, name)) for name, text in noes)}"


def _conclusion(verdict: Verdict | None, open_verdict: Verdict | None, host: str) -> str:
    """The verdict and why; *open_verdict*: the one with private addresses allowed."""
    if verdict is None:
        if open_verdict is None:
            return f"undecided: {host} has to be looked up, and each of its addresses is judged"
        return f"undecided: {_who(open_verdict)} allows it, unless an address is private; {host} has to be looked up"
    if verdict.rule == DENY_PRIVATE and open_verdict is not None:
        return f"denied ({DENY_PRIVATE}): {verdict.why}; {_who(open_verdict)} allows it without naming the address"
    way = f", through {verdict.route.upstream_name or 'an upstream proxy'}" if verdict.route.upstream else ""
    return f"{'allowed' if verdict.allow else 'denied'}: {verdict.why}{way}"


def _who(verdict: Verdict) -> str:
    return "the default" if verdict.rule == DEFAULT else verdict.why


def _minute_of_week(now: datetime) -> int:
    return (now.weekday() * 24 + now.hour) * 60 + now.minute


def _destination_text(host: str, packed: bytes) -> str:
    if not packed:
        return host
    address = text_of(packed)
    return host if host == address else f"{host} ({address})"


def _no(text: str, items: Sequence[object]) -> str:
    """That a value is not among the items of a condition."""
    shown = ", ".join(_item_text(item) for item in items[:_ITEMS_SHOWN])
    return f"{text} is not in {shown}" + (f" ... ({len(items)} in all)" if len(items) > _ITEMS_SHOWN else "")


def _item_text(item: object) -> str:
    """An item as one writes it."""
    if isinstance(item, Command):
        return item.name.lower()
    if isinstance(item, tuple):
        return "-".join(map(str, item if item[0] != item[-1] else item[:1]))
    return str(item)
