"""The tables for those who come from elsewhere: each row's code is run as it stands, in a world prepared as the page
says, and then its effect is looked at from outside. No row without a check, no name forgotten.

Rows in which a run or a loop begins are run outside one; all others in a task, and those whose check is ``Timed`` on a
virtual clock, so that their minutes pass at once."""

from __future__ import annotations

import contextlib
import errno
import gc
import inspect
import ipaddress
import os
import re
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import netnet
from netnet.kernel.control import Credentials, HopLimit, OtherControl, Rights, SecurityLabel, Timestamp
from netnet.kernel.interfaces import Interface, InterfaceFlags
from netnet.kernel.tcp_info import TcpState
from netnet.net.poll import Ready
from netnet.testing import VirtualClock

PAGE = (Path(__file__).parent.parent / "docs" / "coming-from.md").read_text()

LOOPBACK = "127.0.0.1"
GROUP = "239.77.1.3"
CONTENT = b"0123456789"
WAIT_SECONDS = 10


# -- the page


def section(title):
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.M)[0]


HEAD = ["| theirs | here | what differs |", "|---|---|---|"]


def table_lines(text):
    """The rows of all tables in *text*, without their heads."""
    return [line for line in text.splitlines() if line.startswith("|") and line not in HEAD]


def rows(title):
    """Theirs → the code here, of one table."""
    found = {}
    for line in table_lines(section(title)):
        theirs, here, _ = re.fullmatch(r"\| (.+?) \| `(.+?)` \|(.*) ?\|", line).groups()
        theirs = theirs.replace("`", "")
        assert theirs not in found, f"{theirs} has two rows"
        found[theirs] = here
    return found


#: the last section, which has no rows
LEFT_OUT = "What has no counterpart"

#: the imports and functions that stand before all rows
OPENING = re.search(r"```python\n(.*?)```", PAGE, re.S).group(1)


# -- the world that the page describes


class World(dict):
    """The names that a row's code sees and makes; also as attributes."""

    __getattr__ = dict.__getitem__


def socket_pair_of_tcp():
    with socket.create_server((LOOPBACK, 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def bound(kind, host=LOOPBACK):
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind((host, 0))
    return sock


def ours(sock):
    return netnet.Socket(fileno=sock.detach())


def prepared(tmp_path):
    world = World()
    exec(OPENING, world)
    world["buffer"], world["path"] = bytearray(CONTENT), str(tmp_path / "socket")
    world["sock"], world["peer"] = map(ours, socket_pair_of_tcp())
    world["fd_keeper"], world["fd_peer"] = socket_pair_of_tcp()
    world["fd_peer"].settimeout(WAIT_SECONDS)
    world["fd_status"] = os.fstat(world.fd_keeper.fileno())
    world["fd"] = world.fd_keeper.detach()
    world["fresh"] = netnet.Socket()
    world["listener"] = netnet.listen((LOOPBACK, 0))
    world["client"] = netnet.connect(world.listener.getsockname())
    # bound, so that no other process gets the port; not listening, so that it refuses
    world["refuser"] = bound(socket.SOCK_STREAM)
    world["refusing"] = world.refuser.getsockname()
    # connected to itself, so that what others send is refused
    world["deaf_one"] = bound(socket.SOCK_DGRAM)
    world["deaf"] = world.deaf_one.getsockname()
    world.deaf_one.connect(world.deaf)
    world["udp"], world["udp_peer"] = ours(bound(socket.SOCK_DGRAM)), ours(bound(socket.SOCK_DGRAM))
    world["receiver"] = ours(bound(socket.SOCK_DGRAM, ""))
    world.receiver.multicast.all = False
    world["unix"], world["unix_peer"] = netnet.socketpair()
    world["file"] = (tmp_path / "file").open("w+b")
    world.file.write(CONTENT)
    world.file.seek(0)
    world["ai"] = world.lookup(LOOPBACK, 80, type=socket.SOCK_STREAM)[0]
    world["cmsg"] = OtherControl(socket.SOL_SOCKET, 99, b"data")
    world.peer.sendall(b"hello")
    world.udp_peer.sendto(b"hello", world.udp.getsockname())
    netnet.wait_readable(world.sock)
    netnet.wait_readable(world.udp)
    return world


#: what is made before each row
PREPARED = re.findall(r'world\["(\w+)"\]', inspect.getsource(prepared))


def tidied(world):
    """Closes all that the world has, as far as it is open, and cancels its tasks."""
    for value in world.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, netnet.Task):
                one.cancel("the row is over")
            elif hasattr(one, "close") and hasattr(type(one), "__exit__"):
                one.close()
    if "fd" in world:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(world.fd), world.fd_status):
                os.close(world.fd)


# -- what checks are made of


def kernel(sock, level, option, *size):
    """What the standard class says of the option, on the same descriptor."""
    return socket.socket.getsockopt(sock, level, option, *size)


def has(name, option, value=1, level=socket.SOL_SOCKET):
    """After the row, the kernel has the option set to *value* on the socket of that name."""

    def check(world):
        assert kernel(world[name], level, getattr(socket, option)) == value

    return check


def has_tcp(name, option, value=1):
    return has(name, option, value, socket.IPPROTO_TCP)


def is_(name, value):
    """After the row, the name stands for that value."""

    def check(world):
        assert world[name] == value

    return check


def are(**values):
    """After the row, each of these names stands for that value."""

    def check(world):
        assert {name: world[name] for name in values} == values

    return check


def failed(kind, number=None, name="error"):
    """After the row, that name stands for an exception of exactly this class, with this ``errno``."""

    def check(world):
        assert type(world[name]) is kind, repr(world[name])
        if number is not None:
            assert world[name].errno == number

    return check


def results(*values, name="tasks"):
    """After the row, the tasks of that name have ended with these results."""

    def check(world):
        assert [task.value for task in world[name] if task.done] == list(values)

    return check


class Timed(NamedTuple):
    """A check whose row runs on a virtual clock."""

    check: object


def cancelled(world):
    """The row's task was cancelled, and has ended or will."""
    world.task.join()
    with pytest.raises(netnet.TaskCancelledError):
        world.task.result()


def all_of(*checks):
    def check(world):
        for one in checks:
            one(world)

    return check


def arrived(name, data):
    """At the socket of that name, these bytes have arrived."""

    def check(world):
        world[name].settimeout(WAIT_SECONDS)
        received = b""
        while len(received) < len(data):
            received += world[name].recv(100) or pytest.fail(f"the stream ended after {received!r}")
        assert received == data

    return check


def arrived_count(name, data):
    return all_of(arrived(name, data), is_("count", len(data)))


def datagram_arrived(name, data):
    """The next datagram at the socket of that name, after the prepared one, is this."""

    def check(world):
        world[name].settimeout(WAIT_SECONDS)
        if name == "udp":
            assert world.udp.recv(100) == b"hello"
        assert world[name].recv(100) == data

    return check


def ended(name):
    """The socket of that name has read all there was, and its peer's end."""

    def check(world):
        sock = world[name]
        sock.settimeout(WAIT_SECONDS)
        while sock.recv(100):
            pass
        assert sock.recv(100) == b""

    return check


def closed(name):
    def check(world):
        assert world[name].fileno() == -1
        with pytest.raises(netnet.ClosedError):
            world[name].recv(1)

    return check


def works(name):
    """The socket of that name is connected to a socket that sends back what it receives, or to its listener."""

    def check(world):
        sock = world[name]
        sock.settimeout(WAIT_SECONDS)
        world.listener.settimeout(WAIT_SECONDS)
        mine = sock.getsockname()
        while True:
            conn, where = world.listener.accept()
            with conn:
                if where[1] == mine[1]:
                    sock.sendall(b"ping")
                    assert conn.recv(4, socket.MSG_WAITALL) == b"ping"
                    conn.sendall(b"pong")
                    assert sock.recv(4, socket.MSG_WAITALL) == b"pong"
                    return

    return check


def accepted(name="conn"):
    """The socket of that name is the other end of the client that was waiting."""

    def check(world):
        world.client.sendall(b"ping")
        assert world[name].recv(4, socket.MSG_WAITALL) == b"ping"
        assert world[name].getpeername() == world.client.getsockname()

    return check


def listens(name="fresh"):
    def check(world):
        assert kernel(world[name], socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        port = world[name].getsockname()[1]
        with socket.create_connection((LOOPBACK, port)) as one:
            world[name].settimeout(WAIT_SECONDS)
            conn, where = world[name].accept()
            conn.close()
            assert where[1] == one.getsockname()[1]

    return check


def bound_to(name, host):
    def check(world):
        own = world[name].getsockname()
        assert own[0] == host
        assert own[1] > 0

    return check


def new_socket(family, kind, protocol=None, name="new"):
    def check(world):
        sock = world[name]
        assert isinstance(sock, netnet.Socket)
        assert kernel(sock, socket.SOL_SOCKET, socket.SO_DOMAIN) == family
        assert kernel(sock, socket.SOL_SOCKET, socket.SO_TYPE) == kind
        if protocol is not None:
            assert kernel(sock, socket.SOL_SOCKET, socket.SO_PROTOCOL) == protocol
        assert not os.get_inheritable(sock.fileno())
        assert not os.get_blocking(sock.fileno())

    return check


new_tcp = new_socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
new_udp = new_socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)


def would_block(name):
    """Calls of the socket of that name do not wait any more."""

    def check(world):
        assert not world[name].getblocking()
        with contextlib.suppress(BlockingIOError):
            world[name].recv(100)
        with pytest.raises(BlockingIOError):
            world[name].recv(100)

    return check


def same_file(world, fds, count=1):
    """These descriptors, which are closed here, are the prepared file, and close-on-exec."""
    assert len(fds) == count
    for fd in fds:
        assert fd != world.file.fileno()
        assert os.path.samestat(os.fstat(fd), os.fstat(world.file.fileno()))
        assert not os.get_inheritable(fd)
        os.close(fd)


