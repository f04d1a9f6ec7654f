"""Multicast over the loopback interface, IPv4 and IPv6 by the same lines: what arrives after joining, leaving, blocking,
and what is refused. Where nothing may arrive, a datagram sent straight to the socket afterwards has to come first."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import time
from typing import NamedTuple

import pytest

import netnet
from netnet.kernel.interfaces import Interface, interfaces

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/thread-self/ns/net"), reason="interfaces as Linux has them")

CLONE_NEWNET = 0x40000000
SIOCADDRT, SIOCSIFADDR, SIOCSIFFLAGS = 0x890B, 0x8916, 0x8914
UP_AND_MULTICAST = 1 | 1 << 12
#: what kind of route: an ordinary one to loopback would be made one that rejects
ROUTE_IS_UP_AND_LOCAL = 1 | 1 << 31


def _loopback_for_multicast():
    """Brings up the loopback interface, with a second IPv6 address and a route for IPv6 groups."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        index = socket.if_nametoindex("lo")
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", UP_AND_MULTICAST))
        source = socket.inet_pton(socket.AF_INET6, IPV6.sources[1])
        fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("16sIi", source, 128, index))
        groups = socket.inet_pton(socket.AF_INET6, "ff00::")
        route = struct.pack("@16s16s16sIHHILIi", groups, b"", b"", 0, 8, 0, 1, 0, ROUTE_IS_UP_AND_LOCAL, index)
        fcntl.ioctl(sock, SIOCADDRT, route)

    address_is_ready(IPV6.sources[1])


def address_is_ready(host):
    """The kernel makes sure that nobody else has a new address, beside us, before it can be bound to."""
    until = time.monotonic() + 10
    while True:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            try:
                return sock.bind((host, 0))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > until:
                    raise
        os.sched_yield()


