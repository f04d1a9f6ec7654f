"""Every key of the configuration file: its form, its default, and what it is for. The reader and the reference go by
these tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netnet.proxy import forms
from netnet.proxy.forms import Form, many, one_of, seconds, whole
from netnet.proxy.problems import Place, near_miss
from netnet.socks.settings import PROTOCOLS, Authentication, Limits

_LIMITS: Final = Limits()

#: the seconds of a day, the longest time that makes sense for most
DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table. *shown* stands for a default that cannot be written in a file; *field* is what it sets."""

    name: str
    form: Form
    default: Any
    doc: str
    shown: str = "none"
    required: bool = False
    field: str = ""

    @property
    def default_text(self) -> str:
        """The default as the reference has it."""
        if self.required:
            return "has to be told"
        return self.shown if self.default in (None, ()) else f"`{self.form.show(self.default)}`"


PROXY: Final = (
    Key("workers", whole(1, 1024), None, "Processes that serve clients.", "one a core"),
    Key(
        "drain",
        seconds(0, DAY),
        30.0,
        "So long the connections may go on after SIGTERM. Downloads want longer, restarts shorter; systemd's own limit is"
        " 90 s.",
    ),
    Key(
        "user",
        forms.text("a user"),
        None,
        "Who to become when the sockets are open, if started as root: a service that is broken into should own nothing.",
    ),
    Key("group", forms.text("a group"), None, "And which group.", "the user's"),
    Key(
        "log",
        one_of("text", "json"),
        "text",
        "The form of the log's lines. The log goes to standard error, always: systemd, containers and `2>>file` take it"
        " from there, and none of them needs a proxy that rotates files.",
    ),
    Key("log_connections", forms.boolean, True, "A line for each connection, when it has ended."),
    Key(
        "metrics",
        forms.tcp_address,
        None,
        "Where to serve `/metrics` for Prometheus, and `/healthz`. There is no password: keep it on loopback, or behind a"
        " firewall.",
    ),
    Key(
        "status",
        forms.socket_path,
        None,
        "A UNIX socket, for `netnet proxy top`. Only its owner and root can open it.",
    ),
    Key(
        "name_servers",
        many(forms.name_server, 'a list: `["9.9.9.9", "[2620:fe::9]:53"]`'),
        (),
        "Who to ask for names (needs `netnet[dns]`), instead of the system (getaddrinfo(3)).",
        "the system",
    ),
    Key(
        "default_rule",
        one_of("allow", "deny"),
        "allow",
        "What becomes of a request that no rule matches.",
    ),
)

LISTENER: Final = (
    Key(
        "address",
        forms.listen_address,
        None,
        "Where clients connect to. `:1080` is every interface. `systemd`: all sockets that systemd hands over, or those"
        " with that `FileDescriptorName=`.",
        required=True,
    ),
    Key("name", forms.text("a text", 64), None, "What the log and the metrics call it.", "its address"),
    Key(
        "authentication",
        one_of(*Authentication),
        Authentication.NONE.value,
        "`password`: users only. `optional`: anybody, but who logs in has to get it right. `none`: anybody, and logins mean"
        " nothing.",
    ),
    Key(
        "protocols",
        many(one_of("socks5", "socks4", "http"), 'a list of `"socks5"`, `"socks4"`, `"http"`'),
        tuple(sorted(PROTOCOLS, reverse=True)),
        "What is spoken there; the first byte of a client tells them apart. `socks4` includes 4a, and has no passwords.",
    ),
    Key(
        "public_without_authentication",
        forms.boolean,
        False,
        "Has to be true for a listener that other machines can reach and that asks for no password. Such a proxy is found"
        " within hours, and used for whatever its owner will be asked about.",
    ),
    Key(
        "deny_private",
        forms.boolean,
        None,
        "Denies targets in private, loopback and other special networks, unless a rule names them: clients from elsewhere"
        " shall not reach what only this machine can reach.",
        "`true`, but `false` for loopback and UNIX sockets",
    ),
    Key(
        "proxy_protocol_from",
        many(forms.network, 'a list of networks: `["10.0.0.0/8"]`, `["unix"]`'),
        None,
        "Every connection begins with a PROXY protocol header (v1 or v2) of a load balancer in one of these networks, and"
        " nobody else may connect. Who may say so can claim any client address.",
        "no such header",
    ),
    Key(
        "advertise",
        forms.ip,
        None,
        "The address that replies to BIND and UDP ASSOCIATE tell, where clients cannot reach the own one (NAT, containers).",
        "the own one",
    ),
    Key(
        "ports",
        forms.port_range,
        None,
        "The ports for BIND and UDP, where a firewall has to let them through.",
        "the kernel's choice",
    ),
    Key(
        "strict_udp",
        forms.boolean,
        False,
        "Datagrams are taken only from the very address and port that the client announced. Off, since many clients announce"
        " something else; their IP address is checked in any case.",
    ),
)

