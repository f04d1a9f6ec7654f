"""How a figure grows with the number of things beside it: not at all, with the logarithm, with the square root, in
proportion, or with the square. Least squares over the medians, in plain Python; it measures nothing.

Residuals are relative (a measurement is uncertain by a share of itself, and figures may span decades). The slowest growth
that comes within ``TOLERANCE`` of the best fit is taken, so that faster growth is claimed only where the points show it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netnet.bench.wording import number

#: medians that differ by no more than this share of the smallest are the same
FLAT = 0.15

#: how much worse a slower growth may fit than the best one, as a share of the figures
TOLERANCE = 0.01

#: growth by name, the slowest first
MODELS: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("logarithmic", math.log10),
    ("square root", math.sqrt),
    ("linear", lambda x: x),
    ("quadratic", lambda x: x * x),
)

#: the least number of different x that tells one growth from another
POINTS_MIN = 3

#: how many things there were, and the samples that were measured beside them
Point = tuple[float, Sequence[float]]


@dataclass(frozen=True)
class Fit:
    """How a figure grows: *model* is ``flat``, one of ``MODELS``, or ``unclear`` where two points do not tell."""

    model: str
    #: how much the figure rises, on the average over what was measured, for each tenfold of x
    per_tenfold: float
    #: all of it in words
    text: str


@dataclass(frozen=True)
class _Line:
    """``start + slope * f(x)``, and how far the points are from it, as a share of them."""

    model: str
    start: float
    slope: float
    residual: float


def fit(points: Sequence[Point], unit: str = "", things: str = "") -> Fit:
    """How the medians of *points* grow with x. *unit* is that of the samples; *things* is what x counts ("rules").

    The figure is flat where the medians differ by less than the samples of one point commonly do, or by less than
    ``FLAT``. Raises ``ValueError`` for fewer than two different x, one that is not positive, or a point without samples.
    """
    found = sorted((x, statistics.median(samples)) for x, samples in points if samples)
    if len(found) < len(points) or len({x for x, _ in found}) < 2 or found[0][0] <= 0:
        raise ValueError("a growth needs samples at two different x at least, all above zero")
    told = _Words(found, unit, things)
    decades = math.log10(found[-1][0] / found[0][0])
    common = statistics.median(max(samples) - min(samples) for _, samples in points)
    if _is_flat([y for _, y in found], common):
        return Fit("flat", (found[-1][1] - found[0][1]) / decades, told.flat())
    if len({x for x, _ in found}) < POINTS_MIN:
        return Fit("unclear", (found[-1][1] - found[0][1]) / decades, told.unclear())
    best = _best(found)
    functions = dict(MODELS)
    function = functions[best.model]
    rise = best.slope * (function(found[-1][0]) - function(found[0][0]))
    return Fit(best.model, rise / decades, told.growing(best))


def _is_flat(values: Sequence[float], common: float) -> bool:
    return max(values) - min(values) <= max(common, FLAT * min(abs(value) for value in values))


def _best(found: Sequence[tuple[float, float]]) -> _Line:
    """The slowest growth that fits about as well as the best."""
    lines = [_line(name, function, found) for name, function in MODELS]
    enough = min(line.residual for line in lines) + TOLERANCE
    return next(line for line in lines if line.residual <= enough)


def _line(model: str, function: Callable[[float], float], found: Sequence[tuple[float, float]]) -> _Line:
    """The line with the least squares of relative residuals."""
    least = max(abs(y) for _, y in found) * 1e-3
    weighted = [(function(x), y, 1 / max(abs(y), least) ** 2) for x, y in found]
    total = sum(weight for _, _, weight in weighted)
    middle_x = sum(weight * x for x, _, weight in weighted) / total
    middle_y = sum(weight * y for _, y, weight in weighted) / total
    slope = sum(weight * (x - middle_x) * (y - middle_y) for x, y, weight in weighted) / sum(
        weight * (x - middle_x) ** 2 for x, _, weight in weighted
    )
    start = middle_y - slope * middle_x
    squares = sum(weight * (start + slope * x - y) ** 2 for x, y, weight in weighted)
    return _Line(model, start, slope, math.sqrt(squares / len(weighted)))


class _Words:
    """A fit in words: from where to where, and by how much."""

    def __init__(self, found: Sequence[tuple[float, float]], unit: str, things: str) -> None:
        self._values = [y for _, y in found]
        self._unit = f" {unit}" if unit else ""
        self._things = f" {things}" if things else ""
        self._range = f"from {found[0][0]:,.0f} to {found[-1][0]:,.0f}{self._things}"
        self._last = found[-1][0]

    def flat(self) -> str:
        return f"flat: {number(min(self._values))} to {number(max(self._values))}{self._unit} {self._range}"

    def unclear(self) -> str:
        return f"{self._ends()} {self._range}; two points do not tell how it grows"

    def growing(self, line: _Line) -> str:
        return f"{line.model}: {self._step(line)}; {self._ends()} {self._range}"

    def _ends(self) -> str:
        return f"{number(self._values[0])} to {number(self._values[-1])}{self._unit}"

    def _step(self, line: _Line) -> str:
        if line.model == "logarithmic":
            return f"{_signed(line.slope)}{self._unit} per tenfold"
        if line.model == "linear":
            step = 10.0 ** math.floor(math.log10(self._last))
            return f"{_signed(line.slope * step)}{self._unit} per {step:,.0f}{self._things}"
        growth = dict(MODELS)[line.model]
        return (
            f"{_signed(line.slope * (growth(self._last) - growth(self._last / 10)))}{self._unit} over the last tenfold"
        )


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{number(abs(value))}"


__all__ = ["FLAT", "MODELS", "TOLERANCE", "Fit", "Point", "fit"]