def file_arrived(name, data):
    """At the socket of that name the prepared file has arrived, with *data*."""

    def check(world):
        received, _, _, _ = reply = socket_recv_fds(world[name])
        assert received == data
        same_file(world, reply[1])

    return check


def socket_recv_fds(sock):
    """By the standard library's function."""
    sock.settimeout(WAIT_SECONDS)
    data, fds, flags, address = socket.recv_fds(sock, 100, 10)
    for fd in fds:
        os.set_inheritable(fd, False)  # which the standard function does not do
    return data, fds, flags, address


def multicast_from(world, sources):
    """Which of these sources' datagrams to the group reach the receiver; a plain one behind them tells that all are in."""
    port = world.receiver.getsockname()[1]
    for source in sources:
        with bound(socket.SOCK_DGRAM, source) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
            sender.sendto(b"group", (GROUP, port))
    with bound(socket.SOCK_DGRAM) as sender:
        sender.sendto(b"last", (LOOPBACK, port))
    world.receiver.settimeout(WAIT_SECONDS)
    found = []
    while True:
        data, where = world.receiver.recvfrom(100)
        if data == b"last":
            return found
        found.append(where[0])


def group_reached_from(*expected):
    def check(world):
        assert multicast_from(world, [LOOPBACK, "127.0.0.2"]) == list(expected)

    return check


def finished(value):
    def check(world):
        assert world.task.result() == value

    return check


def open_at_end(world):
    """The detached descriptor is open and works; closed here."""
    sent = socket.socket(fileno=world.number)
    with sent:
        sent.setblocking(True)
        sent.sendall(b"data")


# -- checks that are too long for a line of the tables


def check_wrap(world):
    world.wrapped.sendall(b"data")
    assert world.fd_peer.recv(4, socket.MSG_WAITALL) == b"data"
    assert world.wrapped.fileno() == world.fd
    assert (world.wrapped.family, world.wrapped.type) == (socket.AF_INET, socket.SOCK_STREAM)