USER: Final = (
    Key(
        "password",
        forms.password_hash,
        None,
        "The hash of the password, as `netnet proxy hash-password` makes it, or of Argon2 (needs `netnet[proxy]`). Instead"
        ' of the table, `alice = "hash"` says the same.',
        required=True,
    ),
    Key("connections", whole(1, 10**6), None, "Connections at once.", "`connections_per_user`"),
    Key("bandwidth", forms.speed, None, "Of all of the user's connections together, each way.", "`bandwidth_per_user`"),
)

RULE: Final = (
    Key("name", forms.text("a text", 64), None, "What the log and the metrics call it.", '"rule 1", and so on'),
    Key("action", one_of("allow", "deny"), None, "What becomes of a request that it matches.", required=True),
    Key("clients", many(forms.text("a network"), 'a list of networks, `"unix"`'), (), "Where the client is.", "any"),
    Key(
        "users",
        many(forms.text("a user"), 'a list of names, `"*"`, `"-"`'),
        (),
        "Who has logged in; `*`: anybody who has, `-`: who has not.",
        "any",
    ),
    Key(
        "commands",
        many(one_of("connect", "bind", "associate"), 'a list of `"connect"`, `"bind"`, `"associate"`'),
        (),
        "What the client wants; `associate` is UDP.",
        "any",
    ),
    Key(
        "destinations",
        many(forms.text("a destination"), 'a list: `"10.0.0.0/8"`, `"example.com"`, `"*.example.com"`, `"private"` …'),
        (),
        "Networks and addresses; names, with `*` and `?`; `private`, `loopback`, `public`. Rules with networks are held"
        " against every address of a name.",
        "any",
    ),
    Key("ports", many(forms.port_or_range, 'a list: `[443, "8000-8999"]`'), (), "Ports of the destination.", "any"),
    Key(
        "times",
        many(forms.text("a time"), 'a list: `["Mon-Fri 08:00-18:00", "Sat,Sun"]`'),
        (),
        "When, in local time. Connections that stand already go on.",
        "any",
    ),
    Key("upstream", forms.text("a name"), None, "Goes through the chain of that name in `[upstreams]`.", "directly"),
    Key("source", forms.ip, None, "The local address to connect from.", "the kernel's choice"),
    Key(
        "interface", forms.interface, None, "The interface to connect from (`SO_BINDTODEVICE`).", "the kernel's choice"
    ),
    Key(
        "mark",
        whole(0, 2**32 - 1),
        None,
        "The mark for the kernel's routing and firewall (`SO_MARK`; it takes `CAP_NET_ADMIN`).",
    ),
)


def _limit(name: str, form: Form, field: str, doc: str, shown: str = "no limit") -> Key:
    return Key(name, form, getattr(_LIMITS, field), doc, shown, field=field)


