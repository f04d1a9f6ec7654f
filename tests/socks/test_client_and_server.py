"""The client against the server of the same house: all protocols, all commands, chains."""

from __future__ import annotations

import socket

import pytest

import netnet
from netnet.socks.client import ProxyError, associate, bind, connect
from netnet.socks.requests import Outcome
from tests.socks.conftest import echoing

SCHEMES = ["socks4", "socks4a", "socks5", "socks5h", "http"]


def url(scheme, proxy):
    return "{}://{}:{}".format(scheme, *proxy.address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_connect(run, proxy, scheme, host):
    def main():
        with proxy() as through, echoing() as target:
            with connect((host, target.getsockname()[1]), via=url(scheme, through)) as sock:
                sock.sendall(b"hello")
                sock.shutdown(socket.SHUT_WR)
                assert b"".join(sock) == b"hello"
            session = through.ended()
            named = host == "localhost" and scheme in ("socks4a", "socks5h", "http")
            assert session.request.host == ("localhost" if named else "127.0.0.1")

    run(main)


def test_a_chain_of_all(run, proxy):
    def main():
        with proxy() as one, proxy() as other, echoing() as target:
            chain = [url(scheme, (one, other)[number % 2]) for number, scheme in enumerate(SCHEMES)]
            with connect(("localhost", target.getsockname()[1]), via=chain) as sock:
                sock.sendall(b"hello")
                assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            one.ended(3)
            other.ended(2)

    run(main)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_refused_target(run, proxy, scheme):
    def main():
        with proxy() as through, netnet.Socket() as refusing:
            refusing.bind(("127.0.0.1", 0))
            with pytest.raises(ProxyError) as caught:
                connect(refusing.getsockname(), via=url(scheme, through))
            expected = Outcome.FAILED if scheme.startswith("socks4") else Outcome.REFUSED
            assert caught.value.outcome is expected
            assert isinstance(caught.value, ConnectionRefusedError) is (expected is Outcome.REFUSED)
            through.ended()

    run(main)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_bind(run, proxy, scheme):
    def main():
        with proxy() as through:
            with bind("127.0.0.1:0", via=url(scheme, through)) as binding:
                with netnet.connect(binding.address) as peer:
                    sock, address = binding.accept()
                    assert (address.host, address.port) == peer.getsockname()
                    with sock:
                        peer.sendall(b"hello")
                        assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            through.ended()

    run(main)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_associate(run, proxy, scheme):
    def main():
        with proxy() as through, netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
            target.bind(("127.0.0.1", 0))
            port = target.getsockname()[1]
            with associate(via=url(scheme, through)) as datagrams:
                for host in ("127.0.0.1", "localhost"):
                    datagrams.send_to(b"question", (host, port))
                    question, client = target.recvfrom(100)
                    assert question == b"question"
                    target.sendto(b"answer", client)
                    assert datagrams.receive() == (b"answer", ("127.0.0.1", port))
            through.ended()

    run(main)
