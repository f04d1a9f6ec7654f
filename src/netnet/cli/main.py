"""``netnet`` and ``python -m netnet``: the sub-commands and their arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import netnet
from netnet.cli import bench, flame, proxy, sockopts


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="netnet", description="Virtual threads and sockets for Python, and a SOCKS proxy."
    )
    parser.add_argument("--version", action="version", version=f"netnet {netnet.__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    proxy.add_to(commands)
    sockopts.add_to(commands)
    bench.add_to(commands)
    flame.add_to(commands)
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except (OSError, netnet.Error) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else error
        print(f"netnet: {text}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
