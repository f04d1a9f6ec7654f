"""Every socket option on a real socket of its kind: what is set is read back, what can only be read means something,
and what this machine refuses is listed at the end with one of a few explained reasons. Then what the table promises,
and the errors, each with what it has to say."""

from __future__ import annotations

import contextlib
import errno
import gc
import math
import os
import platform
import pydoc
import re
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netnet
from netnet.errors import OptionError
from netnet.kernel.option import Kind, Option
from netnet.kernel.options import (
    OPTIONS,
    AddressPreference,
    BufferLocks,
    PassedRights,
    PathMtuDiscovery,
    SocketOptions,
    Timestamping,
    find_option,
)
from netnet.kernel.probe import probe, sample
from netnet.kernel.tcp_info import TcpInfo, TcpOptions, TcpState
from netnet.kernel.values import (
    Credentials,
    Flag,
    Integer,
    MemoryUse,
    PacketStatistics,
    PortRange,
    Seconds,
    TcpInfoValue,
    TransmitTime,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tables below tell what Linux does")

ALLOWED = {
    "privilege": "it needs a privilege that this process does not have (EPERM; debug: EACCES)",
    "kernel": "this kernel was built without it, or is older (ENOPROTOOPT, EOPNOTSUPP)",
    "kind": "this machine makes no socket of that kind",
    "for good": "it cannot be taken back once it is set",
    "nothing": "there is nothing to tell: no redirected connection, no security labels (ENOENT, ENOPROTOOPT)",
    "group": "no control group limits this process's memory (EOPNOTSUPP)",
    "module": "it needs a module of the kernel's that is not there (ENOENT)",
    "mapped": "it can be set on a connection between IPv4-mapped addresses only (EADDRNOTAVAIL)",
}

#: option → (why it does not go the usual way here, one of ``ALLOWED``; what the kernel said), filled by the tests
REASONS: dict[str, tuple[str, str]] = {}

_CAP_NET_ADMIN, _CAP_NET_RAW = 1 << 12, 1 << 13


def privileged() -> bool:
    """Whether this process has what the kernel asks for: with it, ``EPERM`` is no excuse."""
    (effective,) = re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    return int(effective, 16) & (both := _CAP_NET_ADMIN | _CAP_NET_RAW) == both


@contextlib.contextmanager
def made(kind):
    """A ``netnet.Socket`` of that kind."""
    with sample(kind) as plain:
        sock = netnet.Socket(plain.family, plain.type, plain.proto, plain.detach())
        with sock:
            yield sock


@contextlib.contextmanager
def reasoned(row, **special):
    """Notes a refusal that may be, *special* ones by the name of their errno; raises any other."""
    try:
        yield
    except OSError as error:
        found = [reason for name, reason in special.items() if getattr(errno, name) == error.errno]
        if found:
            reason = found[0]
        elif error.errno in (errno.EPERM, errno.EACCES) and not privileged():
            reason = "privilege"
        elif error.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP) and row.kernels != "all":
            reason = "kernel"
        elif error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            reason = "kind"
        else:
            raise
        REASONS[row.name] = (reason, str(error))


@pytest.fixture(params=["outside a run", "in a task"])
def everywhere(request, run):
    """Calls a function: as it is, and in a task."""
    return run if request.param == "in a task" else lambda function: function()


# -- round trips


def rounded_up(seconds):
    """The kernel counts in ticks, of 10 ms at most, and never less than was asked for."""
    return lambda value: seconds <= value <= seconds + 0.01 + 1e-9


def one_of(*values):
    return lambda value: value in values


def at_least(low):
    return lambda value: value >= low


_DEFAULT = one_of(*range(1, 256))

