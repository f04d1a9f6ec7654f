"""What stands in the conditions of a rule, read once: destinations, times, ports, clients; and a table of host names.

Every ``read_`` function takes one item and raises ``ValueError`` with a message that goes on after the item: what is
wrong, and what to write instead. Which rule the item stands in is the caller's to say.

Names are compared as ASCII, without regard to case or to a dot at the end; a name in another script stands in a rule as
the DNS has it, in its "xn--" form. No regular expressions: some are slow on purpose-made names, and all are slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from netnet.socks.ranges import Network, literal, network
from netnet.socks.requests import Command

#: destinations in one word. "private" is every address that is not public, loopback included
WORDS: Final = frozenset({"private", "loopback", "public"})

UNIX: Final = "unix"

_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.*?")
_NAME_CHARACTERS_MAX: Final = 253  # RFC 1035, section 2.3.4, as text
_PORT_MAX: Final = 65535

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_NUMBERS: Final = {day.lower(): number for number, day in enumerate(_DAYS)}
_MINUTES_A_DAY: Final = 24 * 60
_MINUTES_A_WEEK: Final = 7 * _MINUTES_A_DAY


def read_client(item: str) -> Network | None:
    """A network of clients; ``None`` for "unix"."""
    if item.lower() == UNIX:
        return None
    try:
        return network(item)
    except ValueError as reason:
        raise ValueError(f"{reason}" if "write" in str(reason) else f'{reason}, nor "unix"') from None


def read_user(item: str) -> str:
    """A user's name, "*" or "-"."""
    if not item:
        raise ValueError('is no name; "-" is who has not logged in, "*" is who has')
    return item


def read_command(item: Command) -> Command:
    """One of the commands."""
    try:
        return Command(item)
    except ValueError:
        raise ValueError(f"is no command; there are {', '.join(one.name.lower() for one in Command)}") from None


def read_ports(item: tuple[int, int]) -> tuple[int, int]:
    """The first and the last port of a range."""
    try:
        first, last = item
    except (TypeError, ValueError):
        raise ValueError("is no range of ports; write a pair, the first and the last") from None
    for port in item:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _PORT_MAX:
            raise ValueError(f"is no range of ports: {port!r} is not a number from 0 to {_PORT_MAX}")
    if first > last:
        raise ValueError(f"ends before it begins; write {last}-{first}")
    return first, last


def read_destination(item: str) -> Network | str:
    """A network, or one of ``WORDS``, a name or a pattern of names, in lower case and without the dot at its end."""
    text = item.lower()
    if text in WORDS:
        return text
    if ":" in text or "/" in text or literal(text):
        return network(item)
    return _name(text.removesuffix("."))


def _name(text: str) -> str:
    """A name or a pattern of names."""
    if not text.isascii():
        raise ValueError("is not ASCII; write the name as the DNS has it, with xn--")
    if strange := sorted(set(text) - _NAME_CHARACTERS):
        raise ValueError(f"is no address and no name: {strange[0]!r} cannot be in one")
    if text.startswith("."):
        raise ValueError(f"begins with a dot; write *{text} for all below {text[1:]}, {text[1:]} for itself")
    if not text or ".." in text or len(text) > _NAME_CHARACTERS_MAX:
        raise ValueError(f"is no name: those have parts between dots, and 1 to {_NAME_CHARACTERS_MAX} characters")
    if set(text) == {"*"}:
        raise ValueError("would match names only, not addresses; leave destinations out for any, or write ?* for names")
    if text.rpartition(".")[2].isdecimal():
        raise ValueError("is no address, and no name either, since it ends in a number")
    if "." in text and not set(text) - set("0123456789.*?") and set(text) & set("0123456789"):
        raise ValueError("looks like addresses, but it would match names only; write a network, as 10.0.0.0/8")
    return text