def check_pair(world):
    world.one.send(b"ping")
    assert world.other.recv(9) == b"ping"
    assert kernel(world.one, socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
    assert kernel(world.one, socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_UNIX


def check_nonblocking_pair(world):
    for sock in (world.one, world.other):
        with pytest.raises(BlockingIOError):
            sock.recv(1)
    world.one.send(b"ping")
    assert world.other.recv(9) == b"ping"


def check_fd_closed(world):
    assert world.fd_peer.recv(9) == b""
    with pytest.raises(OSError) as caught:
        os.fstat(world.fd)
    assert caught.value.errno == errno.EBADF


def check_fd_shut(world):
    assert world.fd_peer.recv(9) == b""
    with socket.socket(fileno=world.fd) as still_open:
        world.fd_peer.sendall(b"x")
        still_open.settimeout(WAIT_SECONDS)
        assert still_open.recv(9) == b"x"


def check_hook_runs(world):
    world.sock.close()
    assert world.hook.alive
    del world["sock"]
    gc.collect()
    assert world.events == ["gone"]


def check_hook_is_off(world):
    world.sock.close()
    del world["sock"]
    gc.collect()
    assert world.events == []


def check_unwrap(world):
    assert world.sock.fileno() == -1
    open_at_end(world)
    arrived("peer", b"data")(world)


def check_dup(world):
    assert world.second.fileno() not in (-1, world.sock.fileno())
    assert not os.get_inheritable(world.second.fileno())
    world.sock.close()
    world.second.sendall(b"data")
    arrived("peer", b"data")(world)


def check_acceptfd(world):
    with socket.socket(fileno=world.number) as conn:
        assert conn.getpeername() == world.client.getsockname()
        assert not os.get_inheritable(world.number)


def check_datagram(world):
    assert (world.data, world.sender) == (b"hello", world.udp_peer.getsockname())


def check_message(world):
    assert (world.message.data, world.message.size) == (b"hello", 5)
    assert world.message.address.sockaddr == world.udp_peer.getsockname()
    assert world.message.control == ()


def check_timestamp(world):
    assert kernel(world.udp, socket.SOL_SOCKET, 29) == 1
    before = time.time_ns()
    world.udp_peer.sendto(b"now", world.udp.getsockname())
    assert world.udp.receive_message().data == b"hello"
    stamp = world.udp.receive_message().get(Timestamp)
    assert before - 1_000_000_000 < stamp.nanoseconds < time.time_ns() + 1_000_000_000


def check_peek(world):
    assert world.data == b"hello"
    assert world.sock.recv(100) == b"hello"


def check_received_fds(world):
    assert world.data == b"\0"
    same_file(world, world.fds)


def check_cloexec(world):
    assert os.get_inheritable(world.sock.fileno())


def check_error(world):
    assert world.number == errno.ECONNREFUSED
    assert kernel(world.udp_peer, socket.SOL_SOCKET, socket.SO_ERROR) == 0


def timeval(option, seconds):
    def check(world):
        assert struct.unpack("@ll", kernel(world.sock, socket.SOL_SOCKET, option, 16)) == (1, 500_000)
        assert world.sock.gettimeout() == seconds

    return check


def linger(name, seconds):
    def check(world):
        assert struct.unpack("@ii", kernel(world[name], socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, seconds)

    return check


def check_multicast_if(world):
    value = kernel(world.udp, socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4)
    assert socket.inet_ntoa(value) == LOOPBACK
    assert world.udp.multicast.interface == "lo"


def check_unix_address(world):
    with netnet.Socket(socket.AF_UNIX) as sock:
        sock.bind(world.address)
        assert sock.getsockname() == world.path


def inet_address(host):
    def check(world):
        assert (world.address.host, world.address.port) == (host, 80)
        assert world.address.sockaddr[:2] == (host, 80)

    return check


def found_hosts(*hosts):
    def check(world):
        assert {one.address.host for one in world.found} <= set(hosts)
        assert world.found
        for one in world.found:
            assert one.address.port == 80
            with netnet.Socket(one.family, one.type, one.protocol) as sock:
                assert kernel(sock, socket.SOL_SOCKET, socket.SO_TYPE) == one.type

    return check


def check_control_is_sent(world):
    world.udp.recvttl = True
    world.udp.recv(100)
    world.udp_peer.send_message(b"x", [world.control], address=world.udp.local_address)
    assert world.udp.receive_message().get(HopLimit) == HopLimit(9)


def check_rights(world):
    assert world.control.fds == (world.file.fileno(), world.sock.fileno())
    world.unix.send_message(b"x", [world.control])
    _, fds = world.unix_peer.recv_fds()
    assert os.path.samestat(os.fstat(fds[1]), os.fstat(world.sock.fileno()))
    os.close(fds.pop())
    same_file(world, fds)


def check_shift(world):
    assert isinstance(world.first, Rights)
    same_file(world, world.first.take())


def check_no_controls(world):
    world.unix.send_message(b"x", world.controls)
    arrived("unix_peer", b"x")(world)


def check_interfaces(world):
    expected = {name: index for index, name in socket.if_nameindex()}
    assert {one.name: one.index for one in world.found.values()} == expected
    loopback = world.found["lo"]
    assert loopback.flags & InterfaceFlags.LOOPBACK
    assert loopback.mtu > 0
    assert LOOPBACK in [str(one.ip) for one in loopback.addresses]


def check_unix_path_max(world):
    assert world.size == (107 if sys.platform == "linux" else 103)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError):
        sock.bind("/" + "x" * (world.size + 1))


def check_refused(world):
    assert (world.code, world.name) == (errno.ECONNREFUSED, "ECONNREFUSED")
    with netnet.Socket() as sock, pytest.raises(ConnectionRefusedError) as caught:
        sock.connect(world.refusing)
    assert caught.value.errno == world.code


def check_name(world):
    # what it is called is the machine's affair
    assert world.name == socket.getaddrinfo(LOOPBACK, 80, flags=socket.AI_CANONNAME)[0][3]
    assert world.name


def check_recvmsg_2018(world):
    assert world.message.size == 5
    assert world.message.data == b"hello"
    assert world.message.address.sockaddr == world.udp_peer.getsockname()
    with pytest.raises(BlockingIOError):
        world.udp.receive_message(4096, flags="dontwait")


def into_buffer(name):
    def check(world):
        assert world[name] == 5
        assert world.buffer == b"hello56789"

    return check


def check_letters(world):
    assert len(world.found) == len(world.names) == 14
    known = dict(zip(world.names, world.found, strict=True))
    for name, option in (("broadcast", "SO_BROADCAST"), ("rcvbuf", "SO_RCVBUF"), ("sndbuf", "SO_SNDBUF")):
        assert known[name] == kernel(world.udp, socket.SOL_SOCKET, getattr(socket, option))
    assert known["type"] == socket.SOCK_DGRAM
    assert known["linger"] is None


def check_segment(world):
    assert world.buffer == b"01he456789"
    assert world.sock.recv(9) == b"llo"


def check_struct(world):
    assert world.head.unpack_from(world.buffer) == (0x30, 0x31, 0x3233, b"4567")


def check_layout(world):
    assert (world.version, world.command, world.port, world.ip) == (0x30, 0x31, 0x3233, b"4567")


def check_nonblocking_connect(world):
    assert world.code in (0, errno.EINPROGRESS)
    netnet.wait_writable(world.fresh)
    assert kernel(world.fresh, socket.SOL_SOCKET, socket.SO_ERROR) == 0
    works("fresh")(world)


def check_packet(world):
    interface, protocol, *_ = socket.socket.getsockname(world.raw)
    assert (interface, protocol) == ("lo", 3)


def check_netlink(world):
    assert socket.socket.getsockname(world.link)[0] > 0


def check_unix_stream(world):
    conn, _ = world.server.accept()
    with conn:
        world.conn.sendall(b"data")
        assert conn.recv(4, socket.MSG_WAITALL) == b"data"
    assert os.path.exists(world.path)


def check_unix_datagram(world):
    assert world.new.recvfrom(100) == (b"data", world.path)


def check_autobind(world):
    assert world.new.getsockname()[:1] == b"\0"
    assert world.new.local_address.abstract


def check_no_error(world):
    assert world.number == 0 == kernel(world.sock, socket.SOL_SOCKET, socket.SO_ERROR)


def check_dual_stack(world):
    for family, host in ((socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1")):
        if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
            continue
        with socket.socket(family) as one:
            one.connect((host, world.server.getsockname()[1]))
            world.server.accept()[0].close()
    assert kernel(world.server, socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1


def check_reset(world):
    world.sock.settimeout(WAIT_SECONDS)
    with pytest.raises(ConnectionResetError):
        while world.sock.recv(100):
            pass


def check_shut_receive(world):
    assert world.sock.recv(100) == b"hello"
    assert world.sock.recv(100) == b""
    world.sock.sendall(b"still")
    arrived("peer", b"still")(world)


def check_readable(world):
    assert socket.socket.recv(world.sock, 100) == b"hello"


def check_writable(world):
    assert socket.socket.send(world.sock, b"data") == 4


def check_nodelay_of_accepted(world):
    with socket.create_connection(world.server.getsockname()):
        with world.server.accept()[0] as conn:
            assert kernel(conn, socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def check_lines(world):
    assert (world.line, world.empty) == (b"hello\n", b"\n")
    world.peer.shutdown(socket.SHUT_WR)
    assert world.stream.readline() == b""


def check_stream(world):
    conn = None
    while conn is None or conn.getpeername() != world.conn.getsockname():
        if conn is not None:
            conn.close()
        conn = world.listener.accept()[0]
    with conn:
        world.stream.write(b"data")
        world.stream.flush()
        assert conn.recv(4, socket.MSG_WAITALL) == b"data"
        conn.sendall(b"back\n")
        assert world.stream.readline() == b"back\n"


def check_timed_out(world):
    assert world.sock.recv(100) == b"hello"
    with pytest.raises(TimeoutError):
        world.sock.recv(100)


def check_exclusive(world):
    with netnet.Socket() as other:
        other.reuseaddr = True
        with pytest.raises(OSError) as caught:
            other.bind(world.fresh.getsockname())
    assert caught.value.errno == errno.EADDRINUSE


def check_served(world):
    world.client.sendall(b"ping")
    assert world.client.recv(4, socket.MSG_WAITALL) == b"ping"
    world.task.cancel()
    world.task.join()
    assert world.client.recv(4) == b""


def check_relayed(world):
    assert world.unix_peer.recv(5, socket.MSG_WAITALL) == b"hello"
    world.unix_peer.sendall(b"back")
    assert world.peer.recv(4, socket.MSG_WAITALL) == b"back"
    world.peer.shutdown(socket.SHUT_WR)
    assert world.unix_peer.recv(1) == b""
    world.unix_peer.sendall(b"late")
    assert world.peer.recv(4, socket.MSG_WAITALL) == b"late"
    world.unix_peer.shutdown(socket.SHUT_WR)
    assert world.task.result() == netnet.RelayResult(5, 8, "closed")


def check_event(world):
    assert world.event.is_set()


def check_loopback_interface(world):
    assert isinstance(world.found, Interface)
    assert (world.found.name, world.found.index) == ("lo", socket.if_nametoindex("lo"))


def check_now(world):
    assert 0 <= netnet.now() - world.instant < WAIT_SECONDS


def check_options_of_both(world):
    has("fresh", "SO_KEEPALIVE")(world)
    has("fresh", "SO_REUSEADDR")(world)


def check_constants(world):
    assert world.kinds == (Rights, Timestamp, Credentials, SecurityLabel)
    same_file_sent = world.unix.send_message(b"x", [world.kinds[0](world.file)])
    assert same_file_sent == 1
    file_arrived("unix_peer", b"x")(world)


def check_nothing(world):
    """What a row does beyond running: that it came back, and that all is as before."""
    assert world.sock.recv(100) == b"hello"


def expired(name):
    def check(world):
        assert world[name].expired()

    return check


def check_poll(world):
    assert world.watched == 2
    assert {source for source, _ in world.poll.select(WAIT_SECONDS)} == {world.udp, world.sock}


def check_moved_deadline(world):
    assert world.idle.when() - netnet.now() > 60


def check_warm_pool(world):
    assert (world.warm, world.pool.idle) == (2, 2)
    with world.pool.connection() as world["conn"]:
        works("conn")(world)
        assert world.pool.idle == 1


def check_lookup_of_every_interface(world):
    assert [str(one.address) for one in (world.every, world.own)] == ["0.0.0.0:80", "127.0.0.1:80"]


def check_host_is_gone(world):
    assert "found" not in world


def check_resolved(world):
    addresses = world.get("found") or [world.first]
    assert {one.sockaddr[:2] for one in addresses} <= {(LOOPBACK, 80), ("::1", 80)}
    assert {one.family for one in addresses} <= {socket.AF_INET, socket.AF_INET6}


def check_peer_address(world):
    assert world.where == netnet.InetAddress(*world.client.getsockname())


def check_own_address(world):
    accepted()(world)
    assert world.where == world.client.getsockname()
    assert world.own == netnet.InetAddress(*world.client.getpeername())


def check_partial(world):
    failed(netnet.IncompleteError)(world)
    assert (world.error.partial, world.error.expected) == (b"hello", 9)


def check_bytes_sent(world):
    failed(BrokenPipeError, errno.EPIPE)(world)
    assert world.error.bytes_sent == 0


def check_listener_values(world):
    tcp = kernel(world.listener, socket.SOL_SOCKET, socket.SO_PROTOCOL)
    assert world["values"] == [socket.SOCK_STREAM, 0, True, tcp, socket.AF_INET]


def check_device(world):
    assert kernel(world.udp, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
    assert world.udp.bindtodevice == "lo"


def check_defer_accept(world):
    assert kernel(world.listener, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) >= 3


def check_udp_loop(world):
    has("udp", "IP_MULTICAST_TTL", 10, socket.IPPROTO_IP)(world)
    has("udp", "IP_MULTICAST_LOOP", 0, socket.IPPROTO_IP)(world)


def check_udp_cork(world):
    assert kernel(world.udp, socket.IPPROTO_UDP, 1) == 1


def check_request(world):
    assert world.peer.recv(100).startswith(b"GET / HTTP/1.1\r\n")


def check_status(world):
    assert (world.before, world.after) == ("not started yet", "ended")


def check_reused(world):
    assert world.first is world.second
    assert (world.pool.opened, world.pool.reused) == (1, 1)


def check_turned(world):
    assert world.turned == (True, True)
    assert (world.task.done, world.task.value) == (True, 42)


def check_system_exit(world):
    failed(SystemExit)(world)
    assert world.error.code == 128 + signal.SIGTERM


def check_never_fired(world):
    assert world.events == []
    cancelled(world)


def check_group_of_socket(world):
    closed("sock")(world)
    check_never_fired(world)


def check_refused_twice(world):
    failed(netnet.Cancelled, name="first")(world)
    failed(netnet.Cancelled, name="second")(world)
    assert world.sock.recv(9) == b"hello"


def check_limited(world):
    results(0, 2, 4)(world)
    assert world.slots.value == 2


def check_shielded_lines(world):
    assert world.events == ["slept"]
    assert world.scope.cancelled


def check_drained(world):
    assert world.drained is True
    world.task.join()
    assert world.listener.fileno() == -1


def check_tree(world):
    assert netnet.current_task().name in world.text


def check_everybody(world):
    assert world.present is netnet.current_task()
    assert world.everybody == [world.present]


def check_buffered_connection(world):
    conn = world.listener.accept()[0]
    while conn.getpeername() != world.conn.getsockname():
        conn.close()
        conn = world.listener.accept()[0]
    with conn:
        conn.sendall(b"a line\n")
        assert world.stream.readline() == b"a line\n"
        world.stream.sendall(b"data")
        assert conn.recv(4, socket.MSG_WAITALL) == b"data"


def check_deadline_left(world):
    assert 0 < world.left <= 5


def check_closed_channel(world):
    failed(netnet.ChannelClosedError)(world)
    with pytest.raises(netnet.ChannelClosedError):
        world.channel.send(1)


def check_sent_case(world):
    assert world.chosen == (1, None)
    assert world.other.receive() == 7


def check_address_in_message(world):
    failed(OSError, errno.EADDRINUSE)(world)
    assert str(world.listener.local_address) in str(world.error)


def check_went_on(world):
    assert world.client.fileno() != -1
    assert world.data == b"ping"
    with pytest.raises(netnet.ClosedError):
        world.listener.accept()


def check_begun(world):
    assert world.begun == []
    world.task.join()
    assert world.events == [1]


def check_option_names(world):
    assert world.count > 100


tcp_option_30 = all_of(has("sock", "SO_KEEPALIVE"), has_tcp("sock", "TCP_KEEPIDLE", 30))

CHECKS = {
    "lua-llsocket": {
        "socket.new(family, type, protocol, nonblock)": new_tcp,
        "socket.new(ai, nonblock) (2016)": new_tcp,
        "socket.wrap(fd, nonblock)": check_wrap,
        "socket.pair(type, protocol, nonblock)": check_pair,
        "socket.pair(type, nonblock, protocol) (2016)": check_nonblocking_pair,
        "socket.close(fd, how)": check_fd_closed,
        "socket.shutdown(fd, how)": check_fd_shut,
        "sock:addgcfn(errfn, fn, ...)": check_hook_runs,
        "sock:delgcfn()": check_hook_is_off,
        "sock:unwrap()": check_unwrap,
        "sock:dup()": check_dup,
        "sock:fd()": lambda world: is_("number", world.sock.fileno())(world),
        "sock:family()": is_("family", socket.AF_INET),
        "sock:socktype()": is_("kind", socket.SOCK_STREAM),
        "sock:protocol()": is_("number", socket.IPPROTO_TCP),
        "sock:bind(ai)": bound_to("fresh", LOOPBACK),
        "sock:connect(ai)": works("fresh"),
        "sock:listen(backlog)": listens(),
        "sock:accept(with_ai)": accepted(),
        "sock:acceptfd()": check_acceptfd,
        "sock:shutdown(how)": ended("peer"),
        "sock:close(how)": all_of(closed("peer"), ended("sock")),
        "sock:close()": closed("sock"),
        "sock:sendable(sec, exception)": check_writable,
        "sock:recvable(sec, exception)": check_readable,
        "sock:write(str)": arrived("peer", b"data"),
        "sock:send(str, flags...)": arrived_count("peer", b"data"),
        "sock:sendto(str, ai, flags...)": all_of(datagram_arrived("udp_peer", b"data"), is_("count", 4)),
        "sock:sendfd(fd, ai, flags...)": all_of(file_arrived("unix_peer", b"\0"), is_("count", 1)),
        "sock:sendmsg(mh)": all_of(file_arrived("unix_peer", b"data"), is_("count", 4)),
        "sock:sendfile(fd, bytes, offset)": arrived_count("peer", b"23456"),
        "sock:read(bufsize)": is_("data", b"hello"),
        "sock:recv(bufsize, flags...)": check_peek,
        "sock:recvfrom(bufsize, flags...)": check_datagram,
        "sock:recvfd(flags...)": check_received_fds,
        "sock:recvmsg(mh)": check_message,
        "sock:atmark()": is_("mark", True),
        "sock:getsockname()": lambda world: is_("own", netnet.InetAddress(*world.sock.getsockname()))(world),
        "sock:getpeername()": lambda world: is_("other_end", netnet.InetAddress(*world.peer.getsockname()))(world),
        "sock:cloexec(enable)": check_cloexec,
        "sock:nonblock(enable)": would_block("sock"),
        "sock:error()": check_error,
        "sock:acceptconn()": is_("listens", True),
        "sock:tcpnodelay(enable)": has_tcp("sock", "TCP_NODELAY"),
        "sock:tcpkeepintvl(sec)": has_tcp("sock", "TCP_KEEPINTVL", 7),
        "sock:tcpkeepcnt(cnt)": has_tcp("sock", "TCP_KEEPCNT", 4),
        "sock:tcpkeepalive(sec)": has_tcp("sock", "TCP_KEEPIDLE", 30),
        "sock:tcpcork(enable)": has_tcp("sock", "TCP_CORK"),
        "sock:reuseport(enable)": has("fresh", "SO_REUSEPORT"),
        "sock:reuseaddr(enable)": has("fresh", "SO_REUSEADDR"),
        "sock:broadcast(enable)": has("udp", "SO_BROADCAST"),
        "sock:debug(enable)": all_of(is_("debugging", False), has("sock", "SO_DEBUG", 0)),
        "sock:keepalive(enable)": has("sock", "SO_KEEPALIVE"),
        "sock:oobinline(enable)": has("sock", "SO_OOBINLINE"),
        "sock:dontroute(enable)": has("udp", "SO_DONTROUTE"),
        "sock:timestamp(enable)": check_timestamp,
        "sock:rcvbuf(size)": has("sock", "SO_RCVBUF", 40000),
        "sock:rcvlowat(size)": has("sock", "SO_RCVLOWAT", 10),
        "sock:sndbuf(size)": has("sock", "SO_SNDBUF", 40000),
        "sock:sndlowat(size)": all_of(is_("size", 1), has("sock", "SO_SNDLOWAT", 1)),
        "sock:rcvtimeo(sec)": timeval(socket.SO_RCVTIMEO, 1.5),
        "sock:sndtimeo(sec)": timeval(socket.SO_SNDTIMEO, 1.5),
        "sock:linger(sec)": linger("sock", 5),
        "sock:mcastloop(enable)": has("udp", "IP_MULTICAST_LOOP", 0, socket.IPPROTO_IP),
        "sock:mcastttl(ttl)": has("udp", "IP_MULTICAST_TTL", 10, socket.IPPROTO_IP),
        "sock:mcastif(ifname)": check_multicast_if,
        "sock:mcastjoin(grp, ifname)": group_reached_from(LOOPBACK, "127.0.0.2"),
        "sock:mcastleave(grp, ifname)": group_reached_from(),
        "sock:mcastjoinsrc(grp, src, ifname)": group_reached_from(LOOPBACK),
        "sock:mcastleavesrc(grp, src, ifname)": group_reached_from(),
        "sock:mcastblocksrc(grp, src, ifname)": group_reached_from("127.0.0.2"),
        "sock:mcastunblocksrc(grp, src, ifname)": group_reached_from(LOOPBACK, "127.0.0.2"),
        "addrinfo.unix(path, type, protocol, flags...)": check_unix_address,
        "addrinfo.inet(addr, port, type, protocol, flags...)": inet_address(LOOPBACK),
        "addrinfo.inet6(addr, port, type, protocol, flags...)": inet_address("::1"),
        "addrinfo.getaddrinfo(host, service, family, type, protocol, flags...)": found_hosts(LOOPBACK, "::1"),
        "inet.getaddrinfo(host, port, socktype, protocol, flags...) (2016)": found_hosts(LOOPBACK),
        "inet.getaddrinfo6(host, port, socktype, protocol, flags...) (2016)": found_hosts("::1"),
        "unix.getaddrinfo(path, socktype, protocol, flags...) (2016)": check_unix_address,
        "ai:family()": is_("family", int(socket.AF_INET)),
        "ai:socktype()": is_("kind", int(socket.SOCK_STREAM)),
        "ai:protocol()": is_("number", socket.IPPROTO_TCP),
        "ai:canonname()": check_name,
        "ai:port()": is_("port", 80),
        "ai:addr()": is_("host", LOOPBACK),
        "ai:getnameinfo(flags...)": all_of(is_("host", LOOPBACK), is_("service", "80")),
        "ai:nameinfo(flags...) (2016)": is_("host", LOOPBACK),
        "cmsghdr.new(level, type, data)": check_control_is_sent,
        "cmsghdr.rights(fd, ...)": check_rights,
        "cmsg:level()": is_("level", int(socket.SOL_SOCKET)),
        "cmsg:type()": is_("number", 99),
        "cmsg:data()": is_("data", b"data"),
        "cmsghdrs.new()": check_no_controls,
        "cmsgs:push(cmsg)": file_arrived("unix_peer", b"x"),
        "cmsgs:shift()": check_shift,
        "msghdr.new()": check_message,
        "mh:name(ai)": datagram_arrived("udp", b"data"),
        "mh:iov(iov)": datagram_arrived("udp", b"data"),
        "mh:control(cmsgs)": file_arrived("unix_peer", b"x"),
        "mh:flags()": is_("flags", ("trunc",)),
        "device.getifaddrs()": check_interfaces,
        "env.os": is_("platform", sys.platform),
        "env.unixpath_max": check_unix_path_max,
        "env.somaxconn": is_("backlog", socket.SOMAXCONN),
        "AF_*": is_("family", socket.AF_INET6),
        "AI_*": is_("flags", socket.AI_PASSIVE | socket.AI_NUMERICHOST),
        "IPPROTO_*": is_("protocol", socket.IPPROTO_ICMPV6),
        "MSG_*": is_("flags", socket.MSG_PEEK | socket.MSG_TRUNC),
        "NI_*": is_("flags", socket.NI_NAMEREQD | socket.NI_DGRAM),
        "SOCK_*": is_("kind", socket.SOCK_SEQPACKET),
        "SHUT_*": is_("how", socket.SHUT_RDWR),
        "SOL_SOCKET": is_("level", socket.SOL_SOCKET),
        "SCM_*": check_constants,
        "err.type, errno.*": check_refused,
    },
    "Lunatik": {
        "socket.new(family, type)": new_udp,
        "sock:bind(ip, port)": bound_to("fresh", LOOPBACK),
        "sock:listen(backlog)": listens(),
        "sock:accept(flags)": accepted(),
        "sock:connect(ip, port, flags)": works("fresh"),
        "sock:sendmsg(msghdr, data)": all_of(datagram_arrived("udp", b"\1\2\3"), is_("count", 3)),
        "sock:recvmsg(msghdr, flags)": check_recvmsg_2018,
        "sock:recvmsg(msghdr, buffer, flags)": into_buffer("size"),
        "sock:send(data)": arrived_count("peer", b"\1\2\3"),
        "sock:recv(size)": is_("data", b"hello"),
        "sock:recv(buffer)": into_buffer("count"),
        "sock:close()": closed("sock"),
        "sock:getsockname()": lambda world: is_("port", world.peer.getpeername()[1])(world),
        "sock:getpeername()": is_("number", 0x7F000001),
        "sock:getsockopt(level, opt)": lambda world: has("sock", "SO_RCVBUF", world["size"])(world),
        "sock:setsockopt(level, opt, value)": has("sock", "SO_KEEPALIVE"),
        'option letters "b", "d", "dt", "e", "k", "l", "n", "o", "p", "r", "ra", "rp", "s", "t"': check_letters,
        'option letters "rf", "sf"': is_("accepts", (True, True)),
        'flags "D"': is_("data", b"hello"),
        "socket.poll(sockets)": check_poll,
        "lpoll:select()": lambda world: is_("ready", [(world.sock, Ready.READABLE)])(world),
        "data.new(size)": is_("data", bytearray(4096)),
        "d:segment(offset, length)": check_segment,
        "data.layout(fields)": check_struct,
        "d:layout(fields)": check_layout,
        "socket.new(family, type, proto) (today)": new_tcp,
        "sock:send(message, addr, port) (today)": all_of(datagram_arrived("udp_peer", b"data"), is_("count", 4)),
        "sock:receive(len, flags, from) (today)": check_datagram,
        "sock:setsockopt(level, opt, packed) (today)": linger("sock", 5),
        "sock:connect(addr, port, flags) (today)": check_nonblocking_connect,
        "sock:close() (today)": all_of(closed("peer"), ended("sock")),
        "AF_PACKET (today)": check_packet,
        "AF_NETLINK (today)": check_netlink,
        "inet.tcp() (today)": new_tcp,
        "inet.udp() (today)": new_udp,
        "inet:bind(ip, port) (today)": bound_to("fresh", "0.0.0.0"),
        "inet:connect(ip, port) (today)": works("conn"),
        "inet:send(message, ip, port) (today)": all_of(datagram_arrived("udp_peer", b"data"), is_("count", 4)),
        "tcp:accept() (today)": all_of(accepted(), new_socket(socket.AF_INET, socket.SOCK_STREAM, name="conn")),
        "udp:receivefrom(len, flags) (today)": lambda world: is_("where", world.udp_peer.getsockname())(world),
        "udp:sendto(message, ip, port) (today)": all_of(datagram_arrived("udp_peer", b""), is_("count", 0)),
        "inet.localhost (today)": is_("host", 0x7F000001),
        "unix.stream(path) (today)": check_unix_stream,
        "unix.dgram(path) (today)": check_unix_datagram,
        "unix:bind(path) (today)": check_autobind,
        "raw.bind(proto, ifindex) (today)": check_packet,
        'raised "ECONNREFUSED" (today)': check_refused,
    },
    "NetNet": {
        "CreateTcpSocket()": new_tcp,
        "CreateTcpServerSocket(port, backlog)": check_dual_stack,
        "SetOption(level, name, value, length)": has("sock", "SO_KEEPALIVE"),
        "SetReuseAddress(on)": has("fresh", "SO_REUSEADDR"),
        "SetNonBlocking(on)": would_block("sock"),
        "GetBytesPendingReceive()": is_("count", 5),
        "Accept()": accepted(),
        "BindToPort(port, family)": bound_to("fresh", "0.0.0.0"),
        "Close()": closed("sock"),
        "CloseDown()": all_of(closed("peer"), ended("sock")),
        "Connect()": works("fresh"),
        "StartListening(backlog)": listens(),
        "Receive(buffer, length)": into_buffer("count"),
        "Send(buffer, length)": arrived_count("peer", b"0123"),
        "CreateIPV4WildcardAddress(family, port)": inet_address("0.0.0.0"),
        "CreateSocketAddress(host, port)": inet_address(LOOPBACK),
        "sockaddr:Equal(other)": is_("same", True),
        "sockaddr:GetPort()": is_("port", 80),
        "sockaddr:GetAddressString()": is_("text", LOOPBACK),
        "SetKeepAlive(on, delay)": tcp_option_30,
        "SetNoDelay(on)": has_tcp("sock", "TCP_NODELAY"),
        "ForceClose()": check_reset,
        "Shutdown(how)": ended("peer"),
        "ShutdownReceive()": check_shut_receive,
        "ShutdownSend()": ended("peer"),
        "ConnectTo(address)": works("fresh"),
        "MakePassive(backlog)": listens(),
        "Bind(address)": bound_to("fresh", LOOPBACK),
        "CanReadWithoutBlocking()": check_readable,
        "CanWriteWithoutBlocking()": check_writable,
        "CreateTcpServerSocket{port, backlog, nonblocking, nodelay}": check_nodelay_of_accepted,
        "CreateTcpClientSocket(host, port)": works("conn"),
        "ReadN(sock, buffer, n)": is_("data", b"hello"),
        "WriteN(sock, buffer, n)": arrived("peer", b"data"),
        "ReadLine(sock, buffer, n)": check_lines,
        "host_serv(name)": inet_address("::1"),
        "NetStream.Open(host, port)": check_stream,
        "stream:ReadByte(), ReadBytes(n), ReadString(n)": all_of(is_("byte", b"h"), is_("rest", b"ello")),
        "stream:WriteByte(b), WriteBytes(b, n), WriteString(s), WriteLine(s)": arrived("peer", b"data\n"),
        "stream:SetReadTimeout(ms), SetWriteTimeout(ms)": check_timed_out,
        "stream:SetIdleInterval(ms)": Timed(all_of(is_("data", b"hello"), check_moved_deadline)),
        "stream:IsIdle()": Timed(all_of(is_("data", b"hello"), expired("idle"))),
        "stream:Cycle()": Timed(is_("result", netnet.RelayResult(5, 0, "idle"))),
        "SocketPool{host, port, reserve, timeout}": check_warm_pool,
        "NativeSocket:create(family, type, protocol)": new_tcp,
        "NativeSocket:createClient(host, port)": works("conn"),
        "NativeSocket:createServer(params)": listens("server"),
        "NativeSocket:init(handle, autoclose)": check_wrap,
        "setExclusiveAddress(on)": check_exclusive,
        "getLastError()": check_no_error,
        "isConnected()": is_("state", TcpState.ESTABLISHED),
        "sendTo(buffer, length, address)": all_of(datagram_arrived("udp_peer", b"data"), is_("count", 4)),
        "receiveFrom(buffer, length)": all_of(
            into_buffer("count"), lambda world: is_("sender", world.udp_peer.getsockname())(world)
        ),
        "SocketServer(port, onAccept):run()": check_served,
        "TcpSplice(a, b):run()": check_relayed,
        "Network.GetInterfaces()": check_loopback_interface,
        "run(main)": is_("answer", 42),
        "spawn(func, ...)": finished(42),
        "coop(priority, func)": is_("answer", 42),
        "suspend()": Timed(is_("woken", True)),
        "setMessageQuanta(n)": all_of(is_("finished", True), finished(42)),
        "halt()": is_("ended", False),
        "Application:stop()": cancelled,
        "yield()": check_nothing,
        "sleep(milliseconds)": check_nothing,
        "delay(func, milliseconds)": Timed(all_of(finished(42), is_("events", []))),
        "periodic(func, milliseconds)": Timed(all_of(is_("events", ["again"] * 2), cancelled)),
        "runningTime()": check_now,
        "getCurrentTaskID()": lambda world: is_("number", netnet.current_task().number)(world),
        "taskIsFinished(task)": all_of(is_("finished", True), finished(42)),
        "waitForSignal(name), signalAll(name)": all_of(finished(True), check_event),
        "signalOne(name)": is_("finished", [True, False]),
        "signalAllImmediate(name)": is_("finished", True),
        "onSignal(func, name)": finished(42),
        "waitFor(predicate)": is_("found", ["changed"]),
        "waitForPredicate(predicate), waitForTruth(predicate) (schedlua)": Timed(is_("found", ["changed"])),
        "signalOnPredicate(predicate, name) (schedlua)": all_of(is_("events", [1]), check_event),
        "when(predicate, func)": finished(42),
        "whenever(predicate, func)": is_("events", [1, 2]),
        "sock:connect(host, port) (schedlua)": works("fresh"),
        "sock:read(buffer, n) (schedlua)": into_buffer("count"),
        "sock:write(buffer, n) (schedlua)": arrived_count("peer", b"data"),
        "setUseKeepAlive(on), setUseReuseAddress(on) (schedlua)": check_options_of_both,
    },
    "luapower": {
        "socket.addr(host, port, type, family, protocol, flags) (socket2)": found_hosts(LOOPBACK, "::1"),
        "getaddrinfo(host, port, type, family, protocol, flags) (sock)": found_hosts(LOOPBACK),
        'host "*", host false': check_lookup_of_every_interface,
        'types "tcp", "udp", "raw"': is_("kinds", (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)),
        'families "inet", "inet6", "unix", "ip", "ip6"': is_(
            "families", (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        ),
        'protocols "ip", "ipv6", "tcp", "udp", "raw", "icmp", "igmp", "icmpv6"': is_(
            "numbers", [0, 41, 6, 17, 255, 1, 2, 58]
        ),
        "flags passive, cannonname, numerichost, numericserv, all, v4mapped, addrconfig": is_(
            "flags",
            socket.AI_PASSIVE
            | socket.AI_CANONNAME
            | socket.AI_NUMERICHOST
            | socket.AI_NUMERICSERV
            | socket.AI_ALL
            | socket.AI_V4MAPPED
            | socket.AI_ADDRCONFIG,
        ),
        "ai:free()": check_host_is_gone,
        "ai:next(), ai:addrs()": is_("hosts", [LOOPBACK]),
        "ai:type(), ai:family(), ai:protocol()": is_(
            "numbers", (socket.SOCK_STREAM, socket.AF_INET, socket.IPPROTO_TCP)
        ),
        "ai:name()": check_name,
        "ai:tostring()": is_("text", "127.0.0.1:80"),
        "ai.addr (sock)": inet_address(LOOPBACK),
        "sa:addr() (sock)": is_("ip", ipaddress.IPv4Address(LOOPBACK)),
        "ip:tobinary() (sock)": is_("data", b"\x7f\0\0\1"),
        "sockaddr(s, port, timeout) (allegory)": check_resolved,
        "sockaddrs(s, port, timeout) (allegory)": check_resolved,
        'timeout "noresolve" (allegory)': failed(socket.gaierror, socket.EAI_NONAME),
        '"IP:PORT", "[IP6]:PORT", "HOST:PORT", "unix:PATH" (allegory)': is_(
            "kinds", [netnet.IPv4Address, netnet.IPv6Address, netnet.HostAddress, netnet.UnixAddress]
        ),
        "issockaddr(v) (allegory)": is_("answers", [True, False]),
        "sa:family(), sa:port(), sa:ip(), sa:tostring() (allegory)": is_(
            "parts", (socket.AF_INET, 80, LOOPBACK, "127.0.0.1:80")
        ),
        "sa:set_port(port) (allegory)": is_("other", netnet.InetAddress(LOOPBACK, 81)),
        "is_ipv4(s) (allegory)": is_("answers", [True, False, False]),
        "resolver.lua (allegory)": check_resolved,
        "reverse_lookup(ip) (allegory)": is_("host", LOOPBACK),
        "tcp(family, protocol)": new_tcp,
        "udp(family, protocol)": new_udp,
        "raw(family, protocol), rawsocket(family, protocol)": new_socket(
            socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP
        ),
        "issocket(v)": is_("answers", (True, False)),
        "s:type(), s:family(), s:protocol()": is_("numbers", (socket.SOCK_STREAM, socket.AF_INET, socket.IPPROTO_TCP)),
        "s:close()": closed("sock"),
        "close without losing data": all_of(is_("rest", b"hello"), closed("sock")),
        "s:closed() (allegory)": is_("closed", True),
        "s:onclose(fn) (allegory)": all_of(is_("events", ["closed"]), closed("sock")),
        "s:bind(addr, port)": bound_to("fresh", LOOPBACK),
        "s:bound_addr() (allegory)": lambda world: is_("own", netnet.InetAddress(*world.fresh.getsockname()))(world),
        "ctcp:remote_addr() (allegory)": check_peer_address,
        "s:setopt(opt, value)": has("sock", "SO_KEEPALIVE"),
        "s:getopt(opt)": lambda world: has_tcp("sock", "TCP_NODELAY", world.value)(world),
        "s.r, s.w (allegory)": is_("counts", (5, 4)),
        "s:settimeout(seconds) (allegory)": Timed(failed(TimeoutError)),
        's:settimeout(seconds, "r"), s:settimeout(seconds, "w") (allegory)': Timed(is_("data", b"hello")),
        's:setexpires(clock, "r"), s:setexpires(clock, "w") (allegory)': all_of(
            is_("data", b"hello"), arrived("peer", b"data")
        ),
        "expires of a call (socket2, sock)": Timed(is_("data", b"hello")),
        "tcp:listen(backlog, host, port)": listens("server"),
        "listen(addr, port, backlog, onaccept) (allegory)": check_served,
        "connect(addr, port, timeout, client_ip) (allegory)": all_of(works("conn"), bound_to("conn", LOOPBACK)),
        "tcp:connect(host, port, expires)": works("fresh"),
        "tcp:accept(expires)": check_own_address,
        "tcp:send(s, len)": arrived("peer", b"0123"),
        "tcp:write(s, len) (allegory)": arrived("peer", b"data"),
        "tcp:recv(buf, maxlen)": into_buffer("count"),
        "tcp:read(buf, maxlen) (allegory)": is_("data", b"hello"),
        "tcp:recvn(buf, n)": check_partial,
        "tcp:readn(buf, n) (allegory)": is_("data", b"hello"),
        "tcp:recvall()": is_("data", b"hello"),
        "tcp:recvall_read()": lambda world: is_("read", b"he")(World(read=world.read(2))),
        'tcp:shutdown("w")': ended("peer"),
        "udp:send(s, len, host, port) (socket2)": all_of(datagram_arrived("udp_peer", b"data"), is_("count", 4)),
        "udp:recv(buf, maxlen, host, port) (socket2)": all_of(
            into_buffer("count"), lambda world: is_("sender", world.udp_peer.getsockname())(world)
        ),
        "udp:connect(host, port)": datagram_arrived("udp_peer", b"data"),
        "udp:send(s, len)": all_of(datagram_arrived("udp_peer", b""), is_("count", 0)),
        "udp:recv(buf, maxlen)": into_buffer("count"),
        "udp:sendto(host, port, s, len)": all_of(datagram_arrived("udp_peer", b"data"), is_("count", 4)),
        "udp:recvnext(buf, maxlen)": check_datagram,
        "so_reuseaddr, so_reuseport": all_of(has("fresh", "SO_REUSEADDR"), has("fresh", "SO_REUSEPORT")),
        "so_type, so_error, so_acceptconn, so_protocol, so_domain": check_listener_values,
        "so_broadcast": has("udp", "SO_BROADCAST"),
        "so_sndbuf, so_rcvbuf": all_of(has("sock", "SO_SNDBUF", 40000), has("sock", "SO_RCVBUF", 40000)),
        "so_keepalive, tcp_keepidle, tcp_keepintvl, tcp_keepcnt": all_of(
            tcp_option_30, has_tcp("sock", "TCP_KEEPINTVL", 7), has_tcp("sock", "TCP_KEEPCNT", 4)
        ),
        "so_priority": has("sock", "SO_PRIORITY", 5),
        "so_linger": linger("sock", 5),
        "so_bindtodevice": check_device,
        "tcp_nodelay, tcp_cork, tcp_quickack": all_of(
            has_tcp("sock", "TCP_NODELAY"), has_tcp("sock", "TCP_CORK"), has_tcp("sock", "TCP_QUICKACK", 0)
        ),
        "tcp_maxseg": lambda world: is_("asked", 1000)(World(asked=world.fresh.maxseg)),
        "tcp_defer_accept": check_defer_accept,
        "tcp_user_timeout": has_tcp("sock", "TCP_USER_TIMEOUT", 5000),
        "tcp_fastopen, tcp_fastopen_connect": all_of(
            has_tcp("listener", "TCP_FASTOPEN", 5),
            lambda world: is_("on", 1)(World(on=kernel(world.fresh, socket.IPPROTO_TCP, 30))),
        ),
        "ip_tos, ip_ttl, ip_freebind": all_of(
            has("fresh", "IP_TOS", 16, socket.IPPROTO_IP),
            has("fresh", "IP_TTL", 9, socket.IPPROTO_IP),
            lambda world: is_("set", True)(World(set=world.fresh.freebind)),
        ),
        "ip_multicast_ttl, ip_multicast_loop": check_udp_loop,
        "ipv6_v6only": has("new", "IPV6_V6ONLY", 1, socket.IPPROTO_IPV6),
        "udp_cork": check_udp_cork,
        "newthread(f) (socket2)": all_of(is_("begun", [1]), finished(None)),
        "newthread(f), thread(f, fmt, ...) (sock, allegory)": all_of(
            finished(42), lambda world: is_("name", "main number 1")(World(name=world.task.name))
        ),
        "resume(thread, value)": finished("go on"),
        "yield(value)": is_("value", "a value"),
        "suspend()": finished(True),
        "cowrap(f)": is_("first", b"hello"),
        "currentthread()": lambda world: is_("name", netnet.current_task().name)(world),
        "threadstatus(thread)": check_status,
        "threadenv(thread)": is_("name", "anna"),
        "ownthreadenv()": is_("name", "nobody"),
        "onthreadfinish(fn)": is_("events", [42]),
        "threadset(), ts:thread(f)": results(2, 4),
        "ts:join()": is_("results", [2, 4]),
        "sock_chan": is_("items", [1]),
        "respool": check_reused,
        "http_client": check_request,
        "stdin_async_pipe, stdout_async_pipe, stderr_async_pipe": is_("data", b"data"),
        "poll(timeout), poll(ignore_interrupts)": check_turned,
        "start(timeout)": is_("ended", False),
        "try_start() (allegory)": lambda world: are(ended=True, value=42)(
            World(ended=world.ended, value=world.task.value)
        ),
        "stop()": is_("ended", False),
        "run(f, ...)": is_("answer", 42),
        "SIGINT, SIGTERM (allegory)": check_system_exit,
        "epoll_fd(epfd)": is_("answer", 42),
        "sleep(seconds), wait(seconds)": Timed(check_nothing),
        "sleep_until(clock), wait_until(clock)": Timed(check_nothing),
        "sleep_job(), job:sleep(seconds), job:sleep_until(clock), job:wakeup() (sock)": Timed(is_("woken", True)),
        "wait_job(), job:resume(), job:cancel() (allegory)": Timed(is_("events", [])),
        "s:wait(seconds), s:wait_until(clock), s:wait_job() (allegory)": Timed(check_group_of_socket),
        "runat(clock, f)": Timed(finished(42)),
        "runafter(seconds, f)": Timed(finished(42)),
        "runevery(seconds, f)": Timed(all_of(is_("events", ["again"] * 2), cancelled)),
        "runagainevery(seconds, f) (allegory)": Timed(all_of(is_("events", ["again"] * 3), cancelled)),
        "timer:cancel()": Timed(check_never_fired),
        '"access_denied"': failed(PermissionError, errno.EACCES),
        '"not_found"': failed(FileNotFoundError, errno.ENOENT),
        '"already_exists"': failed(FileExistsError, errno.EEXIST),
        '"not_supported"': failed(OSError, errno.EOPNOTSUPP),
        '"again"': failed(BlockingIOError, errno.EAGAIN),
        '"address_already_in_use"': check_address_in_message,
        '"already_bound"': failed(OSError, errno.EINVAL),
        '"connection_refused"': failed(ConnectionRefusedError, errno.ECONNREFUSED),
        '"connection_reset"': failed(ConnectionResetError, errno.ECONNRESET),
        '"connection_aborted", "io_error", "out_of_mem"': is_("kinds", [ConnectionAbortedError, OSError, OSError]),
        '"eof" of a receiver': is_("data", [b"hello", b"", b""]),
        '"eof" of a sender': check_bytes_sent,
        '"timeout"': Timed(failed(TimeoutError)),
        '"closed"': failed(netnet.ClosedError, errno.EBADF),
        '"empty"': is_("turned", False),
        "the assertion for EBADF": failed(netnet.ClosedError, errno.EBADF),
        "the assertion for an option": failed(netnet.OptionError),
        "a time-out closes the socket (2020 and 2021)": Timed(all_of(failed(TimeoutError), is_("data", b"data"))),
        "a call without try_ that fails closes the socket (allegory)": all_of(
            failed(netnet.OptionError), is_("data", b"hello")
        ),
        "a deadline is cleared when it has fired (allegory)": Timed(check_refused_twice),
        "newthread runs the function at once (socket2)": check_begun,
        "a new thread has to be resumed (sock, allegory)": is_("answer", 42),
        "a thread that waits is resumed with an error": failed(netnet.TaskCancelledError),
        "no input and output in the main thread": is_("data", b"hello"),
        "send returns a length, or true": all_of(is_("counts", (4, None)), arrived("peer", b"datamore")),
        "recv(buf, 0) is refused (sock)": is_("data", b""),
        "accept returns a buffer, or fields": accepted(),
        "options on Windows only, or reuseaddr only (socket2, sock)": check_option_names,
        "closing a listener closes what it accepted (allegory)": check_went_on,
        "close does not wake who waits (socket2, sock)": failed(netnet.ClosedError),
        "late timers never fire (socket2, sock)": Timed(finished(42)),
        "wakeup and cancel are broken on Linux (sock)": Timed(check_never_fired),
        "a thread's error ends the loop, or is only logged": failed(ValueError),
    },
    "gevent": {
        "monkey.patch_all()": works("conn"),
        "gevent.spawn(f, x)": finished(42),
        "gevent.spawn_later(seconds, f)": Timed(finished(42)),
        "gevent.joinall(greenlets)": results(2, 4),
        "gevent.iwait(greenlets), gevent.wait(greenlets, count=1)": is_("answer", 42),
        "greenlet.get(timeout=5)": is_("answer", 42),
        "greenlet.kill()": cancelled,
        "gevent.killall(greenlets)": cancelled,
        "gevent.getcurrent()": lambda world: is_("task", netnet.current_task())(world),
        "gevent.sleep(seconds), gevent.idle()": Timed(check_nothing),
        "gevent.Timeout(5)": Timed(expired("limit")),
        "gevent.with_timeout(5, f)": is_("answer", 42),
        "gevent.pool.Pool(2).map(f, items)": check_limited,
        "gevent.queue.Queue(10)": is_("item", 1),
        "gevent.event.Event()": finished(True),
        "gevent.event.AsyncResult()": is_("answer", 42),
        "gevent.lock.BoundedSemaphore(1), RLock()": is_("events", ["both"]),
        "gevent.local.local()": is_("name", "anna"),
        "StreamServer(address, handle).serve_forever()": check_served,
        "server.stop(timeout=5)": check_drained,
        "gevent.threadpool.ThreadPool(2).apply(f)": is_("answer", 42),
        "gevent.socket.wait_read(fd)": check_readable,
        "gevent.signal_handler(signum, f)": is_("number", signal.SIGUSR1),
        "gevent.util.print_run_info()": check_tree,
    },
    "asyncio": {
        "asyncio.run(main())": is_("answer", 42),
        "asyncio.create_task(f(x))": finished(42),
        "asyncio.gather(f(1), f(2))": is_("results", [2, 4]),
        "asyncio.TaskGroup()": results(2, 4),
        "asyncio.wait(tasks, return_when=FIRST_COMPLETED)": is_("answer", 42),
        "asyncio.wait_for(f(x), 5)": is_("answer", 42),
        "asyncio.timeout(5), asyncio.timeout_at(when)": Timed(
            lambda world: is_("when", 9)(World(when=world.limit.when() - netnet.now()))
        ),
        "asyncio.shield(task)": finished(42),
        "task.cancel(), asyncio.CancelledError": failed(netnet.TaskCancelledError),
        "asyncio.current_task(), asyncio.all_tasks()": check_everybody,
        "asyncio.sleep(seconds)": Timed(check_nothing),
        "loop.call_later(seconds, f), handle.cancel()": Timed(check_never_fired),
        "asyncio.Queue(10)": all_of(is_("item", 1), lambda world: is_("left", 0)(World(left=world.queue.qsize()))),
        "asyncio.Lock(), asyncio.Condition()": is_("events", ["both"]),
        "asyncio.Event()": finished(True),
        "asyncio.Semaphore(2)": check_limited,
        "loop.create_future(), future.set_result(42)": is_("answer", 42),
        "asyncio.to_thread(f), loop.run_in_executor(None, f)": is_("answer", 42),
        "asyncio.run_coroutine_threadsafe(f(), loop)": is_("answer", 42),
        "asyncio.start_server(handler, host, port)": check_served,
        "asyncio.open_connection(host, port)": check_buffered_connection,
        "reader.readline()": is_("lines", [b"hello\n", b"\n"]),
        "reader.readexactly(n)": is_("data", b"hello"),
        "reader.readuntil(separator)": is_("data", b"h"),
        "reader.read(n), reader.read()": are(data=b"hello", rest=b""),
        "writer.write(data), writer.drain()": arrived("peer", b"data"),
        "writer.write_eof()": ended("peer"),
        "writer.close(), writer.wait_closed()": closed("sock"),
        "loop.add_reader(fd, f)": check_readable,
        "loop.add_signal_handler(signum, f)": is_("number", signal.SIGUSR1),
    },
    "trio": {
        "trio.run(main)": is_("answer", 42),
        "trio.open_nursery(), nursery.start_soon(f, x)": finished(42),
        "nursery.start(f)": lambda world: is_("state", (True, False))(
            World(state=(world.started.is_set(), world.task.done))
        ),
        "nursery.cancel_scope.cancel()": cancelled,
        "trio.fail_after(5)": is_("data", b"hello"),
        "trio.move_on_after(5)": Timed(expired("limit")),
        "trio.CancelScope()": Timed(is_("events", [])),
        "trio.CancelScope(shield=True)": Timed(check_shielded_lines),
        "trio.current_effective_deadline()": check_deadline_left,
        "trio.open_memory_channel(10)": is_("items", [1, 2]),
        "send_channel.send_nowait(item)": is_("taken", (True, False)),
        "trio.CapacityLimiter(2)": is_("free", 1),
        "trio.Event(), trio.Lock(), trio.Condition()": finished(True),
        "trio.to_thread.run_sync(f)": is_("answer", 42),
        "trio.from_thread.run(f)": is_("answer", 42),
        "trio.open_signal_receiver(signum)": is_("number", signal.SIGUSR1),
        "trio.serve_tcp(handler, port)": check_served,
        "trio.open_tcp_stream(host, port)": works("conn"),
        "stream.send_all(data), stream.send_eof()": all_of(arrived("peer", b"data"), ended("peer")),
        "async for chunk in stream": is_("chunks", [b"hello"]),
        "trio.sleep_forever(), trio.sleep_until(when)": Timed(cancelled),
        "trio.current_time()": check_now,
        "trio.lowlevel.checkpoint()": is_("finished", True),
        "trio.lowlevel.wait_writable(fd)": check_nothing,
        "trio.lowlevel.current_trio_token()": is_("answer", 42),
        "trio.testing.MockClock(), wait_all_tasks_blocked()": is_("answer", None),
    },
    "Go": {
        "go f(x)": finished(42),
        "make(chan int), c <- 1, <-c": is_("item", 1),
        "make(chan int, 10), close(c), for x := range c": is_("items", [1, 2]),
        "x, ok := <-c": check_closed_channel,
        "select { case x := <-c: case d <- 7: case <-time.After(60): }": check_sent_case,
        "select { default: }": is_("chosen", (1, None)),
        "context.WithTimeout(ctx, 5), context.WithDeadline(ctx, when)": is_("data", b"hello"),
        "context.WithCancel(ctx)": Timed(is_("events", [])),
        "context.WithValue(ctx, key, value)": is_("name", "anna"),
        "sync.WaitGroup, errgroup.Group": results(2, 4),
        "group.SetLimit(2)": check_limited,
        "sync.Mutex, sync.Cond": is_("found", ["changed"]),
        "time.Sleep(60), runtime.Gosched()": Timed(check_nothing),
        "time.AfterFunc(60, f), timer.Stop()": Timed(all_of(finished(42), is_("events", []))),
        "time.NewTicker(60), ticker.Stop()": Timed(all_of(is_("events", ["again"] * 2), cancelled)),
        'net.Dial("tcp", address), net.DialTimeout(...)': works("conn"),
        'net.Listen("tcp", address)': listens("server"),
        "l.Accept(), go handle(c)": check_served,
        "c.SetDeadline(when), c.SetReadDeadline(when)": is_("data", b"hello"),
        "c.(*net.TCPConn).CloseWrite()": ended("peer"),
        "io.ReadFull(c, b)": is_("data", b"hello"),
        r"bufio.NewReader(c).ReadString('\n')": is_("lines", [b"hello\n", b"\n"]),
        "io.ReadAll(c)": is_("data", b"hello"),
        "io.Copy(a, b) both ways": check_relayed,
        "os.ErrDeadlineExceeded": Timed(failed(TimeoutError)),
        "net.ErrClosed": failed(netnet.ClosedError, errno.EBADF),
        "io.EOF, io.ErrUnexpectedEOF": check_partial,
        "net.LookupHost(name), net.LookupAddr(ip)": all_of(check_resolved, is_("host", LOOPBACK)),
        "signal.Notify(c, signum)": is_("number", signal.SIGUSR1),
        "a goroutine dump": check_tree,
    },
}

TABLES = {title: rows(title) for title in CHECKS}
CASES = [(title, theirs) for title, table in TABLES.items() for theirs in table]


#: what begins a run or a loop of its own
OUTSIDE = re.compile(r"\bnetnet\.(run|Loop)\b")


def carried_out(title, theirs, tmp_path):
    """Prepares a world, runs the row in it, looks at what became of it."""
    check = CHECKS[title][theirs]
    world = prepared(tmp_path)
    try:
        try:
            exec(TABLES[title][theirs], world)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            pytest.skip("needs a privilege")
        (check.check if isinstance(check, Timed) else check)(world)
    finally:
        tidied(world)


@pytest.mark.parametrize(("title", "theirs"), CASES, ids=[f"{title}-{theirs}" for title, theirs in CASES])
def test_row(title, theirs, run, tmp_path):
    if OUTSIDE.search(TABLES[title][theirs]):
        carried_out(title, theirs, tmp_path)
    else:
        clock = VirtualClock() if isinstance(CHECKS[title][theirs], Timed) else None
        run(lambda: carried_out(title, theirs, tmp_path), clock=clock)


@pytest.mark.parametrize("title", CHECKS)
def test_every_row_has_a_check_and_every_check_a_row(title):
    assert list(TABLES[title]) == list(CHECKS[title])


def test_every_table_has_a_section_that_is_looked_at():
    assert len(table_lines(PAGE)) == len(CASES)
    assert PAGE.count("\n".join(HEAD)) == PAGE.count(HEAD[0]) == PAGE.count(HEAD[1])


def test_every_section_is_linked():
    sections = re.findall(r"^## (.+)$", PAGE, re.M)
    assert sections == [*CHECKS, LEFT_OUT]
    linked = re.findall(r"\]\(#([^)]+)\)", PAGE.split("\n## ")[0])
    assert linked == [title.lower().replace(" ", "-") for title in sections]


def test_every_name_that_rows_use_is_told():
    opening = PAGE.split("\n## ")[0].split("```")
    told = {*re.findall(r"`(\w+)`", opening[2]), *re.findall(r"^def (\w+)", OPENING, re.M)}
    used = {name for table in TABLES.values() for code in table.values() for name in re.findall(r"\w+", code)}
    assert set(PREPARED) & used <= told


#: what v0.16.1 of llsocket documents, and what 2016 called otherwise
LLSOCKET = """
    socket.new socket.wrap socket.pair socket.close socket.shutdown
    sock:addgcfn sock:delgcfn sock:unwrap sock:dup sock:fd sock:family sock:socktype sock:protocol sock:bind sock:connect
    sock:listen sock:accept sock:acceptfd sock:shutdown sock:close sock:sendable sock:recvable sock:write sock:send
    sock:sendto sock:sendfd sock:sendmsg sock:sendfile sock:read sock:recv sock:recvfrom sock:recvfd sock:recvmsg
    sock:atmark sock:getsockname sock:getpeername sock:cloexec sock:nonblock sock:error sock:acceptconn sock:tcpnodelay
    sock:tcpkeepintvl sock:tcpkeepcnt sock:tcpkeepalive sock:tcpcork sock:reuseport sock:reuseaddr sock:broadcast
    sock:debug sock:keepalive sock:oobinline sock:dontroute sock:timestamp sock:rcvbuf sock:rcvlowat sock:sndbuf
    sock:sndlowat sock:rcvtimeo sock:sndtimeo sock:linger sock:mcastloop sock:mcastttl sock:mcastif sock:mcastjoin
    sock:mcastleave sock:mcastjoinsrc sock:mcastleavesrc sock:mcastblocksrc sock:mcastunblocksrc
    addrinfo.unix addrinfo.inet addrinfo.inet6 addrinfo.getaddrinfo ai:family ai:socktype ai:protocol ai:canonname ai:port
    ai:addr ai:getnameinfo cmsghdr.new cmsghdr.rights cmsg:level cmsg:type cmsg:data cmsghdrs.new cmsgs:push cmsgs:shift
    msghdr.new mh:name mh:iov mh:control mh:flags device.getifaddrs env.os env.unixpath_max env.somaxconn
    AF_* AI_* IPPROTO_* MSG_* NI_* SOCK_* SHUT_* SOL_SOCKET SCM_*
    inet.getaddrinfo inet.getaddrinfo6 unix.getaddrinfo ai:nameinfo
"""

#: the socket library of 2018 and today's
LUNATIK = """
    socket.new sock:bind sock:listen sock:accept sock:connect sock:sendmsg sock:recvmsg sock:send sock:recv sock:close
    sock:getsockname sock:getpeername sock:getsockopt sock:setsockopt socket.poll lpoll:select
    data.new data.layout d:layout d:segment sock:receive AF_PACKET AF_NETLINK
    inet.tcp inet.udp inet:bind inet:connect inet:send tcp:accept udp:receivefrom udp:sendto inet.localhost
    unix.stream unix.dgram unix:bind raw.bind
"""

#: the blog, LJIT2Win32, TINN, schedlua
NETNET = """
    CreateTcpSocket CreateTcpServerSocket SetOption SetReuseAddress SetNonBlocking GetBytesPendingReceive Accept BindToPort
    Close CloseDown Connect StartListening Receive Send CreateIPV4WildcardAddress CreateSocketAddress
    SetKeepAlive SetNoDelay ForceClose Shutdown ShutdownReceive ShutdownSend ConnectTo MakePassive Bind
    CanReadWithoutBlocking CanWriteWithoutBlocking CreateTcpClientSocket ReadN WriteN ReadLine host_serv
    Open ReadByte ReadBytes ReadString WriteByte WriteBytes WriteString WriteLine
    IsIdle SetIdleInterval SetReadTimeout SetWriteTimeout Cycle
    create createClient createServer init setExclusiveAddress getConnectionTime getLastError isConnected sendTo receiveFrom
    SocketServer TcpSplice SocketPool GetInterfaces
    run halt spawn coop suspend yield sleep delay periodic runningTime getCurrentTaskID taskIsFinished
    waitFor when whenever signalOne signalAll signalAllImmediate waitForSignal onSignal setMessageQuanta
    waitForPredicate waitForTruth signalOnPredicate connect read write setUseKeepAlive setUseReuseAddress
"""


#: socket2's page, what sock added, and all of allegory-sdk's
LUAPOWER = """
    socket.addr ai:free ai:next ai:addrs ai:type ai:family ai:protocol ai:name ai:tostring tcp udp raw s:type s:family
    s:protocol s:close s:bind s:setopt s:getopt tcp:listen tcp:connect tcp:accept tcp:send tcp:recv tcp:shutdown udp:send
    udp:recv newthread poll start stop sleep_until sleep iocp epoll_fd expires
    passive cannonname numerichost numericserv all v4mapped addrconfig inet inet6 unix ip ipv6 icmp igmp icmpv6
    getaddrinfo ai.addr sa:addr ip:tobinary rawsocket udp:connect udp:sendto udp:recvnext sleep_job runat runafter runevery
    tcp:recvn tcp:recvall tcp:recvall_read stdin_async_pipe stdout_async_pipe stderr_async_pipe
    sockaddr sockaddrs issockaddr sa:family sa:port sa:set_port sa:ip sa:tostring sa:size is_ipv4 noresolve ip6
    issocket s:closed s:onclose s:bound_addr s:debug s.r s.w connect listen tcp:write tcp:read tcp:readn
    s:settimeout s:setexpires
    thread resume yield suspend cowrap currentthread threadstatus transfer cofinish threadenv ownthreadenv onthreadfinish
    try_start run SIGINT SIGTERM threadset ts:thread ts:join wait wait_until wait_job runagainevery s:wait s:wait_until
    s:wait_job timer:cancel job:sleep job:sleep_until job:wakeup job:resume job:cancel
    so_reuseaddr so_type so_error so_broadcast so_sndbuf so_rcvbuf so_keepalive so_priority so_linger so_reuseport
    so_bindtodevice so_acceptconn so_protocol so_domain tcp_nodelay tcp_maxseg tcp_cork tcp_keepidle tcp_keepintvl
    tcp_keepcnt tcp_defer_accept tcp_quickack tcp_user_timeout tcp_fastopen tcp_fastopen_connect ip_tos ip_ttl
    ip_multicast_ttl ip_multicast_loop ip_freebind ipv6_v6only udp_cork
    access_denied not_found interrupted io_error again already_exists not_supported eof address_already_in_use
    connection_aborted connection_reset connection_refused out_of_mem timeout closed already_bound empty EBADF
    sock_bearssl sock_libtls resolver.lua http_client respool proc.lua sock_chan
"""


@pytest.mark.parametrize(
    ("title", "names"), [("lua-llsocket", LLSOCKET), ("Lunatik", LUNATIK), ("NetNet", NETNET), ("luapower", LUAPOWER)]
)
def test_no_name_is_forgotten(title, names):
    told = "\n".join(TABLES[title])
    if title != "lua-llsocket":
        told += "\n".join(re.findall(r"`([^`]+)`", section(LEFT_OUT)))
    missing = [name for name in names.split() if not re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", told)]
    assert missing == []


def test_names_of_the_page_are_names_of_netnet():
    """Also those that stand in the text, where nothing is run."""
    names = set(re.findall(r"\bnetnet\.(\w+)", PAGE)) - {"select", "selectors"}  # modules that are imported on demand
    assert [name for name in names if not hasattr(netnet, name)] == []


def test_what_has_no_counterpart_is_not_here():
    for name in ("poll", "delay", "periodic", "when", "pool", "halt", "transfer", "iocp", "RWMutex", "RWLock", "tls"):
        assert not hasattr(netnet, name)
    for name in ("switch_to", "priority", "transfer"):
        assert not hasattr(netnet.Task, name)
