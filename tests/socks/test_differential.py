"""The same bytes to netnet's proxy, to microsocks and to dante: what comes back, and how the connection ends.

What ours answers is fixed in ``EXCHANGES``; where the others answer otherwise it stands in ``DIFFERENCES``, with the
reason why we do not do the same. Both tables are held against the programs, so neither can become untrue unnoticed. Of
another version than the one that was looked at, a difference that is not there is no failure.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from dataclasses import dataclass

import pytest

from tests.cli.process import PATIENCE_SECONDS, configured_proxy
from tests.socks.origin import COMMON, LISTENER, refusing_port, tcp_target
from tests.socks.programs import dante, microsocks

#: of these versions the table of differences tells (Debian's package → the beginning of its version)
SEEN = {"microsocks": ("microsocks", "1.0.3"), "dante": ("dante-server", "1.4.2")}

#: so long a proxy that has lost a request is listened to
SILENCE_SECONDS = 1.0

QUESTION = b"question\n"
ANSWER = b"answer " * 15_000

GREETING = b"\5\1\0"
NO_METHOD = b"\5\xff"
FIN = None  # as a step: shutdown(SHUT_WR)


def target(conn):
    """Answers a line, or whatever has ended."""
    with conn.makefile("rb") as file:
        file.readline()
    with contextlib.suppress(OSError):  # who has given up does not want it
        conn.sendall(ANSWER)


def by_name(name, port, command=1):
    return struct.pack(">BBBBB", 5, command, 0, 3, len(name)) + name + port.to_bytes(2, "big")


def by_address(port, command=1, version=5, kind=1, reserved=0):
    return struct.pack(">BBBB4sH", version, command, reserved, kind, b"\x7f\0\0\1", port)


@dataclass(frozen=True)
class Exchange:
    """*steps*: a function (target's port, port where nobody is) → bytes to send, numbers of bytes to have received before
    going on, FIN. *ours*: what netnet answers, as ``told`` has it."""

    steps: object
    ours: tuple[str, ...]


GRANTED = ("0500", "00", "answer", "end")

STALLS = "stalls in the greeting"

EXCHANGES = {
    "step by step": Exchange(lambda port, _: [GREETING, 2, by_address(port), 12, QUESTION], GRANTED),
    "byte by byte": Exchange(
        # the pause is for who takes the first byte for the whole message
        lambda port, _: [b"\5", 0.3, *_bytes(GREETING[1:]), *_bytes(by_address(port)), 12, QUESTION],
        GRANTED,
    ),
    "all in one segment": Exchange(lambda port, _: [GREETING + by_address(port) + QUESTION], GRANTED),
    "data glued to the request": Exchange(lambda port, _: [GREETING, 2, by_address(port) + QUESTION], GRANTED),
    "half-close": Exchange(lambda port, _: [GREETING, 2, by_address(port), 12, b"no end of line", FIN], GRANTED),
    "by name": Exchange(lambda port, _: [GREETING, 2, by_name(b"localhost", port), 12, QUESTION], GRANTED),
    "nobody is there": Exchange(lambda _, port: [GREETING, 2, by_address(port)], ("0500", "05", "end")),
    "unknown name": Exchange(
        lambda port, _: [GREETING, 2, by_name(b"no.such.host.invalid", port)], ("0500", "04", "end")
    ),
    "name of length 0": Exchange(lambda port, _: [GREETING, 2, by_name(b"", port)], ("0500", "01", "end")),
    "name with a NUL": Exchange(lambda port, _: [GREETING, 2, by_name(b"a\0b", port)], ("0500", "01", "end")),
    "unknown kind of address": Exchange(lambda port, _: [GREETING, 2, by_address(port, kind=5)], ("0500", "08", "end")),
    "unknown command": Exchange(lambda port, _: [GREETING, 2, by_address(port, command=9)], ("0500", "07", "end")),
    "reserved byte is not 0": Exchange(
        lambda port, _: [GREETING, 2, by_address(port, reserved=1), 12, QUESTION], GRANTED
    ),
    "version 4 in the request": Exchange(
        lambda port, _: [GREETING, 2, by_address(port, version=4)], ("0500", "01", "end")
    ),
    "unknown method": Exchange(lambda *_: [b"\5\1\x7e"], ("05ff", "end")),
    "no method": Exchange(lambda *_: [b"\5\0"], ("05ff", "end")),
    "255 methods": Exchange(lambda port, _: [b"\5\xff" + bytes(255), 2, by_address(port), 12, QUESTION], GRANTED),
    # nobody has said who may log in: what is offered is taken, and means nothing
    "login is the only method": Exchange(
        lambda port, _: [b"\5\1\2", 2, b"\1\2me\1x", 4, by_address(port), 14, QUESTION],
        ("0502", "0100", "00", "answer", "end"),
    ),
    "BIND": Exchange(lambda *_: [GREETING, 2, by_address(0, command=2), 12, FIN], ("0500", "00", "01", "end")),
    "UDP ASSOCIATE": Exchange(lambda *_: [GREETING, 2, by_address(0, command=3), 12, FIN], ("0500", "00", "end")),
    "leaves in the greeting": Exchange(lambda *_: [b"\5", FIN], ("05ff", "end")),
    "leaves in the request": Exchange(lambda port, _: [GREETING, 2, by_address(port)[:7], FIN], ("0500", "01", "end")),
    STALLS: Exchange(lambda *_: [b"\5"], ("05ff", "end")),
    "SOCKS4": Exchange(
        lambda port, _: [b"\4\1" + port.to_bytes(2, "big") + b"\x7f\0\0\1me\0", 8, QUESTION], ("5a", "answer", "end")
    ),
    "HTTP": Exchange(
        lambda port, _: [b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port, 19, QUESTION],
        ("HTTP/1.1 200", "answer", "end"),
    ),
    "TLS": Exchange(lambda *_: [b"\x16\3\1\2\0\1"], ("end",)),
}


def _bytes(data):
    return [data[at : at + 1] for at in range(len(data))]


ONE_PIECE = "one recv is taken for one message"
NO_REPLY = "it closes, and its client cannot tell why"

#: what the others answer, and why we do not
DIFFERENCES = {
    "microsocks": {
        "byte by byte": (("05ff", "end"), ONE_PIECE),
        "all in one segment": (("0500", "silence"), f"{ONE_PIECE}: the request is lost, and the client waits for ever"),
        "data glued to the request": (("0500", "00", "silence"), f"{ONE_PIECE}: what follows the request is lost"),
        "half-close": (("0500", "00", "end"), "at the first end it closes both sides: the answer is lost"),
        "unknown name": (
            ("0500", "01", "end"),
            "01 is for what has no code; 04 tells that the fault is not the proxy's",
        ),
        "reserved byte is not 0": (("0500", "01", "end"), "RFC 1928 does not say what to do; others are lenient"),
        "login is the only method": (("05ff", "end"), "some clients offer nothing but their login, needed or not"),
        "BIND": (("0500", "07", "end"), "it has CONNECT only"),
        "UDP ASSOCIATE": (("0500", "07", "end"), "it has CONNECT only"),
        "SOCKS4": (("05ff", "end"), "it has SOCKS5 only"),
        "HTTP": (("05ff", "end"), "it has SOCKS5 only"),
        "TLS": (("05ff", "end"), "an answer in SOCKS5 to what is none"),
    },
    "dante": {
        "unknown name": (
            ("0500", "other 05040003", "end"),
            "the name comes back as the address; few clients read that",
        ),
        "name of length 0": (
            ("0500", "other 05040003", "end"),
            "it is asked for, and comes back in a reply of 9 bytes",
        ),
        "name with a NUL": (("0500", "other 05040003", "end"), "the NUL cuts the name off: another one than was meant"),
        "unknown kind of address": (("0500", "end"), NO_REPLY),
        "unknown command": (("0500", "end"), NO_REPLY),
        "version 4 in the request": (("0500", "silence"), "it reads on, as if this were SOCKS4"),
        "login is the only method": (("05ff", "end"), "some clients offer nothing but their login, needed or not"),
        "BIND": (("0500", "00", "end"), "there is no second reply when the client has finished"),
        "leaves in the greeting": (("end",), "to who does not listen any more, an answer makes no difference"),
        "leaves in the request": (("0500", "end"), "to who does not listen any more, an answer makes no difference"),
        STALLS: (("silence",), "it waits for 30 s by default, and says nothing then; here it is watched for a second"),
        "HTTP": (("end",), "it has SOCKS only"),
    },
}


#: kind of address → length of the reply; a refusal with another one leaves its reader in doubt about where it ends
REPLY_BYTES = {b"\1": 10, b"\4": 22}


def told(data):
    """An answer as words: the method, the code of each reply, and what was relayed."""
    words = []
    if data[:1] == b"\5":
        words.append(data[:2].hex())
        if data[1:2] == b"\2" and len(data) > 2:
            words.append(data[2:4].hex())
            data = data[2:]
        data = data[2:]
        while data[:1] == b"\5" and len(data) >= REPLY_BYTES.get(data[3:4], 1000):
            words.append(f"{data[1]:02x}")
            data = data[REPLY_BYTES[data[3:4]] :]
    elif data[:1] == b"\0" and len(data) >= 8:
        words.append(f"{data[1]:02x}")
        data = data[8:]
    elif data[:5] == b"HTTP/":
        head, _, data = data.partition(b"\r\n\r\n")
        words.append(head[:12].decode())
    if data:
        words.append("answer" if data == ANSWER else f"other {data[:4].hex()}")
    return tuple(words)


class Conversation:
    """A client that takes *steps*; *patience_seconds*: silence after which it gives up."""

    def __init__(self, address, patience_seconds):
        host, port = address.split(":")
        self.sock = socket.create_connection((host, int(port)), timeout=patience_seconds)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.end = ""

    def take(self, steps):
        with self.sock:
            for step in steps:
                if not self._refused():
                    self._take_one(step)
            self._receive_until(1 << 30)
        return (*told(self.received), self.end)

    def _refused(self):
        """Nobody goes on after that: what is sent to who has closed turns the end into a reset."""
        method, reply = self.received[:2], self.received[2:4]
        return method == NO_METHOD or (method == b"\5\0" and reply[:1] == b"\5" and reply[1:] not in (b"", b"\0"))

    def _take_one(self, step):
        if isinstance(step, int):
            self._receive_until(step)
        elif isinstance(step, float):
            patience = self.sock.gettimeout()
            self.sock.settimeout(step)
            self._receive_until(1)
            self.end = "" if self.end == "silence" else self.end
            self.sock.settimeout(patience)
        else:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer tells
                self.sock.sendall(step) if step else self.sock.shutdown(socket.SHUT_WR)

    def _receive_until(self, size):
        while len(self.received) < size and not self.end:
            try:
                data = self.sock.recv(1 << 20)
            except TimeoutError:
                self.end = "silence"
            except ConnectionResetError:
                self.end = "reset"
            else:
                self.received += data
                self.end = "" if data else "end"


# -- the proxies


@contextlib.contextmanager
def netnet_proxy(directory):
    with configured_proxy(directory, COMMON + LISTENER.format(address="127.0.0.1:0", authentication="none")) as process:
        yield process.address


@contextlib.contextmanager
def impatient_netnet_proxy(directory):
    text = COMMON + LISTENER.format(address="127.0.0.1:0", authentication="none") + '[limits]\nhandshake = "200 ms"\n'
    with configured_proxy(directory, text) as process:
        yield process.address


START = {
    "netnet": netnet_proxy,
    "impatient netnet": impatient_netnet_proxy,
    "microsocks": lambda _: microsocks(),
    "dante": dante,
}


PEERS = [
    pytest.param("microsocks", marks=pytest.mark.client("microsocks")),
    pytest.param("dante", marks=pytest.mark.client("danted")),
]


@pytest.fixture(scope="module")
def proxy(request, tmp_path_factory):
    """The proxy of the name that is the parameter: name and address."""
    with START[request.param](tmp_path_factory.mktemp("proxy")) as address:
        yield request.param, address


def exchange(address, name, patience_seconds):
    with tcp_target(target) as port, refusing_port() as nobody:
        return Conversation(address, patience_seconds).take(EXCHANGES[name].steps(port, nobody))


@pytest.mark.parametrize(
    ("proxy", "name"),
    [("impatient netnet" if one == STALLS else "netnet", one) for one in EXCHANGES],
    indirect=["proxy"],
)
def test_ours(proxy, name):
    assert exchange(proxy[1], name, PATIENCE_SECONDS) == EXCHANGES[name].ours


@pytest.mark.parametrize("proxy", PEERS, indirect=True)
@pytest.mark.parametrize("name", EXCHANGES)
def test_theirs(proxy, name):
    peer, address = proxy
    ours = EXCHANGES[name].ours
    expected, why = DIFFERENCES[peer].get(name, (ours, "as ours"))
    answer = exchange(address, name, SILENCE_SECONDS if "silence" in expected else PATIENCE_SECONDS)
    unseen_only(peer, answer == expected, f"{answer} and not {expected} ({why}); ours is {ours}")


def unseen_only(peer, as_expected, message):
    """Fails if *peer* is not as expected, unless it is another version than the one that was looked at."""
    package, seen = SEEN[peer]
    version = installed_version(package)
    if not as_expected and not version.startswith(seen):
        pytest.skip(f"{peer} {version or 'of unknown version'} (seen: {seen}): {message}")
    assert as_expected, message


def installed_version(package):
    with contextlib.suppress(FileNotFoundError):
        asked = ["dpkg-query", "-W", "-f", "${Version}", package]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return ""


def test_the_table_of_differences():
    """It has differences only, of exchanges that there are, each with a reason."""
    for table in DIFFERENCES.values():
        for name, (answer, why) in table.items():
            assert answer != EXCHANGES[name].ours
            assert why


#: the address in the reply to CONNECT: the one that the target sees, as RFC 1928 has it, or none
@pytest.mark.parametrize("proxy", ["netnet", *PEERS], indirect=True)
def test_the_bound_address(proxy):
    peer, address = proxy

    def tell_who_came(conn):
        conn.sendall("{}:{}".format(*conn.getpeername()).encode())

    with tcp_target(tell_who_came) as port:
        host, _, proxy_port = address.partition(":")
        with socket.create_connection((host, int(proxy_port)), PATIENCE_SECONDS) as sock, sock.makefile("rb") as file:
            sock.sendall(GREETING)
            assert file.read(2) == b"\5\0"
            sock.sendall(by_address(port))
            reply = file.read(10)
            came = file.read().decode()
    assert reply[:4] == b"\5\0\0\1"
    bound = f"{socket.inet_ntoa(reply[4:8])}:{int.from_bytes(reply[8:])}"
    if peer == "netnet":
        assert bound == came
    else:
        unseen_only(peer, bound == ("0.0.0.0:0" if peer == "microsocks" else came), f"{bound}, and {came} came")
