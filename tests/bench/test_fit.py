"""Fits: which growth is seen in which points, with noise and without, and what is said of it."""

from __future__ import annotations

import math
import random

import pytest

from netnet.bench.fit import fit

DECADES = (10, 100, 1000, 10_000)
GROWTHS = {
    "flat": lambda x: 12.0,
    "logarithmic": lambda x: 10 + 1.2 * math.log10(x),
    "square root": lambda x: 12 + 0.1 * math.sqrt(x),
    "linear": lambda x: 12 + 0.002 * x,
    "quadratic": lambda x: 12 + 1e-6 * x * x,
}


def noisy(growth, noise, seed, places=DECADES):
    chance = random.Random(seed)
    return [(x, [growth(x) * (1 + chance.gauss(0, noise)) for _ in range(5)]) for x in places]


@pytest.mark.parametrize("model", GROWTHS)
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_the_growth_is_found(model, noise):
    assert {fit(noisy(GROWTHS[model], noise, seed)).model for seed in range(20)} == {model}


@pytest.mark.parametrize(
    ("points", "model"),
    [
        ([(10, [12.0]), (100, [13.7])], "flat"),  # less than 15 %
        ([(10, [12.0]), (100, [14.0])], "unclear"),
        ([(10, [10.0, 14.0, 18.0]), (100, [16.0, 20.0, 24.0])], "flat"),  # less than the runs differ
        ([(1, [10.0]), (10, [20.0]), (100, [30.0])], "logarithmic"),
        ([(100, [30.0]), (1, [10.0]), (10, [20.0])], "logarithmic"),  # in any order
        ([(1, [30.0]), (10, [20.0]), (100, [10.0])], "logarithmic"),  # falls
        ([(1, [1.0]), (10, [10.0]), (100, [100.0])], "linear"),
        ([(1, [0.0]), (10, [0.0]), (100, [0.0])], "flat"),
        ([(1000, [5.0]), (2000, [10.0]), (3000, [15.0])], "linear"),
    ],
)
def test_which_growth(points, model):
    assert fit(points).model == model


@pytest.mark.parametrize(
    ("points", "rise", "text"),
    [
        (
            [(10, [12.1]), (100, [12.6]), (10_000, [12.5])],
            0.1333,
            "flat: 12.1 to 12.6 µs from 10 to 10,000 rules",
        ),
        (
            [(10, [11.2]), (100, [12.4]), (1000, [13.6]), (10_000, [14.8])],
            1.2,
            "logarithmic: +1.20 µs per tenfold; 11.2 to 14.8 µs from 10 to 10,000 rules",
        ),
        (
            [(x, [20 - 2 * math.log10(x)]) for x in DECADES],
            -2.0,
            "logarithmic: −2 µs per tenfold; 18 to 12 µs from 10 to 10,000 rules",
        ),
        (
            [(x, [10 + 0.0004 * x]) for x in (10, 100, 1000, 9000)],
            1.217,
            "linear: +0.400 µs per 1,000 rules; 10.0 to 13.6 µs from 10 to 9,000 rules",
        ),
        (
            [(x, [1 + math.sqrt(x)]) for x in (1, 100, 10_000)],
            24.75,
            "square root: +68.4 µs over the last tenfold; 2 to 101 µs from 1 to 10,000 rules",
        ),
        (
            [(10, [10.0]), (100, [20.0])],
            10.0,
            "10 to 20 µs from 10 to 100 rules; two points do not tell how it grows",
        ),
    ],
)
def test_what_is_said(points, rise, text):
    found = fit(points, "µs", "rules")
    assert found.text == text
    assert found.per_tenfold == pytest.approx(rise, rel=0.01)


def test_figures_of_nothing_are_no_error():
    assert fit([(1, [0.0]), (10, [0.0]), (100, [5.0])]).per_tenfold >= 0


def test_without_words():
    assert fit([(1, [5.0]), (10, [5.0])]).text == "flat: 5 to 5 from 1 to 10"


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, [1.0])],
        [(1, [1.0]), (1, [2.0])],
        [(0, [1.0]), (1, [1.0])],
        [(1, [1.0]), (2, [])],
    ],
)
def test_what_no_growth_can_be_fitted_to(points):
    with pytest.raises(ValueError, match="two different x"):
        fit(points)
