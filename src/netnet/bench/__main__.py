"""``python -m netnet.bench [FAMILY ...] [--quick|--smoke]``."""

from __future__ import annotations

import argparse
import sys

from netnet.bench import families, report
from netnet.bench.processes import BenchError, processors
from netnet.errors import Error
from netnet.kernel.limits import raise_descriptor_limit


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m netnet.bench", description="netnet against others, as ratios.")
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", help=f"of {', '.join(families.FAMILIES)} (default: all)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="size", const=families.QUICK, help="fewer, shorter runs")
    size.add_argument(
        "--smoke", action="store_const", dest="size", const=families.SMOKE, help="only to see that it runs"
    )
    parser.set_defaults(size=families.FULL)
    options = parser.parse_args(arguments)
    unknown = set(options.families) - set(families.FAMILIES)
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are: {', '.join(families.FAMILIES)}")
    raise_descriptor_limit()
    print(report.environment())
    where = "server on processor {}, load on {}".format(*processors())
    print(f"{options.size}\n{where}; medians of interleaved runs\n")
    tables = []
    for name in options.families or families.FAMILIES:
        try:
            for figures in families.FAMILIES[name](options.size, _progress):
                _progress("")
                tables.append(figures)
                print(report.table(figures), end="\n\n", flush=True)
        except (BenchError, Error) as error:
            _progress("")
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    report.targets(tables, print)
    return 0


def _progress(what: str) -> None:
    """One line that overwrites itself, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
