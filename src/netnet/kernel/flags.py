"""Flags by name: those of messages (``MSG_PEEK`` is ``"peek"``), of look-ups (``AI_``) and of reverse look-ups (``NI_``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from netnet.errors import OptionError
from netnet.kernel.numbers import numbers_of


class Flags:
    """One family of flags. Calling it gives the number of some of them; ``names`` reads a number.

    ::

        sock.recv(100, MSG("peek", "dontwait"))
        MSG.names(0x42)                          # ("dontwait", "peek")
    """

    def __init__(self, prefix: str, numbers: dict[str, int]) -> None:
        self.prefix = prefix
        #: name in lower case, without the prefix → number
        self.numbers = {name.removeprefix(prefix).lower(): value for name, value in sorted(numbers.items())}

    def __call__(self, *flags: str | int) -> int:
        """The flags together. Each is a name, in either case, with or without prefix, or a number.

        Raises ``OptionError`` for a name that this platform does not have.
        """
        value = 0
        for flag in flags:
            if not isinstance(flag, (int, str)):
                raise TypeError(f"a flag is a name or a number, not {flag!r}")
            value |= flag if isinstance(flag, int) else self._number(flag)
        if not -(1 << 31) <= value < 1 << 32:
            raise ValueError(f"flags are a number of 32 bits, not {value}")
        return value if value < 1 << 31 else value - (1 << 32)  # a C int

    def of(self, flags: int | str | Iterable[str | int]) -> int:
        """The same for what a caller may pass: a number, a name, or several of them."""
        several = isinstance(flags, Iterable) and not isinstance(flags, (str, bytes, bytearray))
        return self(*flags) if several else self(flags)  # type: ignore[misc,arg-type]

    def _number(self, name: str) -> int:
        key = name.lower().removeprefix(self.prefix.lower())
        try:
            return int(key, 16) if key.startswith("0x") else self.numbers[key]
        except (KeyError, ValueError):
            near = difflib.get_close_matches(key, self.numbers, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.numbers)}"
            raise OptionError(f"no flag {name!r} of the {self.prefix}* flags on this system; {hint}") from None

    def names(self, value: int) -> tuple[str, ...]:
        """The names of the flags in *value*; what has no name comes last, as a hexadecimal number."""
        value = value & 0xFFFFFFFF if value < 0 else value
        found = []
        for name, bit in self.numbers.items():
            if bit and value & bit == bit:
                found.append(name)
        for name in found:
            value &= ~self.numbers[name]
        return (*found, hex(value)) if value else tuple(found)


#: flags of send(2) and recv(2)
MSG = Flags("MSG_", numbers_of("MSG_"))

#: flags of getaddrinfo(3); some headers also have combinations (``AI_MASK``, ``AI_DEFAULT``), which stand for many bits
AI = Flags("AI_", {name: value for name, value in numbers_of("AI_").items() if value.bit_count() == 1})

#: flags of getnameinfo(3)
NI = Flags("NI_", {name: value for name, value in numbers_of("NI_").items() if not name.startswith("NI_MAX")})
