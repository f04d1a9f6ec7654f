"""The colours and marks of charts: the same peer looks the same in all of them, in light and in dark.

Hues are few, told apart also by who does not see all colours, and spread over peers so that no chart has one twice; two
uses of the same software share a hue and differ by mark, line and hatch. A drawing that follows the scheme of who looks
is made in placeholder colours, one for each role, which ``variables`` and ``STYLE`` turn into CSS.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from netnet.bench.report.standing import is_own


@dataclass(frozen=True)
class Look:
    """How a peer is drawn: the role that its colour has, its mark, and whether it is the second use of one hue."""

    role: str
    mark: str
    second: bool = False

    @property
    def line(self) -> str | tuple[int, tuple[float, float]]:
        """The style of its line."""
        return (0, (3.5, 1.5)) if self.second else "-"


#: role → light and dark
_COLOURS: Final = {
    "ground": ("#ffffff", "#14171c"),
    "ink": ("#1b1f24", "#e8eaed"),
    "quiet": ("#57606a", "#9aa4b0"),
    "grid": ("#e3e7eb", "#2b313a"),
    "ours": ("#d9480f", "#ff8a4c"),
    "grey": ("#7d8590", "#8b949e"),
    "sky": ("#4aa3d9", "#6cc0f0"),
    "violet": ("#8661b8", "#b79be6"),
    "green": ("#2f8f5b", "#5cc48d"),
    "olive": ("#9a8f1f", "#cfc34f"),
    "brown": ("#8d5b3a", "#c69a78"),
    "blue": ("#3864b4", "#83a6ee"),
    "rose": ("#b8477d", "#e887b4"),
}

#: the look of each peer that is known
_LOOKS: Final = {
    "netnet": Look("ours", "o"),
    "2 workers": Look("ours", "o"),
    "netnet proxy": Look("ours", "s", second=True),
    "netnet SOCKS4": Look("ours", "^", second=True),
    "netnet plain": Look("ours", "D", second=True),
    "C epoll": Look("grey", "s"),
    "C splice": Look("grey", "s"),
    "C copy": Look("grey", "D", second=True),
    "direct": Look("grey", "s"),
    "1 worker": Look("grey", "s"),
    "Go": Look("sky", "D"),
    "uvloop protocol": Look("violet", "^"),
    "uvloop streams": Look("violet", "v", second=True),
    "gevent": Look("green", "P"),
    "eventlet": Look("olive", "X"),
    "trio": Look("brown", "h"),
    "asyncio": Look("blue", "<"),
    "asyncio protocol": Look("blue", "<"),
    "asyncio streams": Look("blue", ">", second=True),
    "threads": Look("rose", "*"),
    "microsocks": Look("green", "P"),
    "dante": Look("brown", "h"),
    "ssh -D": Look("violet", "^"),
    "pproxy": Look("blue", "<"),
    "pproxy uvloop": Look("blue", ">", second=True),
    "C fork": Look("olive", "X"),
}

_HUES: Final = ("sky", "rose", "green", "brown", "violet", "olive", "blue")
_MARKS: Final = ("d", "p", "8", "*")


def look(peer: str) -> Look:
    """How *peer* is drawn, also one that is not known: always the same."""
    number = zlib.crc32(peer.encode())
    if peer in _LOOKS:
        return _LOOKS[peer]
    if is_own(peer):
        return Look("ours", _MARKS[number % len(_MARKS)], second=True)
    return Look(_HUES[number % len(_HUES)], _MARKS[number // 8 % len(_MARKS)], bool(number & 64))


@dataclass(frozen=True)
class Theme:
    """A colour for each role."""

    colours: dict[str, str]

    def __getitem__(self, role: str) -> str:
        return self.colours[role]


LIGHT: Final = Theme({role: light for role, (light, _) in _COLOURS.items()})
DARK: Final = Theme({role: dark for role, (_, dark) in _COLOURS.items()})

#: placeholders: no real colour is one of them
FOLLOWING: Final = Theme({role: f"#fe01{number:02x}" for number, role in enumerate(_COLOURS)})

_PLACEHOLDER: Final = re.compile(r"#fe01([0-9a-f]{2})")


def variables(svg: str) -> str:
    """An SVG that was drawn in the theme ``FOLLOWING``, with a CSS variable for each placeholder."""
    roles = list(_COLOURS)
    return _PLACEHOLDER.sub(lambda found: f"var(--chart-{roles[int(found.group(1), 16)]})", svg)


def _declared(theme: Theme) -> str:
    return " ".join(f"--chart-{role}: {colour};" for role, colour in theme.colours.items())


#: gives the variables their values within elements of the class ``chart``
STYLE: Final = (
    f".chart {{ {_declared(LIGHT)} }}\n@media (prefers-color-scheme: dark) {{ .chart {{ {_declared(DARK)} }} }}\n"
)

__all__ = ["DARK", "FOLLOWING", "LIGHT", "STYLE", "Look", "Theme", "look", "variables"]
