"""What a socket is asked for besides moving bytes: closing down, options by name on its own class, and what options have
to do with waiting."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

import netnet
import netnet.testing
from netnet.net import resolve, waiting


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


def test_a_duplicate_that_is_detached_leaves_the_other_one_as_it_is(run):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            fd = one.dup().detach()
            assert not os.get_blocking(one.fileno())
            with pytest.raises(TimeoutError), netnet.timeout(0.01):
                one.recv(1)
            os.close(fd)

    run(main)


def test_a_duplicate_knows_what_a_short_read_is_worth(tcp):
    one, _ = tcp
    one._descriptor.short_is_dry = False
    with one.dup() as duplicate:
        assert not duplicate._descriptor.short_is_dry


def test_an_empty_datagram_is_no_end_of_the_datagrams():
    one, other = netnet.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        for data in (b"1", b"", b"2"):
            one.send(data)
        datagrams = iter(other)
        assert [next(datagrams) for _ in range(3)] == [b"1", b"", b"2"]


NAMED = {
    "bind": lambda sock, port: sock.bind(("localhost", 0)),
    "bind, typed": lambda sock, port: sock.bind(netnet.HostAddress("localhost", 0)),
    "sendto": lambda sock, port: sock.sendto(b"x", ("localhost", port)),
    "sendto with flags": lambda sock, port: sock.sendto(b"x", 0, ("localhost", port)),
    "sendmsg": lambda sock, port: sock.sendmsg([b"x"], [], 0, ("localhost", port)),
    "send_message": lambda sock, port: sock.send_message(b"x", address=netnet.HostAddress("localhost", port)),
}


@pytest.mark.parametrize("call", NAMED)
def test_names_are_looked_up_while_others_run(run, monkeypatch, call):
    """In an OS thread, as ``connect`` does; what is an IP address takes no thread."""
    looked_up = []
    elsewhere = resolve.elsewhere
    monkeypatch.setattr(resolve, "elsewhere", lambda *args: looked_up.append(args) or elsewhere(*args))

    def main():
        kind = (socket.AF_INET, socket.SOCK_DGRAM)
        with netnet.Socket(*kind) as sock, netnet.Socket(*kind) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.sendto(b"x", ("127.0.0.1", peer.getsockname()[1]))
            peer.recv(9)
            assert not looked_up
            NAMED[call](sock, peer.getsockname()[1])
            assert looked_up
            if "bind" in call:
                assert sock.getsockname()[0] == "127.0.0.1"
            else:
                assert peer.recv(9) == b"x"

    run(main)


@pytest.mark.parametrize("call", ["recv", "send", "sendall", "accept", "bind", "receive_message", "send_message"])
def test_a_closed_socket_says_so_outside_a_loop(call):
    arguments = {
        "recv": (1,),
        "send": (b"x",),
        "sendall": (b"x",),
        "bind": (("127.0.0.1", 0),),
        "send_message": (b"x",),
    }
    sock = netnet.Socket()
    sock.close()
    with pytest.raises(netnet.ClosedError):
        getattr(sock, call)(*arguments.get(call, ()))


SENDS = {
    "send": "one.send(b'x')",
    "sendall": "one.sendall(b'x')",
    "sendall of a view": "one.sendall(memoryview(b'x'))",
    "sendmsg": "one.sendmsg([b'x'])",
    "send_message": "one.send_message(b'x')",
    "send_fds": "one.send_fds([0])",
}


@pytest.mark.parametrize("where", ["{}()", "netnet.run({})"])
@pytest.mark.parametrize("call", SENDS)
def test_a_broken_connection_is_an_error_even_where_the_signal_would_kill(call, where):
    code = f"""
import signal, netnet
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
def main():
    one, other = netnet.socketpair()
    other.close()
    try:
        {SENDS[call]}
    except BrokenPipeError:
        print("an error")
{where.format("main")}
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "an error\n"), done.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"idle_seconds": float("nan")}, ValueError),
        ({"idle_seconds": -1}, ValueError),
        ({"linger_seconds": float("nan")}, ValueError),
        ({"linger_seconds": -0.1}, ValueError),
        ({"linger_seconds": "5"}, TypeError),
    ],
)
def test_a_relay_takes_times_that_make_sense(run, options, error):
    def main():
        one, other = netnet.socketpair()
        with one, other, pytest.raises(error):
            netnet.relay(one, other, **options)

    run(main)


def test_a_relay_takes_streams_only(run):
    def main():
        one, other = netnet.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other, pytest.raises(netnet.UsageError, match="streams"):
            netnet.relay(one, other)

    run(main)


@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg", "recvmsg_into", "receive_message"])
def test_waiting_for_all_of_it(run, tcp, call):
    """``MSG_WAITALL``, in each call that knows it: the peer sends in two parts, and the second ends the wait."""
    one, other = tcp
    calls = {
        "recv": lambda: one.recv(6, socket.MSG_WAITALL),
        "recvfrom": lambda: one.recvfrom(6, socket.MSG_WAITALL)[0],
        "recvmsg": lambda: one.recvmsg(6, 0, socket.MSG_WAITALL)[0],
        "recvmsg_into": lambda: b"".join(scattered()),
        "receive_message": lambda: one.receive_message(6, flags="waitall").data,
    }

    def scattered():
        parts = [bytearray(2), bytearray(1), bytearray(3)]
        assert one.recvmsg_into(parts, 0, socket.MSG_WAITALL)[0] == 6
        return parts

    def main():
        other.sendall(b"first"[:4])
        task = netnet.spawn(calls[call])
        netnet.testing.wait_all_parked()
        assert not task.done
        other.sendall(b"12")
        assert task.result() == b"firs12"

    run(main)


def test_waiting_for_all_of_it_ends_with_the_peer(run, tcp):
    one, other = tcp

    def main():
        other.sendall(b"all")
        other.close()
        assert one.receive_message(6, flags="waitall").data == b"all"
        assert one.recvmsg(6, 0, socket.MSG_WAITALL)[0] == b""

    run(main)
