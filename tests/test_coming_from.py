"""The tables for those who come from lua-llsocket, Lunatik or NetNet: each row's code is run as it stands, in a world
prepared as the page says, and then its effect is looked at from outside. No row without a check, no name forgotten."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

import netnet
from netnet.kernel.control import Credentials, HopLimit, OtherControl, Rights, SecurityLabel, Timestamp
from netnet.kernel.interfaces import Interface, InterfaceFlags
from netnet.kernel.tcp_info import TcpState

PAGE = (Path(__file__).parent.parent / "docs" / "coming-from.md").read_text()

LOOPBACK = "127.0.0.1"
GROUP = "239.77.1.3"
CONTENT = b"0123456789"
WAIT_SECONDS = 10


# -- the page


def section(title):
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.M)[0]


def rows(title):
    """Theirs → the code here, of one table."""
    found = {}
    for line in section(title).splitlines():
        if not line.startswith("| `"):
            continue
        theirs, here, _ = re.fullmatch(r"\| (.+?) \| `(.+?)` \|(.*) ?\|", line).groups()
        theirs = theirs.replace("`", "")
        assert theirs not in found, f"{theirs} has two rows"
        found[theirs] = here
    return found


IMPORTS = re.search(r"```python\n(.*?)```", PAGE, re.S).group(1)


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


def echo(conn):
    for chunk in conn:
        conn.sendall(chunk)


def prepared(tmp_path):
    world = World(buffer=bytearray(CONTENT), events=[], echo=echo, main=lambda: 42, path=str(tmp_path / "socket"))
    exec(IMPORTS, world)
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


def tidied(world):
    """Closes all that the world has, as far as it is open."""
    for value in world.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(one, "close") and hasattr(type(one), "__exit__"):
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
        "yield()": check_nothing,
        "sleep(milliseconds)": check_nothing,
        "runningTime()": check_now,
        "getCurrentTaskID()": lambda world: is_("number", netnet.current_task().number)(world),
        "taskIsFinished(task)": all_of(is_("finished", True), finished(42)),
        "waitForSignal(name), signalAll(name)": all_of(finished(None), check_event),
        "sock:connect(host, port) (schedlua)": works("fresh"),
        "sock:read(buffer, n) (schedlua)": into_buffer("count"),
        "sock:write(buffer, n) (schedlua)": arrived_count("peer", b"data"),
        "setUseKeepAlive(on), setUseReuseAddress(on) (schedlua)": check_options_of_both,
    },
}

TABLES = {title: rows(title) for title in CHECKS}
CASES = [(title, theirs) for title, table in TABLES.items() for theirs in table]


@pytest.mark.parametrize(("title", "theirs"), CASES, ids=[f"{title}-{theirs}" for title, theirs in CASES])
def test_row(title, theirs, run, tmp_path):
    def main():
        world = prepared(tmp_path)
        try:
            try:
                exec(TABLES[title][theirs], world)
            except PermissionError:
                if os.geteuid() == 0:
                    raise
                pytest.skip("needs a privilege")
            CHECKS[title][theirs](world)
        finally:
            tidied(world)

    run(main)


@pytest.mark.parametrize("title", CHECKS)
def test_every_row_has_a_check_and_every_check_a_row(title):
    assert list(TABLES[title]) == list(CHECKS[title])


def test_every_row_says_three_things():
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    heads = {"| theirs | here | what differs |", "|---|---|---|"}
    assert sum(line in heads for line in lines) == 2 * len(CHECKS)
    assert len(lines) == 2 * len(CHECKS) + len(CASES)


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


@pytest.mark.parametrize(("title", "names"), [("lua-llsocket", LLSOCKET), ("Lunatik", LUNATIK), ("NetNet", NETNET)])
def test_no_name_is_forgotten(title, names):
    told = "\n".join(TABLES[title])
    if title != "lua-llsocket":
        told += "\n".join(re.findall(r"`([^`]+)`", section("Not here yet")))
    missing = [name for name in names.split() if not re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", told)]
    assert missing == []


def test_what_is_not_here_yet_is_not_here():
    for name in ("poll", "delay", "periodic", "when", "pool", "halt"):
        assert not hasattr(netnet, name)
