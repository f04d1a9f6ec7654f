"""Imports: the wall time that one adds to an empty program, and what it brings along. The disk's cache is warm."""

from __future__ import annotations

import sys
import time
from functools import cache, partial

from netnet.bench.figures import Case, Measure, Quantity, Sample, Size, Table
from netnet.bench.peers import SOFTWARE, lacking
from netnet.bench.processes import probing

PYTHON_ALONE = "python alone"

_MODULES = ("netnet", "asyncio", "gevent", "trio")

#: what ``import netnet`` may bring along from outside the standard library
_EXPECTED = frozenset({"netnet", "greenlet"})

_COUNT = (
    "import sys; before = set(sys.modules); import netnet; new = set(sys.modules) - before; "
    "print(len(new), *sorted({name.partition('.')[0] for name in new} - set(sys.stdlib_module_names)))"
)


def importing(size: Size) -> list[Case]:
    """Starts of the interpreter with one import, each less one without that was made just before."""
    table = Table("start", "import, beyond starting Python", (Quantity("time", "ms"),), base=PYTHON_ALONE)
    measures: dict[str, Measure] = {PYTHON_ALONE: _alone}
    for module in _MODULES:
        remedy = lacking([module] if module in SOFTWARE else [])
        if remedy is None:
            measures[module] = partial(_beyond, module, table)
        else:
            table.missing[module] = remedy
    return [Case(table, measures, size.starts)]


def _alone() -> Sample:
    _warmed("")
    return {"time": import_milliseconds("")}


def _beyond(module: str, table: Table) -> Sample:
    _warmed(module)
    if module == "netnet":
        table.note(brought_along())
    alone = import_milliseconds("")
    return {"time": import_milliseconds(module) - alone}


@cache
def _warmed(module: str) -> None:
    """Fills the caches."""
    import_milliseconds(module)


def import_milliseconds(module: str) -> float:
    """Starts Python, isolated, to import a module (or nothing) and end. Raises ``BenchError`` where that fails."""
    start = time.perf_counter()
    with probing([sys.executable, "-I", "-c", f"import {module}" if module else "pass"]) as process:
        process.finish()
        return (time.perf_counter() - start) * 1e3


@cache
def brought_along() -> str:
    """What ``import netnet`` imports, in words. Raises ``BenchError``."""
    with probing([sys.executable, "-I", "-c", _COUNT]) as process:
        count, *outside = process.line()
    more = sorted(set(outside) - _EXPECTED)
    told = f"netnet imports {count} modules; outside the standard library: {', '.join(sorted(_EXPECTED))}"
    return f"{told} and, which it should not, {', '.join(more)}" if more else told


__all__ = ["PYTHON_ALONE", "brought_along", "import_milliseconds", "importing"]