#: option → what is set, one after the other, with what is read then, or a test of it
ROUND_TRIPS = {
    "bindtodevice": [("lo", "lo"), ("", "")],
    "bindtoifindex": [("lo", "lo"), (None, None), (socket.if_nametoindex("lo"), "lo")],
    "buf_lock": [(lock, lock) for lock in (BufferLocks.SEND, BufferLocks.SEND | BufferLocks.RECEIVE, BufferLocks(0))],
    "busy_poll": [(50, 50), (0, 0)],
    "incoming_cpu": [(0, 0)],
    "linger": [(5, 5), (0, 0), (None, None)],
    "mark": [(7, 7), (2**32 - 1, 2**32 - 1), (0, 0)],
    "max_pacing_rate": [(125_000, 125_000), (2**33, 2**33), (2**64 - 1, 2**64 - 1)],
    "passrights": [(PassedRights.REFUSE, PassedRights.REFUSE), (PassedRights.ACCEPT, PassedRights.ACCEPT), (0, 0)],
    "peek_off": [(5, 5), (0, 0), (-1, -1)],
    "priority": [(6, 6), (0, 0)],
    "rcvbuf": [(20_000, 40_000), (30_001, 60_002), (0, at_least(1024))],  # doubled; and no buffer is smaller than that
    "sndbuf": [(20_000, 40_000), (30_001, 60_002), (0, at_least(1024))],
    "rcvlowat": [(100, 100), (1, 1), (0, 1)],  # there is no waiting for nothing
    "rcvtimeo": [(1.5, rounded_up(1.5)), (2, rounded_up(2)), (1e-6, rounded_up(1e-6)), (0, 0.0)],
    "sndtimeo": [(1.5, rounded_up(1.5)), (2, rounded_up(2)), (1e-6, rounded_up(1e-6)), (0, 0.0)],
    "reserve_mem": [(4096, at_least(4096)), (0, 0)],
    "timestamping": [
        (Timestamping.SOFTWARE | Timestamping.RX_SOFTWARE, Timestamping.SOFTWARE | Timestamping.RX_SOFTWARE),
        (Timestamping(0), Timestamping(0)),
    ],
    "txrehash": [(0, 0), (1, 1), (-1, one_of(0, 1))],  # -1 is read as what the system's default is
    "txtime": [(TransmitTime(11, 0), (11, 0)), ((11, 3), TransmitTime(11, 3))],  # 11: CLOCK_TAI
    "congestion": [("reno", "reno")],
    "defer_accept": [(5, one_of(*range(5, 16))), (0, 0)],  # up to a whole number of retransmissions
    "delack_max": [(100_000, 100_000)],
    "fastopen": [(16, 16), (0, 0)],
    "fastopen_key": [(bytes(range(16)), bytes(range(16))), (bytes(range(32)), bytes(range(32)))],
    "keepcnt": [(3, 3), (127, 127)],
    "keepidle": [(10, 10), (32767, 32767)],
    "keepintvl": [(10, 10), (32767, 32767)],
    "linger2": [(30, 30), (-1, -1)],
    "maxseg": [(1000, one_of(536, 1000))],  # which of them depends on the kernel's age
    "notsent_lowat": [(16_384, 16_384), (2**32 - 1, 2**32 - 1), (0, 0)],
    "repair": [(1, 1), (0, 0), (1, 1), (-1, 0)],
    "rto_max": [(5000, 5000), (120_000, 120_000)],
    "rto_min": [(100_000, 100_000)],
    "save_syn": [(1, 1), (2, 2), (0, 0)],
    "syncnt": [(3, 3), (127, 127)],
    "tx_delay": [(1000, 1000), (0, 0)],
    "user_timeout": [(30_000, 30_000), (0, 0)],
    "window_clamp": [(32_768, 32_768), (0, 0)],
    "ip_options": [(b"\1\1\1\0", b"\1\1\1\0"), (b"", b"")],  # three times nothing, and the end
    "local_port_range": [(PortRange(40_000, 40_010), (40_000, 40_010)), ((0, 0), PortRange(0, 0))],
    "minttl": [(255, 255), (0, 0)],
    "mtu_discover": [(way, way) for way in PathMtuDiscovery],
    "multicast_if": [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0")],
    "multicast_ttl": [(5, 5), (0, 0), (-1, 1), (255, 255)],
    "tos": [(0xB8, 0xB8), (0xBB, 0xB8), (0, 0)],  # TCP keeps the two bits of ECN to itself
    "ttl": [(17, 17), (255, 255), (-1, _DEFAULT)],
    "unicast_if": [("lo", "lo"), (None, None), (socket.if_nametoindex("lo"), "lo")],
    "addr_preferences": [
        (AddressPreference.TEMPORARY, lambda value: AddressPreference.TEMPORARY in value),
        (AddressPreference.PUBLIC, lambda value: AddressPreference.PUBLIC in value),
        (AddressPreference.CARE_OF, lambda value: AddressPreference.CARE_OF in value),
        (AddressPreference.DEFAULT, lambda value: AddressPreference.PUBLIC not in value),
    ],
    "hops": [(17, 17), (0, 0), (-1, _DEFAULT)],
    "ipv6_minhopcount": [(255, 255), (0, 0)],
    "ipv6_mtu": [(1280, at_least(1280))],  # what is read is the route's; what is set bounds what is sent
    "ipv6_mtu_discover": [(way, way) for way in PathMtuDiscovery],
    "ipv6_multicast_hops": [(5, 5), (0, 0), (-1, 1), (255, 255)],
    "ipv6_multicast_if": [("lo", "lo"), (None, None), (socket.if_nametoindex("lo"), "lo")],
    "ipv6_unicast_if": [("lo", "lo"), (None, None), (socket.if_nametoindex("lo"), "lo")],
    "tclass": [(0xB8, 0xB8), (0, 0), (-1, 0)],
    "udp_encap": [(3, 3)],  # L2TP
    "udp_segment": [(1400, 1400), (0, 0)],
}

#: set and tested apart, below
APART = {"lock_filter", "ulp", "addrform", "ipv6_checksum", "ipv6_router_alert", "peerpidfd", "tcp_timestamp"}

FLAGS = [
    name
    for name, row in OPTIONS.items()
    if isinstance(row.value, Flag) and row.readable and row.settable and name not in APART
]


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_read_as_it_was_set(name, everywhere):
    def main():
        row = OPTIONS[name]
        with reasoned(row), made(row.on) as sock:
            assert type(getattr(sock, name)) is bool
            for on in (True, False, True):
                setattr(sock, name, on)
                assert getattr(sock, name) is on
            sock.set_option(name, 0)
            assert sock.get_option(row.constant) is False
            sock.set_option(row.constant, 1)
            assert sock.get_option(name) is True

    everywhere(main)


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_value_is_read_as_it_was_set(name, everywhere):
    def main():
        row = OPTIONS[name]
        special = {"EOPNOTSUPP": "group"} if name == "reserve_mem" else {}
        with reasoned(row, **special), made(row.on) as sock:
            for value, expected in ROUND_TRIPS[name]:
                setattr(sock, name, value)
                found = getattr(sock, name)
                assert expected(found) if callable(expected) else found == expected, (value, found)
                assert type(found) is type(row.value.decode(row.value.encode(value)))
                assert sock.get_option(row.constant) == found

    everywhere(main)


def _interesting(sock, value):
    return value > 0


#: option → a test of the value that a socket of its kind has: what more can be said stands in the tests below
READ_ONLY = {
    "acceptconn": lambda sock, value: value is False,
    "bpf_extensions": _interesting,
    "cookie": _interesting,
    "domain": lambda sock, value: value == socket.AF_INET,
    "error": lambda sock, value: value == 0,
    "incoming_napi_id": lambda sock, value: value == 0,
    "meminfo": lambda sock, value: value.receive_max == sock.rcvbuf and value.send_max == sock.sndbuf,
    "netns_cookie": _interesting,
    "peercred": lambda sock, value: value == (os.getpid(), os.geteuid(), os.getegid()),
    "peergroups": lambda sock, value: sorted(value) == sorted(os.getgroups()),
    "protocol": lambda sock, value: value == socket.IPPROTO_TCP,
    "sndlowat": lambda sock, value: value == 1,
    "type": lambda sock, value: value == socket.SOCK_STREAM,
    "cc_info": lambda sock, value: len(value) <= 64,
    "info": lambda sock, value: value.state is TcpState.CLOSED,
    "is_mptcp": lambda sock, value: value is False,
    "saved_syn": lambda sock, value: value == b"",
    "ip_protocol": lambda sock, value: value == socket.IPPROTO_ICMP,
    "mtu": lambda sock, value: 576 <= value <= 65536,
    "ipv6_pathmtu": lambda sock, value: len(value) == 32,
    "packet_statistics": lambda sock, value: value.drops == 0,
}

#: option → its type; what the others are is the value's own to say
TYPES = {
    "acceptconn": bool,
    "is_mptcp": bool,
    "meminfo": MemoryUse,
    "peercred": Credentials,
    "peergroups": tuple,
    "cc_info": bytes,
    "saved_syn": bytes,
    "ipv6_pathmtu": bytes,
    "info": TcpInfo,
    "packet_statistics": PacketStatistics,
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_can_only_be_read_has_a_type_and_a_meaning(name, everywhere):
    def main():
        row = OPTIONS[name]
        with reasoned(row), made(row.on) as sock:
            value = row.get(sock)
            assert type(value) is TYPES.get(name, int)
            assert READ_ONLY[name](sock, value), value
            assert type(sock.get_option(row.constant)) is type(value)

    everywhere(main)


#: option → the values that are set
SET_ONLY = {
    "busy_poll_budget": [16, 8],
    "cnx_advice": [1],
    "rcvbufforce": [100_000],
    "sndbufforce": [100_000],
}


@pytest.mark.parametrize("name", SET_ONLY)
def test_what_can_only_be_set_is_taken(name, everywhere):
    def main():
        row = OPTIONS[name]
        with reasoned(row), made(row.on) as sock:
            for value in SET_ONLY[name]:
                setattr(sock, name, value)

    everywhere(main)


NOTHING_TO_TELL = {"original_dst", "ipv6_original_dst", "peersec"}


@pytest.mark.parametrize("name", sorted(NOTHING_TO_TELL))
def test_where_there_is_nothing_to_tell_the_kernel_says_so(name):
    row = OPTIONS[name]
    with reasoned(row, ENOENT="nothing", ENOPROTOOPT="nothing"), made(row.on) as sock:
        value = getattr(sock, name)
        assert (
            isinstance(value, str) if name == "peersec" else isinstance(value, (netnet.IPv4Address, netnet.IPv6Address))
        )


def test_every_option_has_its_turn_here():
    turns = [*FLAGS, *ROUND_TRIPS, *READ_ONLY, *SET_ONLY, *NOTHING_TO_TELL, *APART]
    assert sorted(turns) == sorted(OPTIONS)


# -- options that go their own way


def test_a_filter_is_locked_for_good():
    row = OPTIONS["lock_filter"]
    with made(row.on) as sock:
        sock.lock_filter = True
        assert sock.lock_filter is True
        with pytest.raises(PermissionError, match=r"lock_filter \(SO_LOCK_FILTER\)"):
            sock.lock_filter = False
        assert sock.lock_filter is True
    REASONS[row.name] = ("for good", "set, and refused to be taken back")


def test_a_protocol_on_top_of_tcp_stays():
    row = OPTIONS["ulp"]
    with made(row.on) as sock:
        assert sock.ulp == ""
        with reasoned(row, ENOENT="module"):
            sock.ulp = "tls"
            assert sock.ulp == "tls"
            with pytest.raises(OSError, match=r"ulp \(TCP_ULP\)"):
                sock.ulp = "tls"
            REASONS[row.name] = ("for good", "set, and refused to be set again")


def test_an_ipv6_socket_becomes_an_ipv4_socket_where_the_addresses_are_mapped():
    row = OPTIONS["addrform"]
    with made(row.on) as sock:
        assert sock.addrform == socket.AF_INET6
        with reasoned(row, EADDRNOTAVAIL="mapped"):
            sock.addrform = socket.AF_INET
    assert REASONS[row.name][0] == "mapped"
    with socket.create_server(("127.0.0.1", 0)) as listener, netnet.Socket(socket.AF_INET6) as sock:
        sock.connect((f"::ffff:{listener.getsockname()[0]}", listener.getsockname()[1]))
        with listener.accept()[0]:
            sock.addrform = socket.AF_INET
            assert sock.domain == socket.AF_INET
            assert sock.mtu > 0  # it takes the options of IPv4 now


def test_a_checksum_is_put_where_it_is_wanted_except_in_icmp():
    row = OPTIONS["ipv6_checksum"]
    with reasoned(row), made(row.on) as sock:
        assert sock.ipv6_checksum == 2
        with pytest.raises(OSError, match="ipv6_checksum") as caught:
            sock.ipv6_checksum = 4
        assert caught.value.errno == errno.EINVAL
        with netnet.Socket(socket.AF_INET6, socket.SOCK_RAW, 253) as other:
            for value in (2, -1):
                other.ipv6_checksum = value
                assert other.ipv6_checksum == value


def test_router_alerts_come_to_sockets_of_the_raw_protocol():
    row = OPTIONS["ipv6_router_alert"]
    with reasoned(row), netnet.Socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for value in (0, -1):
            sock.ipv6_router_alert = value
            assert isinstance(sock.ipv6_router_alert, int)


def test_the_clock_of_time_stamps_is_set_in_repair_mode_only():
    row = OPTIONS["tcp_timestamp"]
    with made(row.on) as sock:
        assert 0 <= sock.tcp_timestamp < 2**32
        with pytest.raises(OSError, match="tcp_timestamp") as caught:
            sock.tcp_timestamp = 12345
        assert caught.value.errno == errno.EPERM
        with reasoned(row):
            sock.repair = 1
            sock.tcp_timestamp = 12345
            assert sock.tcp_timestamp - 12345 < 10_000
            sock.repair = -1


@given(st.floats(0, 1e-6, exclude_min=True))
def test_what_is_more_than_no_time_is_never_no_limit(seconds):
    with netnet.Socket() as sock:
        sock.rcvtimeo = seconds
        assert 0 < sock.rcvtimeo <= 0.01


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf")])
def test_times_beyond_all_measure(value):
    with netnet.Socket() as sock, pytest.raises(ValueError, match="rcvtimeo"):
        sock.rcvtimeo = value


def test_an_address_that_cannot_be_encoded():
    with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="multicast_if"):
        sock.multicast_if = "\ud800"


@pytest.mark.parametrize("value", [("a", "b"), (1.5, 2), [1, 2], (1,), None])
def test_records_take_whole_numbers(value):
    with netnet.Socket() as sock, pytest.raises(TypeError, match="local_port_range"):
        sock.local_port_range = value


@pytest.mark.parametrize("direction", ["rcv", "snd"])
def test_a_forced_buffer_goes_beyond_the_systems_bound(direction):
    bound = int(Path(f"/proc/sys/net/core/{'r' if direction == 'rcv' else 'w'}mem_max").read_text())
    row = OPTIONS[f"{direction}bufforce"]
    with made(row.on) as sock:
        setattr(sock, f"{direction}buf", bound + 4096)
        assert getattr(sock, f"{direction}buf") == 2 * bound
        with reasoned(row):
            setattr(sock, row.name, bound + 4096)
            assert getattr(sock, f"{direction}buf") == 2 * (bound + 4096)


# -- what the values mean


def test_a_listener_accepts_and_others_do_not():
    with netnet.Socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert sock.acceptconn is False
        sock.listen()
        assert sock.acceptconn is True
        assert sock.info.state is TcpState.LISTEN


@pytest.mark.parametrize(
    ("family", "type", "protocol"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP),
        (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0),
    ],
)
def test_family_type_and_protocol(family, type, protocol):
    with netnet.Socket(family, type) as sock:
        assert (sock.domain, sock.get_option("type"), sock.protocol) == (family, type, protocol)
        assert sock.type == type  # the standard property


