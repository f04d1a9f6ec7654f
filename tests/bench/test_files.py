"""Downloads by the bench's own server and client, and the plain proxy in C that they are compared through."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from netnet.bench.families.proxies import listening
from netnet.bench.native import program
from netnet.bench.processes import BenchError, Process, free_port

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench is for Linux"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the bench's programs need a C compiler"),
]

SEED = 7
PERIOD = 20_000_003

#: version of SOCKS → the port of no proxy
DIRECT = (0, 0)


def files(*arguments):
    return [str(program("files")), *map(str, arguments)]


def fork_proxy():
    return Process([str(program("fork_proxy"))])


def fetch(via, port, size):
    """Starts a download from here through a proxy, given by its version of SOCKS and its port."""
    version, proxy_port = via
    return Process(files("fetch", version, "127.0.0.1", proxy_port, "127.0.0.1", port, size), keep_errors=True)


def told(client):
    words = client.line()
    client.finish()
    return dict(zip(words[::2], words[1::2], strict=True))


def expected_hash(size, seed=SEED):
    with Process(files("hash", seed, size)) as process:
        return process.line()[1]


@pytest.fixture
def port():
    """That of a server of files."""
    with Process(files("serve", SEED)) as process:
        yield process.port()


@contextlib.contextmanager
def serving_once(answer):
    """A server that lets *answer* do with its one connection what it likes; its port."""

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def sending(*pieces):
    """Answers a request with these bytes, each piece by itself."""

    def answer(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert connection.recv(1000)
        for piece in pieces:
            connection.sendall(piece)

    return answer


def all_from(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


def until(condition):
    """Waits for it, 10 s at most."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


# -- the server and the client


@pytest.mark.parametrize("size", [0, 1, 31, 32, 4095, 5_000_000, PERIOD - 1, PERIOD + 1, 2 * PERIOD + 40])
def test_a_download(port, size):
    with fetch(DIRECT, port, size) as client:
        result = told(client)
    assert (int(result["bytes"]), result["hash"]) == (size, expected_hash(size))
    assert 0 < float(result["connect"]) <= float(result["seconds"])


def test_the_control_of_congestion_is_told():
    with Process(files("serve", SEED)) as server:
        server.port()
        word, name = server.line()
    assert word == "congestion"
    assert name in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


def test_what_a_file_holds(port):
    """The stream is splitmix64's: calculated here once more, and compared as bytes."""
    size = 4095

    def word(count):
        mask = 2**64 - 1
        z = (SEED + count * 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return z ^ z >> 31

    stream = b"".join(struct.pack("<Q", word(count)) for count in range(1, size // 8 + 2))[:size]
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        for byte in struct.pack(">Q", size):  # the request may come in pieces
            connection.sendall(bytes([byte]))
        assert all_from(connection) == stream
    with serving_once(sending(stream)) as ours, fetch(DIRECT, ours, size) as client:
        assert told(client)["hash"] == expected_hash(size)


def hash_of(*pieces):
    with serving_once(sending(*pieces)) as port, fetch(DIRECT, port, sum(map(len, pieces))) as client:
        return told(client)["hash"]


def test_the_hash_tells_bytes_and_places():
    text = bytes(range(256)) * 40
    changed = [
        text[:5000] + b"\0" + text[5001:],
        text[32:64] + text[:32] + text[64:],
        text[8:16] + text[:8] + text[16:],
        text[1:2] + text[:1] + text[2:],
        text[:-1] + b"\0",
        text + b"\0",
        text[:-1],
    ]
    hashes = [hash_of(text), *map(hash_of, changed)]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(text[:1], text[1:34], text[34:100], text[100:]) == hashes[0]
    assert expected_hash(1000, 7) != expected_hash(1000, 8)


def test_clients_that_leave_do_no_harm(port):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"\0\0")
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(struct.pack(">Q", 10**12))
        connection.recv(1000)
    with fetch(DIRECT, port, 1000) as client:
        assert told(client)["hash"] == expected_hash(1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "0", "-", "0", "localhost", "1", "1"], "localhost is no IPv4 address"),
        (["fetch", "5", "::1", "0", "127.0.0.1", "1", "1"], "::1 is no IPv4 address"),
        (["fetch", "6", "127.0.0.1", "0", "127.0.0.1", "1", "1"], "usage"),
        (["serve"], "usage"),
        ([], "usage"),
    ],
)
def test_what_cannot_be_asked(arguments, message):
    done = subprocess.run(files(*arguments), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("version", "answer", "message"),
    [
        (0, b"abc", "3 bytes came instead of 4"),
        (0, b"abcde", "5 bytes came instead of 4"),
        (4, b"\0\x5b" + bytes(6), "the proxy refused, SOCKS4 reply 91"),
        (4, b"\0\x5a" + bytes(5), "the proxy ended the connection before it answered"),
        (5, b"\5\xff", "the proxy wants a login, or speaks no SOCKS5"),
        (5, b"\5\0" + b"\5\5\0\1" + bytes(6), "the proxy refused, SOCKS5 reply 5"),
        (5, b"\5\0" + b"\5\0\0\7" + bytes(6), "the proxy's reply holds an address of an unknown kind"),
        (5, b"\5\0" + b"\5\0\0\1" + bytes(6) + b"abc", "3 bytes came instead of 4"),
        (5, b"\5\0" + b"\5\0\0\3\2ab" + bytes(2) + b"abcde", "5 bytes came instead of 4"),
        (5, b"\5\0" + b"\5\0\0\4" + bytes(18) + b"abcde", "5 bytes came instead of 4"),
    ],
)
def test_downloads_that_fail(version, answer, message):
    def reply(connection):
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # it has left with something unread
            all_from(connection)

    with serving_once(reply) as port, fetch((version, port), port, 4) as client:
        with pytest.raises(BenchError, match=f"status 1: {message}$"):
            client.line()


