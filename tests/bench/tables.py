"""Tables with made-up samples, for the tests of the bench."""

from __future__ import annotations

import io

from rich.console import Console

from netnet.bench.figures import Quantity, Table


def table(title, unit, samples, base="", ours="netnet", higher=False, **more):
    """A table of one quantity: for each peer its samples."""
    made = Table(more.pop("family", "echo"), title, (Quantity("figure", unit, higher),), base, ours, **more)
    for peer, values in samples.items():
        for value in values:
            made.add(peer, {"figure": value})
    return made


def told(tell, *what):
    """The text that *tell* prints about *what*."""
    out = io.StringIO()
    tell(*what, Console(file=out, width=200, highlight=False))
    return out.getvalue()
