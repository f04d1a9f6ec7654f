"""What a socket is asked for besides moving bytes: closing down, options by name on its own class, and what options have
to do with waiting."""

from __future__ import annotations

import os
import socket

import pytest

import netnet
import netnet.testing
from netnet.net import waiting


@pytest.fixture
def tcp():
    """Two connected netnet sockets."""
    with netnet.listen("127.0.0.1:0") as listener, netnet.connect(listener.getsockname()) as one:
        other, _ = listener.accept()
        with other:
            yield one, other


def test_close_down_tells_the_peer_even_if_a_duplicate_is_open(tcp):
    one, other = tcp
    with one.dup():
        one.close_down()
        assert one.fileno() == -1
        assert other.recv(1) == b""


def test_close_down_one_way(tcp):
    one, other = tcp
    with one.dup() as duplicate:
        one.close_down(socket.SHUT_WR)
        assert other.recv(1) == b""
        other.send(b"x")
        assert duplicate.recv(1) == b"x"


@pytest.mark.parametrize(
    "make",
    [netnet.Socket, lambda: netnet.listen("127.0.0.1:0"), lambda: netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM)],
    ids=["unconnected", "listening", "datagram"],
)
def test_close_down_of_what_is_not_connected_closes(make):
    sock = make()
    sock.close_down()
    assert sock.fileno() == -1
    sock.close_down()


def test_close_down_after_a_reset(tcp):
    one, other = tcp
    other.linger = 0
    other.close()
    with pytest.raises(ConnectionResetError):
        one.recv(1)
    one.close_down()
    assert one.fileno() == -1


def test_close_down_wakes_who_waits(run):
    def main():
        one, other = netnet.socketpair()
        with other:
            reader = netnet.spawn(one.recv, 1)
            netnet.testing.wait_all_parked()
            one.close_down()
            with pytest.raises(netnet.ClosedError):
                reader.result()

    run(main)


def test_close_down_keeps_an_error_and_closes_all_the_same(monkeypatch):
    sock = netnet.Socket()

    def failing(how):
        raise OSError(5, "forced")

    with pytest.raises(OSError, match="forced"), monkeypatch.context() as patch:
        patch.setattr(netnet.Socket, "shutdown", lambda self, how: failing(how))
        sock.close_down()
    assert sock.fileno() == -1


def test_cloexec():
    with netnet.Socket() as sock:
        assert sock.cloexec
        sock.cloexec = False
        assert os.get_inheritable(sock.fileno())
        sock.cloexec = True
        assert not os.get_inheritable(sock.fileno())


def test_options_are_no_names_of_the_standard_class_but_type():
    names = {name for name in netnet.OPTIONS if hasattr(socket.socket, name)}
    assert names == {"type"}
    with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sock.type is socket.SOCK_DGRAM
        assert sock.get_option("type") == socket.SOCK_DGRAM


def test_the_rest_of_the_socket_is_no_option():
    """A method or property of ours that shares its name with an option would hide it."""
    for name, option in netnet.OPTIONS.items():
        if name != "type":
            assert getattr(netnet.Socket, name) is option


def test_a_misspelt_option_is_an_error():
    with netnet.Socket() as sock:
        with pytest.raises(AttributeError):
            sock.nodelya = True
        with pytest.raises(AttributeError):
            del sock.nodelay


def test_a_protocol_on_top_of_tcp_takes_the_short_read_rule_away(tcp, monkeypatch):
    """Few kernels have one to set ('tls' is a module), so another option stands in for it here."""
    one, other = tcp
    monkeypatch.setattr(waiting, "_ULP", socket.TCP_NODELAY)
    assert one._descriptor.short_is_dry
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert one._descriptor.short_is_dry
    one.nodelay = True
    assert not one._descriptor.short_is_dry
    assert other._descriptor.short_is_dry


@pytest.mark.parametrize("call", ["settimeout", "setblocking"])
def test_a_closed_socket_takes_no_time_out(call):
    sock = netnet.Socket()
    sock.close()
    with pytest.raises(netnet.ClosedError):
        getattr(sock, call)(1)


def test_detach_of_a_descriptor_that_was_closed_behind_its_back():
    sock = netnet.Socket()
    fd = sock.fileno()
    os.close(fd)
    assert sock.detach() == fd