@contextlib.contextmanager
def own_network():
    """Puts this thread into a network of its own, which has a loopback interface and nothing else. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET):
            pytest.skip(f"no network of its own: {os.strerror(ctypes.get_errno())}")
        try:
            _loopback_for_multicast()
            yield
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0
    finally:
        os.close(before)


class Net(NamedTuple):
    family: int
    sources: tuple[str, str]
    group: str
    other_group: str
    #: a group and an address of the other family
    foreign: tuple[str, str]


IPV4 = Net(socket.AF_INET, ("127.0.0.1", "127.0.0.2"), "239.255.77.1", "239.255.77.2", ("ff15::77:1", "::1"))
IPV6 = Net(socket.AF_INET6, ("::1", "fd00::77"), "ff15::77:1", "ff15::77:2", ("239.255.77.1", "127.0.0.1"))
BOTH = pytest.mark.parametrize("net", [IPV4, IPV6], ids=["ipv4", "ipv6"])


@pytest.fixture(params=[IPV4, IPV6], ids=["ipv4", "ipv6"])
def net(request):
    """Each family in turn; IPv6 groups have no route to loopback by default, so they get a network of their own."""
    with own_network() if request.param is IPV6 else contextlib.nullcontext():
        yield request.param


def datagram_socket(net, host=""):
    sock = netnet.Socket(net.family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


class Ends:
    """A receiver, and a sender from each of two addresses, all on the loopback interface."""

    def __init__(self, net, stack):
        self.net = net
        self.receiver = stack.enter_context(datagram_socket(net))
        self.receiver.settimeout(10)
        self.receiver.multicast.all = False  # what other sockets of this machine join is nothing to us
        self.groups = self.receiver.multicast
        self.port = self.receiver.getsockname()[1]
        self.senders = [stack.enter_context(datagram_socket(net, host)) for host in net.sources]
        for sender in self.senders:
            sender.multicast.interface = "lo"

    def arriving(self, group=None):
        """Each sender sends to the group: the numbers of those that arrive."""
        for number, sender in enumerate(self.senders):
            sender.sendto(b"%d" % number, (group or self.net.group, self.port))
        self.senders[0].sendto(b"end", (self.net.sources[0], self.port))
        return [int(data) for data in iter(lambda: self.receiver.recv(100), b"end")]


@pytest.fixture
def ends(net):
    with contextlib.ExitStack() as stack:
        yield Ends(net, stack)


def ways_to_tell(net):
    """Every way of telling the loopback interface."""
    lo = interfaces()["lo"]
    return ["lo", lo.index, net.sources[0], lo]


# -- groups


def test_datagrams_arrive_between_joining_and_leaving(net, ends):
    assert ends.arriving() == []
    ends.groups.join(net.group, "lo")
    assert ends.arriving() == [0, 1]
    assert ends.arriving(net.other_group) == []
    ends.groups.leave(net.group, "lo")
    assert ends.arriving() == []
    ends.groups.join(net.group, "lo")
    assert ends.arriving() == [0, 1]


def test_two_groups_are_independent(net, ends):
    ends.groups.join(net.group, "lo")
    ends.groups.join(net.other_group, "lo")
    assert ends.arriving() == ends.arriving(net.other_group) == [0, 1]
    ends.groups.leave(net.group, "lo")
    assert ends.arriving() == []
    assert ends.arriving(net.other_group) == [0, 1]


def test_a_membership_ends_with_its_socket(net, ends):
    ends.groups.join(net.group, "lo")
    with datagram_socket(net) as another:
        another.multicast.join(net.group, "lo")
    assert ends.arriving() == [0, 1]


@pytest.mark.parametrize("way", range(4), ids=["name", "index", "address", "Interface"])
def test_the_interface_of_a_membership_can_be_told_in_each_way(net, ends, way):
    ends.groups.join(net.group, ways_to_tell(net)[way])
    assert ends.arriving() == [0, 1]
    ends.groups.leave(net.group, "lo")
    assert ends.arriving() == []


def test_groups_and_sources_of_ipaddress(net, ends):
    group, source = ipaddress.ip_address(net.group), ipaddress.ip_address(net.sources[1])
    ends.groups.join(group, "lo", source=source)
    assert ends.arriving() == [1]
    ends.groups.leave(group, "lo", source=source)
    ends.groups.join(group, "lo")
    ends.groups.block(group, source, "lo")
    assert ends.arriving() == [0]


def test_a_group_can_name_its_interface_itself():
    with own_network(), contextlib.ExitStack() as stack:
        ends = Ends(IPV6, stack)
        ends.groups.join("ff12::77%lo")
        assert ends.arriving("ff12::77%lo") == [0, 1]
        ends.groups.leave("ff12::77%1")
        assert ends.arriving("ff12::77%lo") == []
        with pytest.raises(netnet.AddressError, match="'none'"):
            ends.groups.join("ff12::77%none")


# -- sources


def test_only_the_joined_source_arrives(net, ends):
    ends.groups.join(net.group, "lo", source=net.sources[1])
    assert ends.arriving() == [1]
    ends.groups.join(net.group, "lo", source=net.sources[0])
    assert ends.arriving() == [0, 1]
    ends.groups.leave(net.group, "lo", source=net.sources[1])
    assert ends.arriving() == [0]
    ends.groups.leave(net.group, "lo", source=net.sources[0])
    assert ends.arriving() == []


def test_leaving_the_group_leaves_every_source(net, ends):
    for source in net.sources:
        ends.groups.join(net.group, "lo", source=source)
    ends.groups.leave(net.group, "lo")
    assert ends.arriving() == []


def test_a_blocked_source_does_not_arrive(net, ends):
    ends.groups.join(net.group, "lo")
    ends.groups.block(net.group, net.sources[0], "lo")
    assert ends.arriving() == [1]
    ends.groups.block(net.group, net.sources[1], "lo")
    assert ends.arriving() == []
    ends.groups.unblock(net.group, net.sources[0], "lo")
    assert ends.arriving() == [0]
    ends.groups.unblock(net.group, net.sources[1], "lo")
    assert ends.arriving() == [0, 1]


def _calls(net):
    """name → a call that is fine once the group was joined."""
    group, source = net.group, net.sources[0]
    return {
        "join": lambda groups: groups.join(group, "lo"),
        "join a source": lambda groups: groups.join(group, "lo", source=source),
        "leave": lambda groups: groups.leave(group, "lo"),
        "leave a source": lambda groups: groups.leave(group, "lo", source=source),
        "block": lambda groups: groups.block(group, source, "lo"),
        "unblock": lambda groups: groups.unblock(group, source, "lo"),
    }


@BOTH
@pytest.mark.parametrize(
    ("before", "call", "code"),
    [
        (["join"], "join", errno.EADDRINUSE),
        (["join", "block"], "join a source", errno.EINVAL),
        (["join a source"], "block", errno.EINVAL),
        (["join a source"], "join a source", errno.EADDRNOTAVAIL),
        ([], "leave", errno.EADDRNOTAVAIL),
        (["join", "leave"], "leave", errno.EADDRNOTAVAIL),
        (["join"], "unblock", errno.EADDRNOTAVAIL),
        (["join", "block"], "block", errno.EADDRNOTAVAIL),
    ],
)
def test_what_does_not_fit_the_memberships_is_refused_and_names_the_group(net, before, call, code):
    calls = _calls(net)
    with datagram_socket(net) as sock:
        for one in before:
            calls[one](sock.multicast)
        with pytest.raises(OSError) as caught:
            calls[call](sock.multicast)
    assert caught.value.errno == code
    assert net.group in str(caught.value)
    if "source" in call or "block" in call:
        assert net.sources[0] in str(caught.value)


@BOTH
@pytest.mark.parametrize("call", ["leave a source", "block", "unblock"])
def test_a_source_of_a_group_that_was_not_joined(net, call):
    with datagram_socket(net) as sock:
        with pytest.raises(OSError) as caught:
            _calls(net)[call](sock.multicast)
    assert caught.value.errno in (errno.EADDRNOTAVAIL, errno.EINVAL)
    assert net.group in str(caught.value)


# -- what is refused before the kernel sees it


def _with_group(group):
    return {
        "join": lambda net, groups: groups.join(group, "lo"),
        "join a source": lambda net, groups: groups.join(group, "lo", source=net.sources[0]),
        "leave": lambda net, groups: groups.leave(group, "lo"),
        "leave a source": lambda net, groups: groups.leave(group, "lo", source=net.sources[0]),
        "block": lambda net, groups: groups.block(group, net.sources[0], "lo"),
        "unblock": lambda net, groups: groups.unblock(group, net.sources[0], "lo"),
    }


def _with_source(source):
    return {
        "join a source": lambda net, groups: groups.join(net.group, "lo", source=source),
        "leave a source": lambda net, groups: groups.leave(net.group, "lo", source=source),
        "block": lambda net, groups: groups.block(net.group, source, "lo"),
        "unblock": lambda net, groups: groups.unblock(net.group, source, "lo"),
    }


def _refused(net, calls, error):
    """Every call raises the error: their messages."""
    messages = []
    with datagram_socket(net) as sock:
        for call in calls.values():
            with pytest.raises(error) as caught:
                call(net, sock.multicast)
            assert type(caught.value) is error
            messages.append(str(caught.value))
    return messages


@BOTH
@pytest.mark.parametrize("group", ["", "name", "localhost", "239.1", "239.0.0.1:80", "[ff02::1]", "ff02::g", "2\0"])
def test_a_group_that_is_no_address(net, group):
    for message in _refused(net, _with_group(group), netnet.AddressError):
        assert repr(group) in message


@BOTH
def test_a_group_that_is_no_group(net):
    for host in net.sources:
        for message in _refused(net, _with_group(host), netnet.AddressError):
            assert host in message


@BOTH
def test_a_source_that_is_a_group_or_no_address(net):
    for message in _refused(net, _with_source(net.other_group), netnet.AddressError):
        assert net.group in message
        assert net.other_group in message
    for message in _refused(net, _with_source("name"), netnet.AddressError):
        assert "'name'" in message


@BOTH
@pytest.mark.parametrize("value", [None, 1, b"\xef\0\0\1", 1.5, ("239.0.0.1", 80)])
def test_a_group_or_a_source_of_another_type(net, value):
    _refused(net, _with_group(value), TypeError)
    calls = _with_source(value)
    if value is None:  # no source: that is the group as a whole
        del calls["join a source"], calls["leave a source"]
    _refused(net, calls, TypeError)


@BOTH
def test_a_group_or_a_source_of_the_other_family(net):
    group, source = net.foreign
    with datagram_socket(net) as sock:
        for call in (*_with_group(group).values(), *_with_source(source).values()):
            with pytest.raises(OSError) as caught:
                call(net, sock.multicast)
            assert caught.value.errno == errno.EAFNOSUPPORT
            assert group in str(caught.value) or source in str(caught.value)


@BOTH
def test_an_unknown_interface_names_those_there_are(net):
    with datagram_socket(net) as sock:
        for call in (sock.multicast.join, sock.multicast.leave):
            with pytest.raises(ValueError, match=r"no interface 'nothing'; there are: .*\blo\b"):
                call(net.group, "nothing")
        with pytest.raises(ValueError, match=r"\blo\b"):
            sock.multicast.interface = "nothing"
        with pytest.raises(ValueError, match=r"192\.0\.2\.250"):
            sock.multicast.join(net.group, "192.0.2.250")
        with pytest.raises(ValueError, match=r"2001:db8::250"):
            sock.multicast.interface = "2001:db8::250"


@BOTH
@pytest.mark.parametrize("which", [-1, 1 << 31])
def test_a_number_that_is_no_interface(net, which):
    with datagram_socket(net) as sock:
        with pytest.raises(ValueError, match="index"):
            sock.multicast.join(net.group, which)
        with pytest.raises(ValueError, match="index"):
            sock.multicast.interface = which


@BOTH
@pytest.mark.parametrize("which", [True, 1.0, b"lo", ("lo",)])
def test_an_interface_of_another_type(net, which):
    with datagram_socket(net) as sock:
        with pytest.raises(TypeError):
            sock.multicast.join(net.group, which)
        with pytest.raises(TypeError):
            sock.multicast.interface = which


@BOTH
def test_an_index_that_no_interface_has(net):
    unused = Interface("gone", max(one.index for one in interfaces().values()) + 1000)
    with datagram_socket(net) as sock:
        for which in (unused, unused.index):
            with pytest.raises(OSError) as caught:
                sock.multicast.join(net.group, which)
            assert caught.value.errno == errno.ENODEV
            assert net.group in str(caught.value)
            with pytest.raises(OSError):
                sock.multicast.interface = which


# -- sending


def test_the_interface_that_is_set_reads_as_its_name(net):
    with datagram_socket(net) as sock:
        assert sock.multicast.interface is None
        for which in ways_to_tell(net):
            sock.multicast.interface = which
            assert sock.multicast.interface == "lo"
            sock.multicast.interface = None
            assert sock.multicast.interface is None


@BOTH
def test_hops(net):
    with datagram_socket(net) as sock:
        assert sock.multicast.hops == 1
        for hops in (0, 1, 2, 255):
            sock.multicast.hops = hops
            assert sock.multicast.hops == hops
        for wrong in (256, -2):
            with pytest.raises(ValueError, match="255"):
                sock.multicast.hops = wrong
        for wrong in ("1", None, 1.0):
            with pytest.raises(TypeError):
                sock.multicast.hops = wrong
        assert sock.multicast.hops == 255
        sock.multicast.hops = -1  # the system's default
        assert sock.multicast.hops == 1


@BOTH
@pytest.mark.parametrize("name", ["loop", "all"])
def test_loop_and_all_are_on_and_can_be_switched(net, name):
    with datagram_socket(net) as sock:
        assert getattr(sock.multicast, name) is True
        for on in (False, True):
            setattr(sock.multicast, name, on)
            assert getattr(sock.multicast, name) is on
        for wrong in ("on", None, 2):
            with pytest.raises(TypeError):
                setattr(sock.multicast, name, wrong)


def test_all_decides_whether_the_groups_of_other_sockets_arrive(net, ends):
    with datagram_socket(net) as another:
        another.multicast.join(net.group, "lo")
        assert ends.arriving() == []
        ends.groups.all = True
        assert ends.arriving() == [0, 1]


def test_hops_zero_stays_on_this_machine_and_so_arrives(net, ends):
    ends.groups.join(net.group, "lo")
    for sender in ends.senders:
        sender.multicast.hops = 0
    assert ends.arriving() == [0, 1]


# -- sockets that have no multicast

_USES = {
    "join": lambda groups: groups.join("239.255.77.1", "lo"),
    "leave": lambda groups: groups.leave("239.255.77.1", "lo"),
    "block": lambda groups: groups.block("239.255.77.1", "127.0.0.1", "lo"),
    "unblock": lambda groups: groups.unblock("239.255.77.1", "127.0.0.1", "lo"),
    **{f"get {name}": lambda groups, name=name: getattr(groups, name) for name in ("interface", "hops", "loop", "all")},
    "set interface": lambda groups: setattr(groups, "interface", "lo"),
    "set hops": lambda groups: setattr(groups, "hops", 1),
    "set loop": lambda groups: setattr(groups, "loop", True),
    "set all": lambda groups: setattr(groups, "all", True),
}


@pytest.mark.parametrize("use", _USES)
@pytest.mark.parametrize(
    ("family", "type", "code"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, errno.ESOCKTNOSUPPORT),
        (socket.AF_INET6, socket.SOCK_STREAM, errno.ESOCKTNOSUPPORT),
        (socket.AF_UNIX, socket.SOCK_STREAM, errno.EAFNOSUPPORT),
        (socket.AF_UNIX, socket.SOCK_DGRAM, errno.EAFNOSUPPORT),
        (socket.AF_NETLINK, socket.SOCK_RAW, errno.EAFNOSUPPORT),
    ],
)
def test_a_socket_that_has_no_multicast(family, type, code, use):
    with netnet.Socket(family, type) as sock:
        with pytest.raises(OSError) as caught:
            _USES[use](sock.multicast)
    assert caught.value.errno == code
    assert "multicast needs" in str(caught.value)


@pytest.mark.parametrize("use", _USES)
def test_a_closed_socket(use):
    sock = datagram_socket(IPV4)
    groups = sock.multicast
    sock.close()
    for one in (groups, sock.multicast):
        with pytest.raises(netnet.ClosedError):
            _USES[use](one)
