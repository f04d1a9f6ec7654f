"""The house rules as tests: which room may import which, what importing netnet brings along, and that everything public
says what it is. The table is a policy, not a description: code is changed to fit it.
"""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import netnet

ROOT = Path(netnet.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: room → what of netnet it may import, itself aside. ``netnet`` is the package's own face, with the public names
ALLOWED = {
    "errors": set(),
    "kernel": {"errors"},
    "poller": {"errors"},
    "runtime": {"poller", "kernel", "errors"},
    "net": {"runtime", "poller", "kernel", "errors"},
    "socks": {"net", "runtime", "poller", "kernel", "errors"},
    "proxy": {"netnet", "socks", "net", "runtime", "poller", "kernel", "errors"},
    "testing": {"netnet", "socks", "net", "runtime", "poller", "kernel", "errors"},
    "flame": {"netnet", "net", "runtime", "poller", "kernel", "errors"},
    "bench": {"netnet", "flame", "socks", "net", "runtime", "poller", "kernel", "errors"},
    "cli": {"netnet", "bench", "flame", "testing", "proxy", "socks", "net", "runtime", "poller", "kernel", "errors"},
    "netnet": {"net", "runtime", "poller", "kernel", "errors"},
    "socket": {"netnet", "net", "runtime", "poller", "kernel", "errors"},
    "select": {"net", "runtime", "poller", "kernel", "errors"},
    "selectors": {"select", "net", "runtime", "poller", "kernel", "errors"},
    "__main__": {"cli"},
}

#: what a protocol may need of the standard library: nothing that reads, writes, waits or tells the time
PURE = {"__future__", "bisect", "collections", "dataclasses", "enum", "errno", "functools", "ipaddress", "re"} | {
    "struct",
    "typing",
}

#: the files of "socks" that are protocols, or policy as values → what they need beyond that, for a reason. They may
#: import each other, and the errors
PROTOCOLS = {
    "datagrams": set(),
    "handshake": set(),
    "http": set(),
    "http_head": set(),
    "proxy_protocol": set(),
    "ranges": set(),
    "requests": set(),
    "rule_items": set(),
    "rules": {"datetime", "functools"},  # days and hours; the clock can be replaced
    "socks4": set(),
    "socks5": set(),
}

#: what does input or output and needs no import
READING_OR_WRITING = {"open", "print", "input", "exec", "eval", "__import__", "compile"}


def imports(source, package):
    """Every module that *source*, a module in *package*, imports anywhere, in functions too, in full."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            module = base if node.level else node.module
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if module.split(".")[0] == "netnet" and is_module(whole) else module


def is_module(name):
    path = ROOT.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def room(module):
    """The room that a module of netnet is in."""
    parts = module.split(".")
    return "netnet" if len(parts) == 1 else parts[1]


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(path):
    return ".".join(path.relative_to(ROOT.parent).parent.parts)


def forbidden(here, package, source):
    """The imports in *source* that its room, *here*, is not allowed."""
    used = {module for module in imports(source, package) if module.split(".")[0] == "netnet"}
    return sorted(module for module in used if room(module) not in ALLOWED[here] | ({here} - {"netnet"}))


def test_imports_point_down():
    found = {name_of(path): forbidden(room(name_of(path)), package_of(path), path.read_text()) for path in FILES}
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_every_room_is_in_the_table():
    assert {room(name_of(path)) for path in FILES} <= set(ALLOWED)


CASES = [
    ("kernel", "import netnet.runtime", ["netnet.runtime"]),
    ("kernel", "from netnet.poller import epoll", ["netnet.poller.epoll"]),
    ("kernel", "from .. import poller", ["netnet.poller"]),
    ("kernel", "from ..net import relay", ["netnet.net.relay"]),
    ("kernel", "from . import transfer", []),
    ("poller", "from netnet.kernel.address import Address", ["netnet.kernel.address"]),
    ("runtime", "def late():\n    from netnet.net.sockets import Socket", ["netnet.net.sockets"]),
    ("runtime", "from netnet import net", ["netnet.net"]),
    ("net", "import netnet", ["netnet"]),
    ("net", "from netnet import connect", ["netnet"]),
    ("net", "if TYPE_CHECKING:\n    from netnet.socks import Server", ["netnet.socks"]),
    ("socks", "import netnet.cli.main as main, os", ["netnet.cli.main"]),
    ("socks", "from netnet.kernel.address import Address\nimport socket", []),
    ("errors", "from netnet import kernel", ["netnet.kernel"]),
    ("socks", "from netnet.proxy.config import load", ["netnet.proxy.config"]),
    ("proxy", "from netnet.socks.server import Server\nfrom netnet.net import workers", []),
    ("proxy", "from netnet.cli import main", ["netnet.cli.main"]),
    ("proxy", "from netnet.bench import report", ["netnet.bench"]),
    ("cli", "from netnet.proxy import service", []),
    ("cli", "import netnet\nfrom netnet.bench import report", []),
    ("bench", "from netnet.cli import main", ["netnet.cli.main"]),
]


@pytest.mark.parametrize(("here", "source", "expected"), CASES)
def test_the_check_itself(here, source, expected):
    found = forbidden(here, f"netnet.{here}", source)
    assert [name.removesuffix(".report") for name in found] == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_protocol_does_no_input_or_output(protocol):
    assert impure((ROOT / "socks" / f"{protocol}.py").read_text(), PROTOCOLS[protocol]) == []


def impure(source, more):
    """What *source*, a module of "socks", imports, and a protocol must not."""
    ours = {"netnet.errors", *(f"netnet.socks.{name}" for name in PROTOCOLS)}
    return sorted(
        name
        for name in set(imports(source, "netnet.socks"))
        if (name not in ours if name.split(".")[0] == "netnet" else name.split(".")[0] not in PURE | more)
    )


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        ("import struct\nfrom netnet.errors import ProtocolError\nfrom netnet.socks import socks4, socks5", set(), []),
        ("from collections.abc import Callable\nfrom netnet.socks.socks5 import Login", set(), []),
        ("from . import http", set(), []),
        ("import socket, bisect", set(), ["socket"]),
        ("def late():\n    import time", set(), ["time"]),
        ("import functools, datetime", {"functools"}, ["datetime"]),
        ("from netnet.socks.server import Server", set(), ["netnet.socks.server"]),
        ("from .session import Session", set(), ["netnet.socks.session"]),
        ("from netnet.net.sockets import Socket", set(), ["netnet.net.sockets"]),
        ("import netnet", set(), ["netnet"]),
        ("from netnet.socks import Login", set(), ["netnet.socks"]),
    ],
)
def test_the_check_of_protocols_itself(source, more, expected):
    assert impure(source, more) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_protocol_calls_nothing_that_does(protocol):
    tree = ast.parse((ROOT / "socks" / f"{protocol}.py").read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & READING_OR_WRITING


def test_the_face_defines_nothing():
    """It hands names on: some at once, some when they are asked for, by a table that says the same as its imports."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    for node in tree.body[1:]:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            assert ast.unparse(node.targets[0]) in ("__version__", "__all__", "_LATER")
        elif isinstance(node, ast.FunctionDef):
            assert node.name in ("__getattr__", "__dir__")
        elif isinstance(node, ast.If):
            assert ast.unparse(node.test) == "TYPE_CHECKING"
        else:
            assert isinstance(node, (ast.Import, ast.ImportFrom)), ast.unparse(node)


def handed_on():
    """The public names that the face imports at once, and those that it fetches later: name → module."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    later_body = next(node.body for node in tree.body if isinstance(node, ast.If))
    return [
        {
            alias.asname or alias.name: node.module
            for node in body
            if isinstance(node, ast.ImportFrom) and node.module.startswith("netnet")
            for alias in node.names
        }
        for body in (tree.body, later_body)
    ]


def test_names_that_are_fetched_later_are_those_that_type_checkers_see():
    _, later = handed_on()
    later["from_thread"] = "netnet.runtime.from_thread"
    assert later == netnet._LATER
    assert set(later) <= set(dir(netnet))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = netnet.nothing


def modules_after(statement):
    """The modules that are there after *statement* in a fresh interpreter, and were not before."""
    code = (
        f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps(list(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(json.loads(done.stdout))


def test_importing_netnet_needs_greenlet_and_nothing_else():
    outside = {name.split(".")[0] for name in modules_after("import netnet")} - set(sys.stdlib_module_names)
    assert outside == {"netnet", "greenlet"}


def test_importing_netnet_does_not_import_what_stands_above_it():
    rooms = {room(name) for name in modules_after("import netnet") if name.split(".")[0] == "netnet"}
    assert rooms <= {"netnet", "net", "runtime", "poller", "kernel", "errors"}


PROXY_MODULES = ", ".join(name_of(path) for path in FILES if path.parent.name == "proxy")


@pytest.mark.parametrize("modules", ["netnet.socks", "netnet.testing", "netnet.cli.main", PROXY_MODULES])
def test_no_room_needs_an_extra(modules):
    outside = {name.split(".")[0] for name in modules_after(f"import {modules}")} - set(sys.stdlib_module_names)
    assert outside == {"netnet", "greenlet"}


def test_every_public_name_is_there_and_says_what_it_is():
    silent = []
    for name in netnet.__all__:
        value = getattr(netnet, name)
        if inspect.isclass(value):
            if value.__doc__ in [None, *(base.__doc__ for base in value.__mro__[1:])]:
                silent.append(name)
        elif inspect.isroutine(value) and not value.__doc__:
            silent.append(name)
    assert silent == []


def test_the_list_of_public_names_is_whole_and_without_doubles():
    assert len(netnet.__all__) == len(set(netnet.__all__))
    now, later = handed_on()
    assert not set(now) & set(later)
    assert set(now) | set(later) == set(netnet.__all__)


def test_every_module_opens_with_a_paragraph():
    assert [name_of(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_what_modules_and_rooms_offer_has_docstrings():
    """Of the functions and classes: those in their own module's ``__all__``, and those that a room hands on."""
    silent = []
    for path in FILES:
        body = ast.parse(path.read_text()).body
        handed_on = set(public(body)) | set(public(ast.parse((path.parent / "__init__.py").read_text()).body))
        silent += [
            f"{name_of(path)}.{node.name}"
            for node in body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and node.name in handed_on
            and not ast.get_docstring(node)
        ]
    assert silent == []


def public(body):
    """The names in a module's ``__all__``."""
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from (element.value for element in node.value.elts)
