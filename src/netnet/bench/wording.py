"""How the bench writes what it has found: numbers, ratios, ranges, and the places of tables. It knows no output format."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

from netnet.bench.figures import Quantity

#: an axis that counts bytes begins with that word
_BYTES = "bytes"
_UNITS = ("B", "KiB", "MiB", "GiB")


def number(value: float) -> str:
    """With three digits that count, or with all of those before the point."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value + 0.0:,.0f}"
    return f"{value:,.{min(6, max(0, 2 - math.floor(math.log10(abs(value)))))}f}"


def median(samples: Sequence[float]) -> str:
    """The middle of the samples."""
    return number(statistics.median(samples))


def ratio(value: float) -> str:
    """With two digits behind the point, as long as they say something."""
    return f"{value:,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}×"


def limits(samples: Sequence[float]) -> str:
    """The least and the greatest sample; nothing where there is one only."""
    return f"{number(min(samples))} – {number(max(samples))}" if len(samples) > 1 else ""


def deviation(samples: Sequence[float]) -> str:
    """Half of the range, as a share of the median; nothing where there is one sample only, or the median is zero."""
    middle = statistics.median(samples)
    if len(samples) < 2 or not middle:
        return ""
    return f"±{abs((max(samples) - min(samples)) / 2 / middle):.0%}".replace("%", " %")


def heading(quantity: Quantity) -> str:
    """The quantity's name and unit."""
    return f"{quantity.name}, {quantity.unit}" if quantity.unit not in ("", quantity.name) else quantity.name


def sense(quantity: Quantity) -> str:
    """Which figures are the better ones."""
    return "more is better" if quantity.higher else "less is better"


def at(axis: str, value: float) -> str:
    """A place on an axis: ``1 connection``, ``64 bytes``, ``100 KiB``, ``50 at a time``."""
    if axis.startswith(_BYTES) and value >= 1024:
        return tick(axis, value)
    name = _BYTES if axis.startswith(_BYTES) else axis
    one = value == 1 and name.endswith("s") and " " not in name
    return f"{number(value)} {name[:-1] if one else name}"


def tick(axis: str, value: float) -> str:
    """The same, short, where the axis is named beside."""
    if axis.startswith(_BYTES):
        power = min(len(_UNITS) - 1, int(math.log2(value) // 10)) if value >= 1 else 0
        return f"{number(value / 1024**power)} {_UNITS[power]}"
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if value >= size and value % (size / 10) == 0:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def counted(count: int, thing: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def slug(text: str) -> str:
    """A file's name, and an anchor, made of the letters and digits of *text*."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("µ", "u")).strip("-")


__all__ = [
    "at",
    "counted",
    "deviation",
    "heading",
    "limits",
    "median",
    "number",
    "ratio",
    "sense",
    "slug",
    "tick",
]