LIMITS: Final = (
    _limit(
        "handshake",
        seconds(0.1, 600),
        "handshake_seconds",
        "So long a client has to send its request. Programs send it, not people: a few round trips on a bad line.",
    ),
    _limit(
        "connect",
        seconds(0.1, 600),
        "connect_seconds",
        "So long the target may take to answer, looking its name up included. Clients give up after two minutes at most.",
    ),
    _limit(
        "bind",
        seconds(1, 3600),
        "bind_seconds",
        "So long BIND waits for the connection; two minutes is what the memo of SOCKS4 says.",
    ),
    _limit(
        "idle",
        seconds(1, 30 * DAY, never=True),
        "idle_seconds",
        "The longest silence of a connection. Longer than the keep-alives of SSH and web sockets, short enough to tidy up.",
    ),
    _limit(
        "linger",
        seconds(1, DAY),
        "linger_seconds",
        "The longest silence after one side has finished. Without it, peers that never close would pile up.",
    ),
    _limit(
        "connections",
        whole(1, 10**7),
        "connections",
        "Connections at once, in all. Two descriptors each: see `LimitNOFILE=` of systemd.",
        "what the descriptors allow",
    ),
    _limit("connections_per_user", whole(1, 10**7), "connections_per_user", "Connections at once of one user."),
    _limit(
        "connections_per_client",
        whole(1, 10**7),
        "connections_per_client",
        "Connections at once of one client address. Mind that many people may share one.",
    ),
    _limit(
        "new_connections_per_client",
        forms.rate,
        "new_connections_per_second_per_client",
        "New connections of one client address, in the long run.",
    ),
    _limit(
        "new_connections_burst",
        whole(1, 10**6),
        "new_connections_burst",
        "So many at once before that counts: a browser opens dozens for one page.",
    ),
    _limit("bandwidth_per_connection", forms.speed, "bandwidth_per_connection", "Of one connection, each way."),
    _limit(
        "bandwidth_per_user", forms.speed, "bandwidth_per_user", "Of all of a user's connections together, each way."
    ),
    _limit(
        "failed_logins_free",
        whole(0, 10**6),
        "failed_logins_free",
        "After so many failed logins in a row the answers to a client are delayed. People mistype, too.",
    ),
    _limit(
        "failed_login_delay",
        seconds(0, 60),
        "failed_login_delay_seconds",
        "By so long at most. Guessing becomes slow; longer would only hold connections open.",
    ),
    _limit(
        "failed_logins_max",
        whole(1, 10**6),
        "failed_logins_max",
        "After so many failed logins in a row a client address is not served at all …",
    ),
    _limit("ban", seconds(0, 30 * DAY), "ban_seconds", "… for so long. Short, since the address may have other users."),
    _limit(
        "udp_targets",
        whole(1, 65536),
        "udp_targets",
        "Targets of one UDP association at once; the one that was silent longest makes room.",
    ),
    _limit(
        "udp_idle",
        seconds(1, DAY),
        "udp_idle_seconds",
        "The silence after which such a target is forgotten. RFC 4787 says two minutes or more.",
    ),
)

#: the tables of a file, in the order of the reference: name → keys
TABLES: Final[dict[str, tuple[Key, ...]]] = {
    "proxy": PROXY,
    "listener": LISTENER,
    "users": USER,
    "upstreams": (),
    "rule": RULE,
    "limits": LIMITS,
}

#: tables of which there can be several, with two brackets
SEVERAL: Final = frozenset({"listener", "rule"})


def owner(name: str) -> str | None:
    """The table that a key belongs to, as a file has it; ``None`` if there is no such key."""
    for table, keys in TABLES.items():
        if any(key.name == name for key in keys):
            return {"users": "[users.NAME]"}.get(table, f"[[{table}]]" if table in SEVERAL else f"[{table}]")
    return None


def read_keys(place: Place, table: Mapping[str, Any], keys: Sequence[Key]) -> dict[str, Any]:
    """Every key's value: what *table* says, or the default. What is unknown, missing or wrong is noted."""
    names = [key.name for key in keys]
    for name in table:
        if name not in names:
            hint = near_miss(name, names)
            other = None if hint else owner(name)
            (place / name).wrong(f"belongs below {other}" if other else f"is not known here{hint}")
    for key in keys:
        if key.required and key.name not in table:
            place.wrong(f"needs {key.name}: {key.form.text.replace('`', '')}")
    return {key.name: _value(place / key.name, table, key) for key in keys}


def _value(place: Place, table: Mapping[str, Any], key: Key) -> Any:
    return place.read(key.form.read, table[key.name], key.default) if key.name in table else key.default
