"""Start: the wall time that an import adds to an empty program, and what it brings along. The disk's cache is warm."""

from __future__ import annotations

import sys
import time

from netnet.bench.figures import Figures, Progress, Size, has
from netnet.bench.processes import probing

#: for the imports: what has to be installed, by module
_EXTRA = frozenset({"gevent"})

PYTHON_ALONE = "python alone"

#: what ``import netnet`` may bring along from outside the standard library
_EXPECTED = frozenset({"netnet", "greenlet"})

_COUNT = (
    "import sys; before = set(sys.modules); import netnet; new = set(sys.modules) - before; "
    "print(len(new), *sorted({name.partition('.')[0] for name in new} - set(sys.stdlib_module_names)))"
)


def importing(size: Size, progress: Progress) -> list[Figures]:
    """Starts of the interpreter with one import and without, in turn; each difference is between neighbours."""
    figures = Figures("import, beyond starting Python", "ms of wall time", base=PYTHON_ALONE)
    modules = [module for module in ("netnet", "asyncio", "gevent") if module not in _EXTRA or has(module)]
    figures.missing = {module: f"pip install {module}" for module in _EXTRA if not has(module)}
    for module in ["", *modules]:  # fills the caches
        import_milliseconds(module)
    for _ in range(size.starts):
        progress(f"{figures.title}: {PYTHON_ALONE}")
        alone = import_milliseconds("")
        figures.add(PYTHON_ALONE, alone)
        for module in modules:
            progress(f"{figures.title}: {module}")
            figures.add(module, import_milliseconds(module) - alone)
    figures.note(_brought_along())
    return [figures]


def import_milliseconds(module: str) -> float:
    """Starts Python, isolated, to import a module (or nothing) and end."""
    start = time.perf_counter()
    with probing([sys.executable, "-I", "-c", f"import {module}" if module else "pass"]) as process:
        process.finish()
        return (time.perf_counter() - start) * 1e3


def _brought_along() -> str:
    with probing([sys.executable, "-I", "-c", _COUNT]) as process:
        count, *outside = process.line()
    more = sorted(set(outside) - _EXPECTED)
    told = f"netnet imports {count} modules; outside the standard library: {', '.join(sorted(_EXPECTED))}"
    return f"{told} and, which it should not, {', '.join(more)}" if more else told
