"""Connections through the proxies that people run: microsocks, dante, ncat; alone, in chains, and with moved data checked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import random
import socket

import pytest

import netnet
from netnet.socks.asking import ProxyError
from netnet.socks.client import associate, bind, connect
from netnet.socks.requests import Outcome
from tests.socks.programs import dante, microsocks, ncat

MOVED_BYTES = 3_000_000


@contextlib.contextmanager
def digesting():
    """A target: sends a banner at once, and the digest of what it was sent when that has ended."""

    def digest(conn):
        conn.sendall(b"banner\n")
        total = hashlib.sha256()
        for chunk in conn:
            total.update(chunk)
        conn.sendall(total.digest())

    with netnet.listen("127.0.0.1:0") as listener:
        task = netnet.spawn(netnet.serve, listener, digest)
        try:
            yield listener.getsockname()[1]
        finally:
            task.cancel()


def move(run, *chain, host="127.0.0.1"):
    """Moves data through *chain* and back."""
    data = random.Random(3).randbytes(MOVED_BYTES)

    def main():
        with digesting() as port, connect((host, port), via=chain) as sock:
            assert sock.recv(7, socket.MSG_WAITALL) == b"banner\n"
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(sock)

    assert run(main) == hashlib.sha256(data).digest()


@pytest.mark.client("microsocks")
def test_microsocks(run):
    with microsocks() as address:
        for scheme, host in [("socks5", "localhost"), ("socks5h", "localhost"), ("socks5", "127.0.0.1")]:
            through(run, f"{scheme}://{address}", host)


def through(run, url, host="127.0.0.1"):
    """A banner comes through, for programs that do not keep a half-closed connection."""

    def main():
        with digesting() as port, connect((host, port), via=url) as sock:
            assert sock.recv(7, socket.MSG_WAITALL) == b"banner\n"

    run(main)


@pytest.mark.client("microsocks")
def test_microsocks_with_a_login(run):
    with microsocks("-u", "fred", "-P", "s@cret") as address:
        through(run, f"socks5h://fred:s%40cret@{address}", "localhost")
        for url in (f"socks5h://fred:wrong@{address}", f"socks5h://{address}"):
            with pytest.raises(PermissionError, match="the proxy (takes none|does not take)"):
                through(run, url)


@pytest.mark.client("microsocks")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_microsocks_and_a_refused_target(run, scheme):
    with microsocks() as address, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError) as caught:
            run(connect_to, refusing.getsockname(), f"{scheme}://{address}")
        assert isinstance(caught.value, ProxyError)
        assert caught.value.outcome is Outcome.REFUSED


def connect_to(target, via):
    connect(target, via=via).close()


@pytest.mark.client("microsocks")
def test_microsocks_outside_a_loop():
    with microsocks() as address, socket.create_server(("127.0.0.1", 0)) as target:
        with connect(target.getsockname(), via=f"socks5h://{address}") as sock:
            accepted, _ = target.accept()
            with accepted:
                accepted.sendall(b"hello")
            assert sock.recv(5) == b"hello"


@pytest.mark.client("ncat")
def test_ncat(run):
    with ncat() as address:
        through(run, f"http://{address}")
        through(run, f"http://{address}", "localhost")


@pytest.mark.client("ncat")
def test_ncat_with_a_login(run):
    with ncat("--proxy-auth", "fred:secret") as address:
        through(run, f"http://fred:secret@{address}")
        for url in (f"http://fred:wrong@{address}", f"http://{address}"):
            with pytest.raises(PermissionError, match="407") as caught:
                through(run, url)
            assert "wrong" not in str(caught.value)


@pytest.mark.client("danted")
def test_dante_moves_data_and_keeps_half_closed_connections(run, tmp_path):
    with dante(tmp_path) as address:
        for scheme in ("socks4", "socks5", "socks5h"):
            move(run, f"{scheme}://{address}")
            move(run, f"{scheme}://{address}", host="localhost")


@pytest.mark.client("danted")
def test_dante_and_a_refused_target(run, tmp_path):
    with dante(tmp_path) as address, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError) as caught:
            run(connect_to, refusing.getsockname(), f"socks5h://{address}")
        assert caught.value.outcome is Outcome.REFUSED
        with pytest.raises(ConnectionAbortedError):  # SOCKS4 has one code for all failures
            run(connect_to, refusing.getsockname(), f"socks4://{address}")


@pytest.mark.client("danted")
@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_dante_binds(run, tmp_path, scheme):
    def main(address):
        with bind("127.0.0.1:0", via=f"{scheme}://{address}") as binding:
            with netnet.connect(binding.address) as peer:
                peer.sendall(b"from the peer")
                sock, told = binding.accept()
                with sock:
                    assert (told.host, told.port) == peer.getsockname()
                    assert sock.recv(13, socket.MSG_WAITALL) == b"from the peer"
                    sock.sendall(b"to the peer")
                    assert peer.recv(11, socket.MSG_WAITALL) == b"to the peer"

    with dante(tmp_path) as address:
        run(main, address)


@pytest.mark.client("danted")
def test_dante_relays_datagrams(run, tmp_path):
    def main(address):
        with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
            target.bind(("127.0.0.1", 0))
            port = target.getsockname()[1]
            with associate(via=f"socks5h://{address}") as datagrams:
                for host in ("127.0.0.1", "localhost"):
                    datagrams.send_to(b"question", (host, port))
                    question, client = target.recvfrom(100)
                    assert question == b"question"
                    target.sendto(b"answer", client)
                    assert datagrams.receive() == (b"answer", ("127.0.0.1", port))

    with dante(tmp_path) as address:
        run(main, address)


@pytest.mark.client("danted", "ncat", "microsocks")
def test_chains(run, tmp_path):
    with dante(tmp_path) as first, ncat() as second, microsocks() as third:
        chains = [
            [f"http://{second}", f"socks5h://{first}"],
            [f"socks5h://{third}", f"http://{second}"],
            [f"http://{second}", f"socks4://{first}", f"http://{second}", f"socks5h://{third}"],
        ]
        for chain in chains:
            through(run, chain, "localhost")
        with dante(tmp_path) as another:  # none connects to itself
            move(run, f"socks5://{first}", f"socks4://{another}")


@pytest.mark.client("microsocks", "ncat")
def test_who_fails_in_a_chain(run):
    with microsocks() as first, ncat() as second, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{refusing.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError) as caught:
            run(connect_to, "127.0.0.1:1", [f"socks5h://{first}", f"http://{nobody}"])
        assert (caught.value.proxy, caught.value.outcome) == (f"socks5h://{first}", None)
        with pytest.raises(ProxyError) as caught:
            run(connect_to, nobody, [f"socks5h://{first}", f"http://{second}"])
        assert caught.value.proxy == f"http://{second}"
        assert caught.value.errno != errno.EPROTO
        assert caught.value.outcome is not None
