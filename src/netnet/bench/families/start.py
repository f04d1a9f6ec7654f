"""Start: the wall time until the proxy serves, and what an import takes."""

from __future__ import annotations

from netnet.bench.families.importing import PYTHON_ALONE, import_milliseconds, importing
from netnet.bench.families.start_proxy import start_proxy
from netnet.bench.figures import Case, Size


def start(size: Size) -> list[Case]:
    """The proxy's start, and imports."""
    return [*start_proxy(size), *importing(size)]


__all__ = ["PYTHON_ALONE", "import_milliseconds", "start"]
