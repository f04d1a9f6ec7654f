"""``netnet sockopts``: what this machine has of the socket options, with their defaults; and the documentation page."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import enum
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from netnet.errors import UsageError
from netnet.kernel.option import Option
from netnet.kernel.options import OPTIONS
from netnet.kernel.probe import GROUPS, Probe, probe_all

#: with so few rows, each is told in full
FULL_MAX = 6

HEADINGS = {
    "SOCKET": "Any socket: level SOL_SOCKET",
    "TCP": "TCP: level IPPROTO_TCP",
    "IP": "IPv4: level IPPROTO_IP",
    "IPV6": "IPv6: level IPPROTO_IPV6",
    "UDP": "UDP: level IPPROTO_UDP",
    "PACKET": "Link layer: level SOL_PACKET",
    "NETLINK": "Netlink: level SOL_NETLINK",
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the parser of all."""
    parser = commands.add_parser(
        "sockopts",
        help="socket options: what this machine supports, and the defaults",
        description="Asks the kernel for every socket option, on a fresh socket of the kind that it is for.",
    )
    parser.add_argument("filter", nargs="?", default="", metavar="FILTER", help="only those with this in their names")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, with everything that is known")
    form.add_argument("--markdown", action="store_true", help="the documentation page: nothing of this machine")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what was asked for."""
    if options.markdown:
        sys.stdout.write(markdown())
        return 0
    probes = probe_all(OPTIONS, lambda option: matches(option, options.filter))
    if not probes:
        names = [*OPTIONS, *(option.constant.lower() for option in OPTIONS.values())]
        near = difflib.get_close_matches(options.filter.lower(), names, 3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"no socket option has {options.filter!r} in its name{hint}")
    if options.json:
        print(json.dumps([as_json(probe) for probe in probes], indent=2, default=str))
    elif len(probes) <= FULL_MAX:
        print("\n\n".join("\n".join(in_full(probe)) for probe in probes))
    else:
        print("\n".join(as_table(probes, width())))
    return 0


def width() -> int:
    """The columns of the terminal; what goes into a file or a pipe is not cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def matches(option: Option[Any], text: str) -> bool:
    """Whether *text* is in the option's name or in its constant's."""
    return text.lower() in option.name or text.lower() in option.constant.lower()


# -- the value of an option


def shown(value: Any) -> str:
    """A value for people."""
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}(...)"
    if isinstance(value, enum.Flag):
        return "|".join(flag.name or "" for flag in type(value) if flag in value) or "0"
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ", ".join(f"{name} {number}" for name, number in zip(value._fields, value, strict=True))
    if isinstance(value, bytes):
        return value.hex() or "(empty)"
    return repr(value) if isinstance(value, str) else str(value)


def as_plain(value: Any) -> Any:
    """The same in the types of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return shown(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


# -- the forms


def about(option: Option[Any]) -> dict[str, Any]:
    """What the table says of an option."""
    return {
        "name": option.name,
        "constant": option.constant,
        "level": option.level,
        "level_number": option.level_number,
        "number": option.number,
        "type": option.value.says,
        "access": option.access.value,
        "on": option.on.value,
        "kernels": option.kernels,
        "meaning": option.meaning,
        "source": option.source,
    }


def as_json(probe: Probe) -> dict[str, Any]:
    """What the table and this machine say of an option."""
    found = {"supported": probe.supported, "default": as_plain(probe.default), "reason": probe.reason or None}
    return about(probe.option) | found


def in_full(probe: Probe) -> Iterator[str]:
    """Everything that is known of one option, for people."""
    option = probe.option
    yield f"{option.name} ({option.constant}, number {option.number} of {option.level})"
    yield from textwrap.wrap(option.meaning, 76, initial_indent="  ", subsequent_indent="  ")
    yield f"  type     {option.value.says}"
    yield f"  access   {option.access.value}"
    yield f"  for      {option.on.value}"
    yield f"  kernels  {option.kernels}"
    yield f"  source   {option.source}"
    yield f"  here     {here(probe)}"


def here(probe: Probe) -> str:
    """What this machine says."""
    if not probe.supported:
        return f"no: {probe.reason}"
    return probe.reason or f"yes, by default {shown(probe.default)}"


def as_table(probes: list[Probe], columns_max: int) -> Iterator[str]:
    """A line an option, under a heading a level, cut to the terminal; and how many there are."""
    columns = [(probe.option.name, shown(probe.default) if probe.option.readable else "(set only)") for probe in probes]
    first = max(len(name) for name, _ in columns)
    second = min(24, max(len(value) for _, value in columns))
    for group in GROUPS:
        rows = [pair for pair in zip(probes, columns, strict=True) if pair[0].option.group == group]
        if rows:
            yield HEADINGS[group]
        for probe, (name, value) in rows:
            told = probe.option.meaning if probe.supported else f"not here: {probe.reason}"
            yield cut(
                f"  {name:{first}}  {cut(value if probe.supported else '-', second):{second}}  {told}", columns_max
            )
    missing = sum(not probe.supported for probe in probes)
    yield ""
    yield f"{len(probes) - missing} options are supported here, {missing} are not. One in full: netnet sockopts NAME"


def cut(text: str, columns: int) -> str:
    """*text* in at most *columns* characters."""
    return text if len(text) <= columns else text[: columns - 3] + "..."


def markdown() -> str:
    """The documentation page."""
    lines = [
        "# Socket options",
        "",
        "Made by `netnet sockopts --markdown` from the table in `netnet/kernel/options.py`. Each is a property of",
        '`netnet.Socket`: `sock.nodelay = True`, `sock.keepidle`; by name: `sock.get_option("TCP_NODELAY")`. What this',
        "machine has, with its defaults: `netnet sockopts`.",
        "",
        "What an option does not know, cannot do or must not be given is told apart: `OptionError` (an `AttributeError`)",
        "for one that is unknown, not on this system, or can only be read or only be set; `TypeError` and `ValueError` for",
        "a value that does not fit; an `OSError` with the kernel's number for what it refuses on this socket.",
    ]
    for group in GROUPS:
        rows = sorted(
            (option for option in OPTIONS.values() if option.group == group),
            key=lambda option: option.name,
        )
        lines += ["", f"## {HEADINGS[group]}", "", "| name | value | access | for | meaning | kernels | source |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for option in rows:
            cells = (
                f"`{option.name}`<br>`{option.constant}`",
                option.value.says,
                option.access.value,
                option.on.value,
                option.meaning,
                option.kernels,
                option.source,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
