"""The configuration of the proxy: one TOML file becomes a ``Configuration``, or a list of all that is wrong with it.

Which keys there are and what they mean is a table, in ``keys``. Here: how a file becomes that, and what no single key can
tell: names that have to exist, things that exclude each other, and that nobody opens a proxy to the world by accident.
The command line without a file goes the same way, so that the same is refused.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from netnet.kernel.address import InetAddress
from netnet.proxy import forms
from netnet.proxy.keys import LIMITS, PROXY, SEVERAL, TABLES, USER, owner, read_keys
from netnet.proxy.listeners import DEFAULT_LISTEN, Listener, address_text, local, read_listeners
from netnet.proxy.problems import ConfigurationError, Place, Problem, Report, Wrong, near_miss, quoted
from netnet.proxy.rule_tables import read_rules
from netnet.proxy.toml_lines import lines_of
from netnet.socks.settings import Limits, Settings, User
from netnet.socks.upstream import parse_proxy

#: a file of ten thousand users and as many rules has about 3 MB; this keeps /dev/zero and core dumps from being read
FILE_BYTES_MAX: Final = 16 * 2**20

#: why a file that others can read is not good: what is in it
_HASHES: Final = "the hashes of passwords"
_CREDENTIALS: Final = "the passwords of upstream proxies"


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that the proxy as a service goes by. *workers*: ``None`` is one a core. *warnings* keep nobody from starting."""

    listeners: tuple[Listener, ...]
    settings: Settings
    workers: int | None = None
    drain_seconds: float = 30.0
    user: str | None = None
    group: str | None = None
    log: str = "text"
    log_connections: bool = True
    metrics: InetAddress | None = None
    status: str | None = None
    name_servers: tuple[str, ...] = ()  #: empty: the system looks names up
    file: str | None = None
    warnings: tuple[Problem, ...] = ()


