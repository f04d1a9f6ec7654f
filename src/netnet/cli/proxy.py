"""``netnet proxy``: runs the SOCKS proxy until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import gc
import sys

import netnet
from netnet.cli.lines import LineWriter
from netnet.kernel.limits import raise_descriptor_limit
from netnet.runtime.signals import TERMINATED
from netnet.socks import Limits, Server, connections_max

DEFAULT_LISTEN = "127.0.0.1:1080"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("proxy", help="run a SOCKS4/4a proxy", description=__doc__)
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=DEFAULT_LISTEN,
        type=_address,
        help="where to listen; [::1]:1080 and unix:/path work, too (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no log line for each connection")
    parser.set_defaults(run=run)


def _address(text: str) -> netnet.Address:
    try:
        return netnet.parse_address(text)
    except netnet.AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> int:
    """Runs the proxy. Exit status 0 after SIGTERM, 130 after Ctrl-C."""
    try:
        netnet.run(_serve, options.listen, options.quiet)
    except KeyboardInterrupt:
        print("netnet proxy: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        print("netnet proxy: stopped by SIGTERM", file=sys.stderr)
    return 0


def _serve(address: netnet.Address, quiet: bool) -> None:
    descriptors = raise_descriptor_limit()
    lines = LineWriter(sys.stderr)
    limits = Limits(connections=connections_max(descriptors))
    server = Server(
        limits=limits,
        report=(lambda session: None) if quiet else (lambda session: lines.write(session.line(netnet.now()))),
    )
    with netnet.listen(address) as listener:
        print(_greeting(listener, limits), flush=True)
        gc.freeze()  # what stands now stands for good: the collector need not go through it again and again
        server.serve(listener)


def _greeting(listener: netnet.Socket, limits: Limits) -> str:
    """What is served where, and a line to paste."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"SOCKS4/4a proxy on unix:{name}, at most {limits.connections} connections. Ctrl-C stops it."
    where = netnet.InetAddress(name[0], name[1])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host)
    return (
        f"SOCKS4/4a proxy on {where}, at most {limits.connections} connections. Ctrl-C stops it. Try:\n"
        f"  curl --socks4a {netnet.InetAddress(host, where.port)} http://example.com/"
    )