def test_the_error_of_a_refused_connection_is_told_once():
    with socket.socket() as nobody, netnet.Socket() as sock:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        sock.settimeout(0)
        assert sock.connect_ex(nobody.getsockname()) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        assert poll.poll(10_000)
        assert sock.error in (errno.ECONNREFUSED, 0)
        assert sock.error == 0
    with socket.socket(type=socket.SOCK_DGRAM) as nobody, netnet.Socket(type=socket.SOCK_DGRAM) as sock:
        nobody.bind(("127.0.0.1", 0))
        sock.connect(nobody.getsockname())
        nobody.close()
        sock.send(b"x")
        poll = select.poll()
        poll.register(sock, 0)
        assert poll.poll(10_000)
        assert (sock.error, sock.error) == (errno.ECONNREFUSED, 0)


def test_a_pair_tells_who_made_it():
    one, other = netnet.socketpair()
    with one, other:
        me = (os.getpid(), os.geteuid(), os.getegid())
        assert one.peercred == other.peercred == me
        assert one.peercred.pid == os.getpid()
        assert sorted(one.peergroups) == sorted(os.getgroups())


def test_a_connection_tells_the_process_that_connected():
    path = f"\0netnet-{os.getpid()}-{time.monotonic_ns()}"
    program = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); print('connected', s.recv(1))"
    with netnet.Socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
        sock, _ = listener.accept()
        with sock:
            assert sock.peercred == (child.pid, os.geteuid(), os.getegid())
        assert child.wait() == 0