def test_nobody_listens():
    with fetch(DIRECT, free_port(), 4) as client, pytest.raises(BenchError, match="connect: Connection refused"):
        client.line()


@pytest.mark.client("microsocks")
def test_through_microsocks(port):
    proxy_port = free_port()
    with listening(["microsocks", "-i", "127.0.0.1", "-p", str(proxy_port)], proxy_port):
        with fetch((5, proxy_port), port, 5_000_000) as client:
            assert told(client)["hash"] == expected_hash(5_000_000)
        with fetch((5, proxy_port), free_port(), 1) as client, pytest.raises(BenchError, match="SOCKS5 reply 5"):
            client.line()


# -- the plain proxy


@pytest.mark.parametrize("size", [0, 1, 4095, 4097, 5_000_000])
def test_through_the_plain_proxy(port, size):
    with fork_proxy() as proxy, fetch((4, proxy.port()), port, size) as client:
        assert told(client)["hash"] == expected_hash(size)


def test_fifty_at_once(port):
    size = 300_000
    with fork_proxy() as proxy, contextlib.ExitStack() as stack:
        via = 4, proxy.port()
        clients = [stack.enter_context(fetch(via, port, size)) for _ in range(50)]
        assert {told(client)["hash"] for client in clients} == {expected_hash(size)}
        children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children")
        if children.exists():
            until(lambda: not children.read_text())


def test_a_refused_target():
    with fork_proxy() as proxy, fetch((4, proxy.port()), free_port(), 1) as client:
        with pytest.raises(BenchError, match="SOCKS4 reply 91"):
            client.line()


def connected(proxy_port, port, user=b""):
    """A connection to *port* through the plain proxy, its request sent byte by byte."""
    connection = socket.create_connection(("127.0.0.1", proxy_port), 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in struct.pack(">BBH4s", 4, 1, port, socket.inet_aton("127.0.0.1")) + user + b"\0":
        connection.sendall(bytes([byte]))
    assert connection.recv(8, socket.MSG_WAITALL) == b"\0\x5a" + bytes(6)
    return connection


def test_the_client_ends_first():
    def count(connection):
        connection.sendall(b"%d bytes" % len(all_from(connection)))

    with fork_proxy() as proxy, serving_once(count) as port, connected(proxy.port(), port, b"u" * 255) as connection:
        connection.sendall(bytes(1_000_000))
        connection.shutdown(socket.SHUT_WR)
        assert all_from(connection) == b"1000000 bytes"


def test_the_target_ends_first():
    received = []

    def end(connection):
        connection.sendall(b"that is all")
        connection.shutdown(socket.SHUT_WR)
        received.append(len(all_from(connection)))

    with fork_proxy() as proxy, serving_once(end) as port, connected(proxy.port(), port) as connection:
        assert all_from(connection) == b"that is all"
        connection.sendall(bytes(1_000_000))
        connection.close()
    assert received == [1_000_000]


@pytest.mark.parametrize(
    "request_bytes",
    [b"\5\1\0" + bytes(6), b"\4\2" + bytes(7), b"\4\1" + bytes(6) + b"u" * 256, b"\4\1"],
    ids=["SOCKS5", "BIND", "a long user name", "half a request"],
)
def test_requests_that_it_does_not_take(request_bytes):
    with fork_proxy() as proxy, socket.create_connection(("127.0.0.1", proxy.port()), 20) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        assert all_from(connection) == b""


@pytest.mark.client("curl")
def test_curl_through_the_plain_proxy():
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere"
    with fork_proxy() as proxy, serving_once(sending(reply)) as port:
        done = subprocess.run(
            ["curl", "-sS", "-m", "20", "--socks4", f"127.0.0.1:{proxy.port()}", f"http://127.0.0.1:{port}/"],
            capture_output=True,
            text=True,
        )
    assert (done.stdout, done.stderr) == ("there", "")