def load(path: str | os.PathLike[str]) -> Configuration:
    """Reads the file at *path*. Blocks, and looks up the names in addresses of listeners; in a task that switches tasks.

    Raises ``ConfigurationError`` with all that is wrong, a file that cannot be read included.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
            status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError([Problem(name, None, "", f"cannot be read: {text}")]) from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(
            [Problem(name, None, "", f"has more than {FILE_BYTES_MAX} bytes; is it the right file?")]
        )
    configuration = replace(parse(_decoded(data, name), name), file=name)
    return replace(configuration, warnings=(*_too_open(status, configuration, name), *configuration.warnings))


def parse(text: str, name: str = "configuration") -> Configuration:
    """Reads a configuration from *text*; *name* is what messages call it.

    Looks up names in addresses of listeners; in a task that switches tasks. Raises ``ConfigurationError`` with all that is
    wrong, in the order of the lines.
    """
    document = _document(text, name)
    return _configuration(document, Report(name, lines_of(text)))


def default_configuration(
    listen: Sequence[str] = (DEFAULT_LISTEN,), *, public_without_authentication: bool = False
) -> Configuration:
    """What holds without a file: listeners at these addresses, and every default.

    Raises ``ConfigurationError``, also for an address that other machines can reach. Switches tasks as ``parse`` does.
    """
    more = {"public_without_authentication": True} if public_without_authentication else {}
    return _configuration({"listener": [{"address": one, **more} for one in listen]}, Report("--listen"))


# -- from the file to a document


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([Problem(name, line, "", "is not UTF-8; save it as that")]) from None


def _document(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError([Problem(name, None, "", "is nested too deeply")]) from None
    except ValueError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        told, line = (found[1], found[2]) if found else (str(error), None)
        number = int(line) if line else text.count("\n") + 1 if found else None
        report = Report(name)
        problem = report.problem((), f"this is not TOML: {told[:1].lower()}{told[1:]}")
        raise ConfigurationError([replace(problem, line=number)]) from None


# -- from a document to a configuration


def _configuration(document: Mapping[str, Any], report: Report) -> Configuration:
    top = Place(report)
    for name in document:
        if name not in TABLES:
            table = owner(name)
            (top / name).wrong(f"belongs below {table}" if table else f"is not known here{near_miss(name, TABLES)}")
    tables = {name: _table(top / name, document.get(name), name) for name in TABLES}
    service = read_keys(top / "proxy", tables["proxy"], PROXY)
    users = _users(top / "users", tables["users"])
    upstreams = _upstreams(top / "upstreams", tables["upstreams"])
    allow = service["default_rule"] == "allow"
    rules = read_rules(top / "rule", tables["rule"], users, upstreams, allow)
    listeners = read_listeners(top / "listener", tables["listener"], users)
    limits = _limits(top / "limits", tables["limits"])
    _check_service(top, document, service, listeners)
    report.finish()
    return Configuration(
        listeners=tuple(listeners),
        settings=Settings(limits=limits, users=users, rules=rules),
        drain_seconds=service["drain"],
        warnings=tuple(report.warnings),
        **{name: service[name] for name in _SAME},
    )


#: keys of [proxy] that are fields of ``Configuration``
_SAME: Final = ("workers", "user", "group", "log", "log_connections", "metrics", "status", "name_servers")


def _table(place: Place, value: Any, name: str) -> Any:
    """A table, or a list of them, of the document; empty if it is not there, or not what it has to be."""
    if name not in SEVERAL:
        if value is not None and not isinstance(value, dict):
            place.wrong(f"is a table: write [{name}] in a line of its own, and its keys below")
        return value if isinstance(value, dict) else {}
    right = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    if value is not None and not right:
        place.wrong(f"there can be several: write [[{name}]], with two brackets, and its keys below")
    return value if right else []


def _check_service(
    top: Place, document: Mapping[str, Any], service: Mapping[str, Any], listeners: Sequence[Listener]
) -> None:
    """What concerns the service as a whole."""
    if not document.get("listener") and "listener" not in {one.key for one in top.report.problems}:
        top.wrong(
            f'has no listener, so nobody could come in; write [[listener]] and, below, address = "{DEFAULT_LISTEN}"'
        )
    place = top / "proxy"
    if service["group"] and not service["user"]:
        (place / "group").wrong("is given, but no user; write user, too")
    for key, table in (("user", "pwd"), ("group", "grp")):
        if service[key]:
            (place / key).read(_account, (service[key], table))
    metrics = service["metrics"]
    if metrics is not None:
        (place / "metrics").read(_metrics, (metrics, {address_text(listener) for listener in listeners}))
    if service["default_rule"] == "deny" and not document.get("rule"):
        (place / "default_rule").warn('is "deny", and there are no rules: every request will be denied')


def _limits(place: Place, table: Mapping[str, Any]) -> Limits:
    values = read_keys(place, table, LIMITS)
    return Limits(**{key.field: values[key.name] for key in LIMITS})


def _users(place: Place, table: Mapping[str, Any]) -> dict[str, User]:
    return {name: _user(place / name, name, value) for name, value in table.items()}


def _user(place: Place, name: str, value: Any) -> User:
    place.read(_user_name, name)
    if not isinstance(value, dict):
        return User(name, place.read(forms.password_hash.read, value, ""))
    values = read_keys(place, value, USER)
    return User(name, values["password"] or "", values["connections"], values["bandwidth"])


def _user_name(name: str, place: Place) -> None:
    if not 0 < len(name.encode()) <= forms.NAME_BYTES_MAX:
        raise Wrong(f"a user's name has 1 to {forms.NAME_BYTES_MAX} bytes (RFC 1929)")
    if not name.isprintable() or ":" in name:
        raise Wrong("a user's name has no control characters and no colon, which HTTP could not carry (RFC 7617)")
    if name in ("*", "-") or name.startswith("$"):
        raise Wrong('"*" and "-" mean something else in rules, and "$" begins a hash; take another name for the user')


def _upstreams(place: Place, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: (place / name).read(forms.chain.read, value, ()) for name, value in table.items()}


# -- the service


def _account(value: tuple[str, str], place: Place) -> None:
    import grp
    import pwd  # both here, since most services leave that to systemd

    name, table = value
    try:
        pwd.getpwnam(name) if table == "pwd" else grp.getgrnam(name)
    except KeyError:
        raise Wrong(f"there is no {'user' if table == 'pwd' else 'group'} {quoted(name)} on this machine") from None


def _metrics(value: tuple[InetAddress, set[str]], place: Place) -> None:
    address, taken = value
    if str(address) in taken:
        raise Wrong(f"{quoted(str(address))} is the address of a listener; take another one")
    try:
        public = not local(address)
    except OSError as error:
        raise Wrong(f"{quoted(str(address))} cannot be looked up ({error.strerror}); write an IP address") from None
    if public:
        place.warn("can be read by other machines, without a password; it names users and rules")


# -- the file


def _too_open(status: os.stat_result, configuration: Configuration, name: str) -> list[Problem]:
    """What is wrong with who may read and write the file."""
    if not stat.S_ISREG(status.st_mode):
        return []
    found = []
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append(f"can be changed by others; chmod go-w {name}")
    rules = configuration.settings.rules
    secrets = [_HASHES] if configuration.settings.users else []
    if rules is not None and any(parse_proxy(url).password for rule in rules.rules for url in rule.route.upstream):
        secrets.append(_CREDENTIALS)
    if secrets and (
        status.st_mode & stat.S_IROTH or (status.st_mode & stat.S_IRGRP and not _own_group(status, configuration))
    ):
        found.append(f"can be read by others, and has {' and '.join(secrets)}; chmod 600 {name}")
    return [Problem(name, None, "", text) for text in found]


def _own_group(status: os.stat_result, configuration: Configuration) -> bool:
    """Whether the file's group is root's, or the one that the proxy runs as: that may read it."""
    import grp
    import pwd

    groups = {0, os.getegid()}
    if configuration.group:
        groups.add(grp.getgrnam(configuration.group).gr_gid)
    elif configuration.user:
        groups.add(pwd.getpwnam(configuration.user).pw_gid)
    return status.st_gid in groups


__all__ = ["Configuration", "ConfigurationError", "Listener", "Problem", "default_configuration", "load", "parse"]