def test_more_groups_than_can_be_told_are_an_error_that_says_so():
    program = """
import os, netnet
try:
    os.setgroups(range(1000, 1256))
except PermissionError:
    raise SystemExit(2)
one, other = netnet.socketpair()
print(one.peergroups == tuple(range(1000, 1256)))
os.setgroups(range(1000, 1300))
one, other = netnet.socketpair()
try:
    one.peergroups
except OSError as error:
    print(error.errno, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode == 2:
        pytest.skip("this process may not choose its groups (CAP_SETGID)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "True"
    assert f"{errno.ERANGE} " in done.stdout.splitlines()[1]
    assert "peergroups (SO_PEERGROUPS)" in done.stdout


def test_a_pidfd_of_the_peer_is_new_each_time_and_the_callers():
    row = OPTIONS["peerpidfd"]
    with reasoned(row), made(row.on) as sock:
        one, other = sock.peerpidfd, sock.get_option("SO_PEERPIDFD")
        try:
            assert one.fd != other.fd
            for pidfd in (one, other):
                assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{pidfd.fd}").read_text()
        finally:
            one.close()
            os.close(other.take())


def test_a_pidfd_that_nobody_takes_is_closed():
    row = OPTIONS["peerpidfd"]
    with reasoned(row), made(row.on) as sock, pytest.warns(ResourceWarning, match="not taken"):
        assert hasattr(sock, "peerpidfd")
        gc.collect()


def test_cookies_are_unique_and_stay():
    with netnet.Socket() as one, netnet.Socket() as other, netnet.Socket(socket.AF_UNIX) as third:
        assert len({one.cookie, other.cookie, third.cookie}) == 3
        assert one.cookie == one.cookie
        assert one.netns_cookie == other.netns_cookie


def test_what_is_known_of_a_connection():
    with made(Kind.TCP_CONNECTED) as sock:
        info = sock.info
        assert type(info) is TcpInfo
        assert info.state is TcpState.ESTABLISHED
        assert sock.maxseg in (info.snd_mss, info.advmss)
        assert info.pmtu == sock.mtu or info.pmtu == 65536  # the latter option ends at 65535
        assert info.rto_us > 0
        assert 0 < info.rtt_us < 10_000_000
        assert info.snd_cwnd > 0
        assert info.snd_wscale <= 14
        assert info.rcv_wscale <= 14
        assert isinstance(info.options, TcpOptions)
        assert sock.incoming_napi_id == 0
        assert 0 <= sock.incoming_cpu < os.cpu_count()


def test_what_is_sent_and_received_is_counted():
    with socket.create_server(("127.0.0.1", 0)) as listener, netnet.Socket() as sock:
        sock.connect(listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            sock.sendall(b"x" * 1000)
            assert len(peer.recv(1000, socket.MSG_WAITALL)) == 1000
            peer.sendall(b"y" * 10)
            assert sock.recv(10) == b"y" * 10
            info = sock.info
            assert (info.bytes_sent, info.bytes_received, info.data_segs_out) == (1000, 10, 1)
            assert info.bytes_acked in (1000, 1001)  # the handshake counts as one
            assert info.bytes_retrans == info.notsent_bytes == info.total_retrans == 0
            peer.close()
        assert sock.recv(1) == b""
        assert sock.info.state is TcpState.CLOSE_WAIT


def test_a_largest_segment_is_kept_to():
    with socket.create_server(("127.0.0.1", 0)) as listener, netnet.Socket() as sock:
        sock.maxseg = 1000
        sock.connect(listener.getsockname())
        listener.accept()[0].close()
        assert 0 < sock.info.snd_mss <= 1000
        assert 0 < sock.maxseg <= 1000


@pytest.mark.parametrize(("keep", "first"), [(1, 0x45), (2, None), (0, None)])
def test_a_listener_keeps_the_first_packet_of_a_connection(keep, first):
    with netnet.Socket() as listener:
        listener.save_syn = keep
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with netnet.Socket() as client:
            client.connect(listener.getsockname())
            sock, _ = listener.accept()
            with sock:
                syn, port = sock.saved_syn, client.getsockname()[1]
                assert sock.saved_syn == b""  # told once
                assert (port.to_bytes(2, "big") in syn) is bool(keep)
                assert first is None or syn[0] == first


def test_multipath_tcp_says_that_it_is():
    row = OPTIONS["is_mptcp"]
    with reasoned(row), netnet.Socket(socket.AF_INET, socket.SOCK_STREAM, 262) as sock:
        assert sock.is_mptcp is True
        assert sock.protocol == 262


def test_the_protocol_of_a_raw_socket():
    row = OPTIONS["ip_protocol"]
    with reasoned(row), made(Kind.IPV4_RAW) as sock:
        assert sock.protocol == socket.IPPROTO_ICMP
        assert sock.ip_protocol in (0, socket.IPPROTO_ICMP)


def test_memory_in_use_is_told():
    one, other = netnet.socketpair()
    with one, other:
        before = other.meminfo
        one.send(b"x" * 1000)
        assert one.meminfo.send_allocated >= 1000
        assert before.receive_allocated == 0
    with socket.socket(type=socket.SOCK_DGRAM) as sender, netnet.Socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sender.sendto(b"x" * 1000, sock.getsockname())
        assert sock.meminfo.receive_allocated >= 1000


def test_captured_packets_are_counted_since_the_last_time_of_asking():
    row = OPTIONS["packet_statistics"]
    with reasoned(row), netnet.Socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as capture:
        capture.bind(("lo", 3))
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.sendto(b"x", sock.getsockname())
        assert capture.packet_statistics.packets >= 1
        capture.bind(("lo", socket.ntohs(0x88B5)))  # nobody uses that
        capture.packet_statistics  # noqa: B018  # takes the count away
        assert capture.packet_statistics == (0, 0)


def test_the_mtu_is_that_of_the_way():
    known = int(Path("/sys/class/net/lo/mtu").read_text())
    with made(Kind.IPV4_CONNECTED) as sock:
        assert sock.mtu == min(known, 65535)
    with made(Kind.IPV6_CONNECTED) as sock:
        assert sock.ipv6_mtu == known


def test_a_bound_local_port_is_from_the_range():
    with netnet.Socket() as sock, reasoned(OPTIONS["local_port_range"]):
        low, high = (int(port) for port in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        sock.local_port_range = PortRange(low + 100, low + 200)
        sock.bind(("127.0.0.1", 0))
        assert low + 100 <= sock.getsockname()[1] <= low + 200
        assert low + 200 <= high


def test_a_low_water_mark_holds_readability_back():
    with socket.create_server(("127.0.0.1", 0)) as listener, netnet.Socket() as sock:
        sock.connect(listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            sock.rcvlowat = 3
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            peer.sendall(b"ab")
            assert poll.poll(0) == []
            peer.sendall(b"c")
            assert poll.poll(10_000)
            assert sock.recv(10) == b"abc"


def test_one_port_for_several_sockets():
    with netnet.Socket() as one, netnet.Socket() as other, netnet.Socket() as third:
        one.reuseport = other.reuseport = True
        one.bind(("127.0.0.1", 0))
        other.bind(one.getsockname())
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            third.bind(one.getsockname())


def test_the_address_of_nobody_can_be_bound():
    with netnet.Socket() as sock:
        with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
            sock.bind(("192.0.2.77", 0))
        sock.freebind = True
        sock.bind(("192.0.2.77", 0))


def test_corked_datagrams_leave_as_one():
    with netnet.Socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        sock.udp_cork = True
        sock.send(b"one ")
        sock.send(b"two")
        assert sock.pending_bytes == 0
        sock.udp_cork = False
        assert sock.recv(100) == b"one two"


def test_one_send_leaves_as_many_datagrams():
    with netnet.Socket(type=socket.SOCK_DGRAM) as sock, reasoned(OPTIONS["udp_segment"]):
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        sock.udp_segment = 4
        assert sock.send(b"aaaabbbbcc") == 10
        assert [sock.recv(100) for _ in range(3)] == [b"aaaa", b"bbbb", b"cc"]


def test_the_standard_calls_and_the_properties_agree():
    with netnet.Socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert sock.nodelay is True
        sock.keepidle = 77
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
        sock.linger = 0
        assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)


def test_options_work_on_the_standard_class_too():
    with socket.socket() as sock:
        OPTIONS["nodelay"].set(sock, True)
        assert OPTIONS["nodelay"].get(sock) is True
        with pytest.raises(netnet.ClosedError):
            sock.close()
            OPTIONS["nodelay"].get(sock)


def test_options_work_while_a_task_waits(run):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            task = netnet.spawn(one.recv, 1)
            netnet.sleep(0)
            one.passcred = True
            assert one.passcred is True
            assert one.peercred.pid == os.getpid()
            one.passcred = False
            other.send(b"x")
            assert task.result() == b"x"

    run(main)


# -- the table

WANTED = [
    *("acceptconn", "broadcast", "cork", "debug", "dontroute", "error", "keepalive", "keepidle", "keepintvl"),
    *("keepcnt", "linger", "mark", "nodelay", "oobinline", "priority", "rcvbuf", "rcvbufforce", "sndbuf"),
    *("sndbufforce", "rcvlowat", "sndlowat", "rcvtimeo", "sndtimeo", "reuseaddr", "reuseport", "bindtodevice"),
    *("timestamp", "type", "domain", "protocol", "congestion", "user_timeout", "fastopen", "notsent_lowat"),
    *("defer_accept", "quickack", "maxseg", "window_clamp", "info", "bind_address_no_port", "freebind"),
    *("transparent", "mtu", "mtu_discover", "tos", "tclass", "ttl", "hops", "pktinfo", "recvttl", "recverr"),
    *("original_dst", "local_port_range", "v6only", "udp_segment", "udp_gro", "passcred", "peercred", "peerpidfd"),
    *("incoming_cpu", "busy_poll", "max_pacing_rate", "txtime", "zerocopy", "cookie", "meminfo"),
]


@pytest.mark.parametrize("name", WANTED)
def test_what_everybody_looks_for_is_there(name):
    assert OPTIONS[name].number is not None
    assert find_option(name) is find_option(OPTIONS[name].constant) is OPTIONS[name]


def test_names_and_constants_are_unique():
    assert len(OPTIONS) >= 100
    assert len({row.constant for row in OPTIONS.values()}) == len(OPTIONS)
    assert [name for name, row in OPTIONS.items() if row.name != name] == []
    assert not set(OPTIONS) & {row.constant for row in OPTIONS.values()}


def test_numbers_are_unique_within_their_level_and_all_known_here():
    assert [name for name, row in OPTIONS.items() if row.number is None or row.level_number is None] == []
    numbers: dict[tuple[int | None, int | None], list[str]] = {}
    for name, row in OPTIONS.items():
        numbers.setdefault((row.level_number, row.number), []).append(name)
    assert {key: names for key, names in numbers.items() if len(names) > 1} == {}


def test_a_name_is_the_constants():
    odd = {
        "delack_max": "TCP_DELACK_MAX_US",
        "hops": "IPV6_UNICAST_HOPS",
        "ip_options": "IP_OPTIONS",
        "ipv6_original_dst": "IP6T_SO_ORIGINAL_DST",
        "ip_protocol": "IP_PROTOCOL",
        "passsec_ip": "IP_PASSSEC",
        "rto_max": "TCP_RTO_MAX_MS",
        "rto_min": "TCP_RTO_MIN_US",
        "tcp_timestamp": "TCP_TIMESTAMP",
    }
    for name, row in OPTIONS.items():
        short = re.sub("^(SO|TCP|IP)_", "", row.constant).lower()
        usual = {short, short.removeprefix("ipv6_")}  # without the prefix where nothing of IPv4's has that name
        assert name in usual or odd.get(name) == row.constant, name


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_says_what_it_is(name):
    row = OPTIONS[name]
    assert re.match(r"[A-Z\d]|[a-z]+\(2\) ", row.meaning)
    assert row.meaning.endswith(".")
    assert not row.meaning.endswith("..")
    assert row.source
    assert row.kernels
    assert row.value.says
    assert row.readable or row.settable
    for part in (row.meaning, row.constant, row.value.says, row.on.value, row.access.value, row.source):
        assert part in row.__doc__
    assert str(row) == f"{name} ({row.constant})"
    assert repr(row) == f"<option {name} ({row.constant})>"
    if name != "type":  # the standard class's
        assert getattr(netnet.Socket, name) is row
    assert getattr(SocketOptions, name) is row
    found = probe(row)
    assert found.option is row
    assert found.supported or found.reason


def test_help_lists_each():
    text = pydoc.render_doc(netnet.Socket, renderer=pydoc.plaintext)
    joined = " ".join(text.replace("|", " ").split())
    for name, row in OPTIONS.items():
        if name != "type":
            assert re.search(rf"^ \|  {name}$", text, re.MULTILINE), name
            assert " ".join(row.__doc__.split()) in joined, name
    assert OPTIONS["nodelay"].meaning in pydoc.render_doc(netnet.Socket.nodelay, renderer=pydoc.plaintext)


def test_what_documents_name_as_released_later_than_this_kernel_is_the_only_thing_missing():
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    for row in OPTIONS.values():
        since = re.match(r"Linux (\d+)\.(\d+)", row.kernels)
        if since and release < (int(since[1]), int(since[2])) and row.readable:
            assert not probe(row).supported or row.on is Kind.UNIX, row


# -- errors


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nodelya", "did you mean 'nodelay'?"),
        ("TCP_NODELYA", "did you mean 'TCP_NODELAY'?"),
        ("keep_alive", "did you mean 'keepalive'?"),
        ("SO_RCVBUFF", "did you mean 'SO_RCVBUF'?"),
        ("zzzzzzz", "'netnet sockopts' lists all"),
        ("", "'netnet sockopts' lists all"),
    ],
)
def test_an_unknown_name_is_told_with_what_was_meant(name, hint):
    with netnet.Socket() as sock:
        for call in (lambda: find_option(name), lambda: sock.get_option(name), lambda: sock.set_option(name, True)):
            with pytest.raises(OptionError, match=re.escape(hint)) as caught:
                call()
            assert repr(name) in str(caught.value)
            assert isinstance(caught.value, AttributeError)
            assert isinstance(caught.value, netnet.Error)


@pytest.mark.parametrize("name", [name for name, row in OPTIONS.items() if not row.settable and name != "type"])
def test_what_can_only_be_read_is_not_set(name):
    with netnet.Socket() as sock:
        for call in (lambda: setattr(sock, name, 1), lambda: sock.set_option(name, 1)):
            with pytest.raises(OptionError, match=re.escape(f"{OPTIONS[name]} can be read, but not set")):
                call()


@pytest.mark.parametrize("name", [name for name, row in OPTIONS.items() if not row.readable])
def test_what_can_only_be_set_is_not_read(name):
    with netnet.Socket() as sock:
        assert not hasattr(sock, name)
        assert getattr(sock, name, "default") == "default"
        for call in (lambda: getattr(sock, name), lambda: sock.get_option(name)):
            with pytest.raises(OptionError, match=re.escape(f"{OPTIONS[name]} can be set, but not read")):
                call()


@pytest.mark.parametrize("name", ["nodelay", "acceptconn", "rcvbufforce"])
def test_an_option_cannot_be_deleted(name):
    with netnet.Socket() as sock:
        with pytest.raises(OptionError, match="cannot be deleted"):
            delattr(sock, name)


WRONG_KIND = [
    ("keepidle", (socket.AF_INET, socket.SOCK_DGRAM), errno.ENOPROTOOPT),
    ("nodelay", (socket.AF_UNIX, socket.SOCK_STREAM), errno.EOPNOTSUPP),
    ("udp_segment", (socket.AF_INET, socket.SOCK_STREAM), errno.ENOPROTOOPT),
    ("v6only", (socket.AF_INET, socket.SOCK_STREAM), errno.ENOPROTOOPT),
    ("hops", (socket.AF_INET, socket.SOCK_DGRAM), errno.ENOPROTOOPT),
    ("ttl", (socket.AF_UNIX, socket.SOCK_STREAM), errno.EOPNOTSUPP),
    ("netlink_cap_ack", (socket.AF_INET, socket.SOCK_STREAM), errno.ENOPROTOOPT),
    ("mtu", (socket.AF_INET, socket.SOCK_STREAM), errno.ENOTCONN),
    ("info", (socket.AF_INET, socket.SOCK_DGRAM), errno.ENOPROTOOPT),
]


@pytest.mark.parametrize(("name", "kind", "code"), WRONG_KIND)
def test_the_wrong_kind_of_socket_is_an_oserror_that_names_the_option(name, kind, code, everywhere):
    row = OPTIONS[name]

    def main():
        with netnet.Socket(*kind) as sock:
            attempts = [(lambda: getattr(sock, name), "read")]
            if row.settable:
                value = 1
                attempts.append((lambda: setattr(sock, name, value), f"set to {value!r}"))
            for call, what in attempts:
                with pytest.raises(
                    OSError, match=re.escape(f"the option {name} ({row.constant}) cannot be {what}: ")
                ) as caught:
                    call()
                assert caught.value.errno in (code, errno.EOPNOTSUPP, errno.ENOPROTOOPT)
                assert type(caught.value) is type(OSError(caught.value.errno, ""))
                assert isinstance(caught.value.__cause__, OSError)
                assert caught.value.__cause__.errno == caught.value.errno
                assert not isinstance(caught.value, netnet.Error)

    everywhere(main)


def test_reading_keeps_the_errno():
    with netnet.Socket() as sock:
        with pytest.raises(OSError, match="not connected") as caught:
            sock.mtu  # noqa: B018
        assert caught.value.errno == errno.ENOTCONN
        with pytest.raises(FileNotFoundError, match=r"congestion \(TCP_CONGESTION\) cannot be set to 'nosuch'"):
            sock.congestion = "nosuch"
        with pytest.raises(OSError, match="no such interface") as caught:
            sock.bindtodevice = "nosuch0"
        assert caught.value.errno == errno.ENODEV


TEXT, NUMBER = "1", 1

WRONG_TYPES = [
    ("nodelay", TEXT, None, 1.0, b"1", [], (), 2, -1),  # a flag is no number
    ("keepidle", TEXT, None, 1.0, b"1", True, [1]),
    ("cork", 3, "yes"),
    ("rcvbuf", "65536", True, None, 1e5),
    ("linger", TEXT, 1.0, True, (1, 1), b""),
    ("rcvtimeo", TEXT, None, True, (1, 0), 1j),
    ("congestion", NUMBER, None, b"reno", ["reno"]),
    ("bindtodevice", NUMBER, None, b"lo"),
    ("bindtoifindex", 1.0, b"lo", True, ["lo"]),
    ("ip_options", TEXT, None, 4, [1, 2]),
    ("mtu_discover", TEXT, None, True, 1.0),
    ("timestamping", TEXT, None, True, 1.0),
    ("multicast_if", NUMBER, None, b"\x7f\0\0\1"),
    ("local_port_range", NUMBER, None, (1,), (1, 2, 3), [1, 2], "12"),
    ("txtime", 11, (11,)),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, *values in WRONG_TYPES for value in values])
def test_a_value_of_the_wrong_type_is_a_type_error(name, value):
    row = OPTIONS[name]
    with made(row.on) as sock:
        before = row.get(sock)
        for call in (lambda: setattr(sock, name, value), lambda: sock.set_option(row.constant, value)):
            with pytest.raises(TypeError, match=re.escape(f"the option {row} ")) as caught:
                call()
            assert caught.value.__suppress_context__
            assert "not" in str(caught.value)
        assert row.get(sock) == before


OUT_OF_RANGE = [
    ("keepidle", -1, 2**31, 10**400),
    ("rcvbuf", -1, 2**31),
    ("mark", -1, 2**32),
    ("max_pacing_rate", -1, 2**64),
    ("incoming_cpu", -2, 2**31),
    ("ttl", -2, 256),
    ("tos", -1, 256),
    ("multicast_ttl", -2, 256),
    ("txrehash", -2, 2),
    ("repair", -2, 2),
    ("syncnt", 0, 128),
    ("rto_max", 999, 120_001),
    ("udp_segment", -1, 65536),
    ("linger", -1, 2**31),
    ("rcvtimeo", -1, -0.001, math.nan, math.inf, -math.inf, 2**31, 1e300),
    ("sndtimeo", -1e-9, math.nan, math.inf, -math.inf),
    ("congestion", "x" * 16, "a\0b", "\ud800"),
    ("bindtodevice", "x" * 16, "lo\0", "\ud800"),
    ("bindtoifindex", "nosuch0", "", "x" * 100, "lo\0", "\ud800", -1, 2**31),
    ("unicast_if", "nosuch0", "", -1),
    ("ip_options", bytes(41)),
    ("fastopen_key", bytes(33)),
    ("mtu_discover", 2**31, -(2**31) - 1),
    ("timestamping", -1, 2**32),
    ("multicast_if", "", "1.2.3", "::1", "localhost", "1.2.3.4 ", "256.0.0.1", "1.2.3.4\0"),
    ("local_port_range", (-1, 5), (1, 65536)),
    ("txtime", (2**31, 0), (11, -1)),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, *values in OUT_OF_RANGE for value in values])
def test_a_value_out_of_range_is_a_value_error(name, value):
    row = OPTIONS[name]
    with made(row.on) as sock:
        before = row.get(sock)
        with pytest.raises(ValueError, match=re.escape(f"the option {row} ")) as caught:
            setattr(sock, name, value)
        assert not isinstance(caught.value, (OSError, UnicodeError))
        assert row.get(sock) == before


@pytest.mark.parametrize(("name", "value"), [("keepidle", 0), ("keepidle", 32768), ("keepcnt", 128), ("ttl", 0)])
def test_what_fits_but_is_refused_is_the_kernels_to_say(name, value):
    with netnet.Socket() as sock:
        with pytest.raises(OSError, match=re.escape(f"{OPTIONS[name]} cannot be set to {value}: ")) as caught:
            setattr(sock, name, value)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", [name for name, row in OPTIONS.items() if name != "type"])
def test_a_closed_socket_is_a_closed_error(name):
    row = OPTIONS[name]
    sock = netnet.Socket()
    sock.close()
    value = next(iter(ROUND_TRIPS.get(name, [(True, True)])))[0]
    value = SET_ONLY.get(name, [value])[0]
    value = {"ulp": "tls", "addrform": 2, "ipv6_checksum": 2, "ipv6_router_alert": 0, "tcp_timestamp": 1}.get(
        name, value
    )
    if row.readable:
        with pytest.raises(netnet.ClosedError) as caught:
            getattr(sock, name)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(netnet.ClosedError):
            sock.get_option(name)
    if row.settable:
        with pytest.raises(netnet.ClosedError):
            setattr(sock, name, value)


class Elsewhere(netnet.Socket):
    """Has an option that this system does not."""

    __slots__ = ()
    never = Option("SO_NEVER", Flag(), "Never.", "nowhere(0)", on=Kind.ANY, kernels="Plan 9")
    nowhere = Option("SO_TYPE", Integer(), "Of no level.", "nowhere(0)", on=Kind.ANY, level="SOL_NOWHERE")


@pytest.mark.parametrize("name", ["never", "nowhere"])
def test_an_option_of_other_systems_is_told_as_such(name):
    row = getattr(Elsewhere, name)
    with Elsewhere() as sock:
        assert not hasattr(sock, name)
        for call in (lambda: getattr(sock, name), lambda: setattr(sock, name, 1)):
            with pytest.raises(OptionError, match=f"does not exist on {sys.platform}.*{row.kernels}"):
                call()
    found = probe(row)
    assert not found.supported
    assert row.kernels in found.reason


def test_what_is_there_has_the_attribute():
    with netnet.Socket() as sock:
        assert hasattr(sock, "nodelay")
        assert not hasattr(sock, "nodelya")


@pytest.mark.parametrize("name", ["nodelya", "no_delay", "SO_KEEPALIVE", "keepalives"])
def test_a_misspelt_property_cannot_be_set(name):
    with netnet.Socket() as sock:
        with pytest.raises(AttributeError):
            setattr(sock, name, True)
        with pytest.raises(AttributeError):
            getattr(sock, name)


# -- how values stand in bytes

INTEGERS = [
    row
    for row in OPTIONS.values()
    if isinstance(row.value, Integer)  # each with its own bounds
]


@given(st.sampled_from(INTEGERS), st.data())
def test_each_integer_within_its_bounds_goes_there_and_back(row, data):
    value = data.draw(st.integers(row.value.low, row.value.high))
    octets = row.value.encode(value)
    assert len(octets) == row.value.size in (4, 8)
    assert row.value.decode(octets) == value


@given(st.sampled_from(INTEGERS), st.integers())
def test_an_integer_outside_its_bounds_is_refused(row, value):
    if not row.value.low <= value <= row.value.high:
        with pytest.raises(ValueError):
            row.value.encode(value)


@given(st.one_of(st.just(0), st.floats(1e-6, 2**31 - 1)))
def test_seconds_are_never_less_than_asked_for_and_never_none(value):
    found = Seconds().decode(Seconds().encode(value))
    assert (found == 0) is (value == 0)
    assert value - 1e-6 <= found <= value + 2e-6


@given(st.one_of(st.floats(max_value=-1e-300), st.floats(min_value=2**31), st.just(math.nan)))
def test_other_seconds_are_refused(value):
    with pytest.raises(ValueError):
        Seconds().encode(value)


@pytest.mark.parametrize(
    ("data", "on"), [(b"\0", False), (b"\1", True), (b"", False), (b"\0\0\0\1", True), (bytes(4), False)]
)
def test_a_flag_may_come_in_any_number_of_bytes(data, on):
    assert Flag().decode(data) is on


# -- TCP_INFO of older and newer kernels

#: the bytes that every kernel tells
TCP_INFO_MIN = 104
FULL = bytes(range(1, 249))

#: field → where it stands and how many bytes it has, as in linux/tcp.h
OFFSETS = {
    "rto_us": (8, 4),
    "snd_mss": (16, 4),
    "unacked": (24, 4),
    "last_data_sent_ms": (44, 4),
    "pmtu": (60, 4),
    "rtt_us": (68, 4),
    "snd_cwnd": (80, 4),
    "total_retrans": (100, 4),
    "pacing_rate": (104, 8),
    "bytes_acked": (120, 8),
    "bytes_received": (128, 8),
    "segs_out": (136, 4),
    "notsent_bytes": (144, 4),
    "min_rtt_us": (148, 4),
    "data_segs_out": (156, 4),
    "delivery_rate": (160, 8),
    "busy_time_us": (168, 8),
    "sndbuf_limited_us": (184, 8),
    "delivered": (192, 4),
    "bytes_sent": (200, 8),
    "bytes_retrans": (208, 8),
    "dsack_dups": (216, 4),
    "snd_wnd": (228, 4),
    "rcv_wnd": (232, 4),
    "rehash": (236, 4),
    "total_rto": (240, 2),
    "total_rto_recoveries": (242, 2),
    "total_rto_time_ms": (244, 4),
}


@given(st.integers(TCP_INFO_MIN, len(FULL) + 100), st.binary(min_size=400, max_size=400))
def test_what_a_kernel_does_not_tell_is_none_and_the_rest_is_right(size, data):
    info = TcpInfoValue().decode(data[:size])
    assert (info.state, info.ca_state, info.options) == (data[0], data[1], data[5])
    assert (info.snd_wscale, info.rcv_wscale) == (data[6] & 15, data[6] >> 4)
    for name, (offset, length) in OFFSETS.items():
        whole = offset + length <= size
        expected = int.from_bytes(data[offset : offset + length], sys.byteorder) if whole else None
        assert getattr(info, name) == expected, name


@pytest.mark.parametrize("size", range(TCP_INFO_MIN, len(FULL) + 1))
def test_each_length_is_read(size):
    info = TcpInfoValue().decode(FULL[:size])
    values = [getattr(info, name) for name in TcpInfo.__dataclass_fields__]
    told = [value is not None for value in values]
    assert told == sorted(told, reverse=True)
    assert sum(told) >= 34
    assert all(told) is (size == len(FULL))


@pytest.mark.parametrize("state", range(0, 256, 17))
def test_a_state_of_a_kernel_to_come_is_its_number(state):
    info = TcpInfoValue().decode(bytes([state]) + FULL[1:])
    assert info.state == state
    assert isinstance(info.state, TcpState) is (1 <= state <= 12)


# -- last


def test_what_does_not_go_the_usual_way_here_is_explained(capsys):
    with capsys.disabled():
        print(f"\n{len(OPTIONS)} socket options, {len(REASONS)} of them with a reason:")
        for name, (reason, said) in sorted(REASONS.items()):
            print(f"  {name}: {ALLOWED.get(reason, reason)}; {said}")
    assert {reason for reason, _ in REASONS.values()} <= set(ALLOWED)
    assert set(REASONS) <= set(OPTIONS)