class Names:
    """Host name → the bits of all the entries that it matches.

    *entries* are ``(bit, name or pattern)``: "example.com" is that name, "*.example.com" any name below it, and any
    other pattern has ``*`` for any characters, dots too, and ``?`` for one. Names and names below cost one look-up for
    each dot of the host, however many there are; other patterns are tried one by one.
    """

    __slots__ = ("_below", "_exact", "_globs")

    def __init__(self, entries: Iterable[tuple[int, str]]) -> None:
        self._exact: dict[str, int] = {}
        self._below: dict[str, int] = {}
        globs: dict[str, int] = {}
        for bit, name in entries:
            table, key = self._exact, name
            if "*" in name or "?" in name:
                simple = name.startswith("*.") and not set(name[2:]) & {"*", "?"}
                table, key = (self._below, name[2:]) if simple else (globs, name)
            table[key] = table.get(key, 0) | 1 << bit
        self._globs = [(glob, *_ends(glob), mask) for glob, mask in globs.items()]

    def at(self, host: str) -> int:
        """The bits at *host*; none if it is an address in any form."""
        host = host.lower().rstrip(".")
        if literal(host):
            return 0
        mask = self._exact.get(host, 0)
        if self._below:
            dot = host.find(".", 1)
            while dot > 0:
                mask |= self._below.get(host[dot + 1 :], 0)
                dot = host.find(".", dot + 1)
        for glob, head, tail, bits in self._globs:
            if host.startswith(head) and host.endswith(tail) and matches(glob, host):
                mask |= bits
        return mask


def _ends(glob: str) -> tuple[str, str]:
    """What comes before the first wildcard and what after the last: both are quick to compare."""
    wild = [position for position, character in enumerate(glob) if character in "*?"]
    return glob[: wild[0]], glob[wild[-1] + 1 :]


def matches(glob: str, text: str) -> bool:
    """Whether all of *text* is as *glob* says. At most ``len(glob) * len(text)`` steps, whatever they are."""
    g = t = 0
    star, resumed = -1, 0
    while t < len(text):
        character = glob[g] if g < len(glob) else ""
        if character == "*":
            star, resumed = g, t
            g += 1
        elif character and character in ("?", text[t]):
            g += 1
            t += 1
        elif star >= 0:  # the last star takes one character more
            resumed += 1
            g, t = star + 1, resumed
        else:
            return False
    return not glob[g:].strip("*")


def read_time(item: str) -> list[tuple[int, int]]:
    """The minutes of the week, from Monday 00:00, of "Mon-Fri 08:00-18:00", "Sat,Sun", "22:00-06:00".

    The end does not belong to it. Hours over midnight belong to the day that they begin on.
    """
    words = item.split()
    hours = _hours(words.pop()) if words and ":" in words[-1] else [(0, _MINUTES_A_DAY)]
    if len(words) > 1 or not item.strip():
        raise ValueError(
            'is no time; write days, hours, or both, as in "Mon-Fri 08:00-18:00", "Sat,Sun", "22:00-06:00"'
        )
    days = _days(words[0]) if words else range(7)
    return [
        span
        for day in days
        for begin, end in hours
        for span in _in_week(day * _MINUTES_A_DAY + begin, day * _MINUTES_A_DAY + end)
    ]


def _in_week(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The minutes from *begin* until before *end*; what is past Sunday is on Monday."""
    yield begin, min(end, _MINUTES_A_WEEK) - 1
    if end > _MINUTES_A_WEEK:
        yield 0, end - _MINUTES_A_WEEK - 1


def _days(text: str) -> Iterator[int]:
    """The days of "Mon-Wed,Sat"; "Sat-Mon" goes over Sunday."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first)
        length = (_day(last) - begin) % 7 if dash else 0
        yield from ((begin + day) % 7 for day in range(length + 1))


def _day(text: str) -> int:
    if text.lower() not in _DAY_NUMBERS:
        raise ValueError(f"has {text!r} where a day should be; days are {', '.join(_DAYS)}")
    return _DAY_NUMBERS[text.lower()]


def _hours(text: str) -> list[tuple[int, int]]:
    """The minutes of the day of "08:00-12:00,13:00-18:00"; those over midnight end after 24:00."""
    found = []
    for part in text.split(","):
        begin, end = map(_minute, part.partition("-")[::2])
        if begin == end:
            raise ValueError(f"begins and ends at the same time, {part}; leave the hours out for the whole day")
        found.append((begin, end if end > begin else end + _MINUTES_A_DAY))
    return found


def _minute(text: str) -> int:
    """The minute of the day at "08:30"; 24:00 is its end."""
    hour, _, minute = text.partition(":")
    if not all(len(part) == 2 and part.isascii() and part.isdecimal() for part in (hour, minute)):
        raise ValueError(f"has {text!r} where a time of day should be; write two of them, as in 08:00-18:00")
    found = 60 * int(hour) + int(minute)
    if int(minute) > 59 or found > _MINUTES_A_DAY:
        raise ValueError(f"has {text!r} where a time of day should be; they go from 00:00 to 24:00")
    return found


def time_text(minute: int) -> str:
    """A minute of the week as one writes it."""
    day, rest = divmod(minute, _MINUTES_A_DAY)
    return f"{_DAYS[day]} {rest // 60:02}:{rest % 60:02}"
