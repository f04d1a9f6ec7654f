"""``netnet bench``: measuring netnet against others, and the report. What it needs beyond the core is in the extra
``bench``, which is imported when it runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from netnet.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from netnet.bench.figures import Size

#: what the reports cannot do without
_NEEDED = ("rich", "matplotlib")

#: the command was stopped by Ctrl-C
INTERRUPTED = 130


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the parser of all."""
    parser = commands.add_parser(
        "bench",
        help="measure netnet against others, with a report",
        description="Measures netnet and what it is compared with, in turns, on this machine.",
    )
    inner = parser.add_subparsers(title="commands", dest="bench_command", metavar="COMMAND", required=True)
    _add_list(inner)
    _add_run(inner)
    _add_others(inner)


def _add_list(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("list", help="the families, and how long each takes")
    _add_size(parser)
    parser.set_defaults(run=_command(_list))


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run", help="measure and write a report", description="A run that was stopped goes on where it was."
    )
    parser.add_argument("families", nargs="*", metavar="NAME", help="families (default: all)")
    _add_size(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: netnet-bench)")
    parser.add_argument("--peers", metavar="A,B", help="only these; with netnet, where it is to be compared")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their titles")
    parser.add_argument("--seed", type=int, metavar="N", help="what random data are made from (default: 1)")
    parser.add_argument("--fresh", action="store_true", help="discard what the folder has, and start anew")
    parser.add_argument("--flame", action="store_true", help="also flame graphs of the proxy at work")
    kept = parser.add_argument_group("history")
    kept.add_argument("--save", action="store_true", help="write the medians to a new file of the history")
    kept.add_argument("--against", type=Path, metavar="FILE", help="compare with this run, not with the last one")
    kept.add_argument("--strict", action="store_true", help="end with status 3 when a figure has become worse")
    _add_folder(kept)
    parser.set_defaults(run=_command(_run))


def _add_others(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("report", help="write the report of a folder's results anew")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.set_defaults(run=_command(_report))
    parser = commands.add_parser("history", help="the course of each figure over the saved runs")
    _add_size(parser)
    _add_folder(parser)
    parser.set_defaults(run=_command(_history))
    parser = commands.add_parser("peers", help="what netnet is compared with, and how to get it")
    parser.add_argument("--install", action="store_true", help="install what PyPI and Debian have")
    parser.set_defaults(run=_command(_peers))


def _add_size(parser: argparse.ArgumentParser) -> None:
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_const", dest="size", const="quick", help="fewer, smaller cases and rounds"
    )
    size.add_argument("--smoke", action="store_const", dest="size", const="smoke", help="only to see that it runs")


def _add_folder(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--folder", type=Path, metavar="DIR", help="of the history (default: bench/history)")


def _command(does: Callable[[argparse.Namespace, Console], int]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        lacking = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
        if lacking:
            raise UsageError(f"the bench needs {' and '.join(lacking)}: pip install 'netnet[bench]'")
        from rich.console import Console

        console = Console(highlight=False)
        before = signal.signal(signal.SIGTERM, _terminated)  # so that what was started is ended
        try:
            return does(options, console)
        except KeyboardInterrupt:
            console.print("\nstopped; the same command goes on where it was", markup=False)
            return INTERRUPTED
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _size(options: argparse.Namespace) -> Size:
    from netnet.bench.figures import SIZES

    return SIZES[options.size or "full"]


def _list(options: argparse.Namespace, console: Console) -> int:
    from netnet.bench import commands

    return commands.list_families(_size(options), console)


def _run(options: argparse.Namespace, console: Console) -> int:
    from netnet.bench import commands

    if options.size == "smoke" and (options.save or options.against or options.strict):
        raise UsageError("--smoke only tells that it runs: its figures are not worth --save, --against or --strict")
    size = _size(options) if options.seed is None else dataclasses.replace(_size(options), seed=options.seed)
    wanted = commands.Wanted(
        options.families,
        size,
        peers=[peer.strip() for peer in options.peers.split(",")] if options.peers else (),
        **{
            name: value
            for name in ("out", "only", "fresh", "flame", "save", "strict", "against", "folder")
            if (value := getattr(options, name)) is not None
        },
    )
    return commands.run(wanted, console)


def _report(options: argparse.Namespace, console: Console) -> int:
    from netnet.bench import commands

    return commands.write_report(options.folder, console)


def _history(options: argparse.Namespace, console: Console) -> int:
    from netnet.bench import commands, history

    return commands.tell_history(_size(options) if options.size else None, options.folder or history.FOLDER, console)


def _peers(options: argparse.Namespace, console: Console) -> int:
    from netnet.bench import commands

    return commands.list_peers(options.install, console)
