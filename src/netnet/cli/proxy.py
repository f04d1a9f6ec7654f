"""``netnet proxy``: runs the proxy, and what belongs to running it. Arguments to calls; the work is in ``netnet.proxy``."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import logging
import sys
import threading
from collections.abc import Callable
from functools import partial

import netnet
from netnet import flame
from netnet.net.workers import Supervisor
from netnet.proxy.config import Configuration, ConfigurationError, default_configuration, load
from netnet.proxy.listeners import DEFAULT_LISTEN
from netnet.proxy.log import Log, logging_to
from netnet.proxy.running import RunningService
from netnet.runtime.signals import TERMINATED
from netnet.socks.requests import Command


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "proxy",
        help="run a proxy for SOCKS4, 4a, 5 and HTTP",
        description="Runs a proxy for SOCKS4, 4a, 5 and HTTP until Ctrl-C or SIGTERM. SIGHUP reads the configuration again.",
    )
    parser.add_argument("--config", metavar="FILE", help="the configuration, a TOML file")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        type=_address,
        help=f"where to listen, without a file; [::1]:1080 and unix:/path work, too (default: {DEFAULT_LISTEN})",
    )
    parser.add_argument("--workers", metavar="N", type=_count, help="processes that serve (default: one a core)")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", type=_tcp_address, help="where to serve metrics for Prometheus, and /healthz"
    )
    parser.add_argument("--status", metavar="PATH", help="a UNIX socket for 'netnet proxy top'")
    parser.add_argument("--quiet", action="store_true", help="no log line for each connection")
    parser.set_defaults(run=run)
    more = parser.add_subparsers(title="instead of running it", metavar="COMMAND")
    _add_check(more)
    _add_explain(more)
    _add_hash(more)
    _add_top(more)


def _address(text: str) -> str:
    try:
        netnet.parse_address(text)
    except netnet.AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _tcp_address(text: str) -> netnet.InetAddress:
    address = netnet.parse_address(_address(text))
    if not isinstance(address, netnet.InetAddress):
        raise argparse.ArgumentTypeError(f"{text!r} is no host and port")
    return address


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1024")
    return int(text)


# -- running


def run(options: argparse.Namespace) -> int:
    """Runs the proxy. Exit status 0 after SIGTERM, 130 after Ctrl-C, 1 where it cannot start."""
    if options.config is not None and options.listen:
        print("netnet proxy: give --config or --listen, not both", file=sys.stderr)
        return 2
    read = partial(load, options.config) if options.config is not None else partial(_default, options.listen)
    if threading.current_thread() is threading.main_thread():
        flame.allow()  # `netnet flame --pid` may look at it and at its workers
    try:
        netnet.run(_serve, read, options)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"netnet proxy: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("netnet proxy: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        print("netnet proxy: stopped by SIGTERM", file=sys.stderr)
    return 0


def _default(listen: list[str] | None) -> Configuration:
    return default_configuration(listen or [DEFAULT_LISTEN])


def _serve(read: Callable[[], Configuration], options: argparse.Namespace) -> None:
    configuration = read()
    writer = Log(form=configuration.log)
    service = RunningService(
        read, writer, workers=options.workers, quiet=options.quiet, metrics=options.metrics, status=options.status
    )
    with contextlib.closing(writer), logging_to(writer, logging.WARNING):
        plan = service.plan()
        supervisor = Supervisor(plan.sources, service, plan.workers, plan.drain_seconds)
        service.run(supervisor, partial(_greet, plan.workers))


def _greet(workers: int, addresses: list[object]) -> None:
    """What is served where, and a line to paste."""
    for address in addresses:
        count = f"{workers} worker{'s' if workers > 1 else ''}"
        print(f"SOCKS4/4a/5 and HTTP proxy on {address}, {count}. Ctrl-C stops it.")
    first = addresses[0] if addresses else None
    if isinstance(first, netnet.InetAddress):
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host)
        near = netnet.InetAddress(host, first.port)
        print(f"Try:\n  curl --proxy socks5h://{near} http://example.com/")
    sys.stdout.flush()


# -- instead of running it


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("check", help="is a configuration file right?", description="Tests a file.")
    parser.add_argument("file")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    try:
        configuration = load(options.file)
    except ConfigurationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        print(f"{options.file}: {count} problem{'s' if count != 1 else ''}", file=sys.stderr)
        return 1
    for warning in configuration.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    settings = configuration.settings
    rules = len(settings.rules.rules) if settings.rules else 0
    print(
        f"{options.file}: right. {_many(len(configuration.listeners), 'listener')}, {_many(len(settings.users), 'user')},"
        f" {_many(rules, 'rule')}"
    )
    return 0


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain", help="which rule decides about a request, and why", description="Says which rule decides, and why."
    )
    parser.add_argument("file")
    parser.add_argument("--client", required=True, metavar="ADDRESS", help='who asks: an IP address, or "unix"')
    parser.add_argument("--dest", required=True, metavar="HOST:PORT", help="where to")
    parser.add_argument("--user", help="who has logged in")
    parser.add_argument(
        "--command", choices=[one.name.lower() for one in Command], default="connect", help="(default: %(default)s)"
    )
    parser.add_argument("--listener", metavar="NAME", help="by its name or address (default: the first)")
    parser.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    from netnet.net.resolvers import use_resolver
    from netnet.proxy.explain import Question, explain
    from netnet.proxy.service import resolver_of

    try:
        configuration = load(options.file)
    except ConfigurationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    question = Question(options.client, options.dest, options.user, Command[options.command.upper()], options.listener)
    with contextlib.ExitStack() as stack:
        if configuration.name_servers:  # those that the proxy asks, too
            stack.enter_context(use_resolver(resolver_of(configuration.name_servers)))
        for line in explain(configuration, question):
            print(line)
    return 0


def _add_hash(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "hash-password",
        help="make the hash of a password, for the configuration",
        description="Asks for a password, or reads one line of standard input, and prints its hash.",
    )
    parser.set_defaults(run=_hash)


def _hash(options: argparse.Namespace) -> int:
    from netnet.proxy.passwords import hash_password

    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            print("netnet proxy: the two are not the same", file=sys.stderr)
            return 1
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        print(hash_password(password))
    except ValueError as error:
        print(f"netnet proxy: {error}", file=sys.stderr)
        return 1
    return 0


def _add_top(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from netnet.proxy import top  # here, since the proxy itself does without

    parser = commands.add_parser(
        "top",
        help="watch a running proxy",
        description="Shows connections, users, rates and errors of a running proxy.",
    )
    top.add_arguments(parser)
    parser.set_defaults(run=top.run)
