"""``python -m netnet.bench [FAMILY ...] [--quick|--smoke] [--save] [--against FILE] [--strict]``, or ``--history``.

Ends with status 0; 1 when a program of the bench failed; 2 when it was asked for what cannot be; 3 with ``--strict`` when a
figure has become worse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from netnet.bench import figures, history, report
from netnet.bench.families import FAMILIES
from netnet.bench.figures import Figures
from netnet.bench.processes import BenchError, processors
from netnet.errors import Error
from netnet.kernel.limits import raise_descriptor_limit

FAILED, REFUSED, WORSE = 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its status."""
    options = _options(arguments)
    try:
        if options.history:
            return _tell_history(options)
        earlier = _earlier(options)
        if options.save:
            history.prepared(options.folder)
    except history.HistoryError as error:
        print(f"netnet.bench: {error}", file=sys.stderr)
        return REFUSED
    tables: list[Figures] = []
    try:
        _measure(options, tables)
        report.targets(tables, print)
        return _settle(options, tables, earlier)
    except Error as error:
        _progress("")
        print(f"netnet.bench: {error}", file=sys.stderr)
        return FAILED


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for. Ends the program, with status 2, where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m netnet.bench", description="netnet against others, as ratios.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)} (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="size", const=figures.QUICK, help="fewer, shorter runs")
    size.add_argument(
        "--smoke", action="store_const", dest="size", const=figures.SMOKE, help="only to see that it runs"
    )
    parser.add_argument("--save", action="store_true", help="write the medians to a new file of the history")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with this run, not with the last one")
    parser.add_argument("--strict", action="store_true", help="end with status 3 when a figure has become worse")
    parser.add_argument("--history", action="store_true", help="measure nothing; tell the course of each figure")
    parser.add_argument("--folder", type=Path, default=history.FOLDER, help="of the history (default: %(default)s)")
    options = parser.parse_args(arguments)
    unknown = set(options.families) - set(FAMILIES)
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are: {', '.join(FAMILIES)}")
    compares = options.save or options.against or options.strict
    if options.history and (options.families or compares):
        parser.error("--history measures nothing: of the others, only a size and --folder go with it")
    if options.size is figures.SMOKE and compares:
        parser.error("--smoke only tells that it runs: its figures are not worth --save, --against or --strict")
    return options


def _size(options: argparse.Namespace) -> figures.Size:
    size: figures.Size = options.size or figures.FULL
    return size


def _tell_history(options: argparse.Namespace) -> int:
    found = history.runs(options.folder)
    if options.size is not None:
        found = [(where, run) for where, run in found if run.size == options.size.name]
    if not found:
        print(f"no run in {options.folder}; --save writes one")
    report.history(found, print)
    return 0


def _earlier(options: argparse.Namespace) -> tuple[str, history.Run] | None:
    """The run to compare with: looked for before the measuring, which takes long. Raises ``HistoryError``."""
    size = _size(options)
    if options.against is not None:
        run = history.read(options.against)
        if run.size != size.name:
            raise history.HistoryError(f"{options.against}: a run of size {run.size}; this one is {size.name}")
        return options.against.name, run
    return None if size is figures.SMOKE else history.latest(options.folder, size)


def _measure(options: argparse.Namespace, tables: list[Figures]) -> None:
    """Runs the families and prints each table as soon as it is there. Raises ``BenchError``."""
    raise_descriptor_limit()
    print(report.environment())
    where = "server on processor {}, load on {}".format(*processors())
    print(f"{_size(options)}\n{where}; medians of interleaved runs\n")
    for name in options.families or FAMILIES:
        try:
            for one in FAMILIES[name](_size(options), _progress):
                _progress("")
                tables.append(one)
                print(report.table(one), end="\n\n", flush=True)
        except Error as error:
            raise BenchError(f"{name}: {error}") from error


def _settle(options: argparse.Namespace, tables: Sequence[Figures], earlier: tuple[str, history.Run] | None) -> int:
    """Compares and saves what was measured; returns the status."""
    environment = report.environment()
    found: list[history.Change] = []
    if earlier is not None:
        found = history.compare(tables, environment, earlier[1])
        report.changes(found, earlier[1], earlier[0], print)
    elif _size(options) is not figures.SMOKE:
        print(f"\nno earlier run of size {_size(options).name} in {options.folder} to compare with")
    if options.save:
        print(f"saved {history.write(history.recorded(tables, _size(options), environment), options.folder)}")
    return WORSE if options.strict and any(change.verdict == "worse" for change in found) else 0


def _progress(what: str) -> None:
    """One line that overwrites itself, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
