"""The socket options, one row each: all that are values, not those that hand over programs, rings, keys or headers.
``SocketOptions`` is the table and, as part of ``Socket``, the typed properties.

A name is the constant's in lower case without ``SO_``, ``TCP_`` and ``IP_``; the other prefixes stay. The documentation
page ``docs/options.md`` and ``netnet sockopts`` are made from these rows. How a row is read and set: ``option``; how a
value stands in bytes: ``values``. Where a meaning names no unit, the number has none.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from typing import Any, Final

from netnet.errors import OptionError
from netnet.kernel.control import PidFd
from netnet.kernel.option import Access, Kind, Option
from netnet.kernel.values import (
    INTERFACE_NAME_BYTES,
    Bits,
    Choice,
    Credentials,
    Flag,
    Groups,
    InetSockaddr,
    Integer,
    InterfaceIndex,
    IPv4,
    Linger,
    MemoryUse,
    Octets,
    PacketStatistics,
    PortRange,
    Record,
    Seconds,
    String,
    TcpInfoValue,
    TransmitTime,
    Value,
)


class PathMtuDiscovery(enum.IntEnum):
    """What a socket does about the path's MTU. See ip(7), ``IP_MTU_DISCOVER``."""

    DONT = 0
    WANT = 1
    DO = 2
    PROBE = 3
    INTERFACE = 4
    OMIT = 5


class BufferLocks(enum.IntFlag):
    """Which buffers keep the size that was set, and are not fitted by the kernel."""

    SEND = 1
    RECEIVE = 2


class PassedRights(enum.IntEnum):
    """Whether a UNIX socket lets descriptors through."""

    REFUSE = 0
    ACCEPT = 1


class Timestamping(enum.IntFlag):
    """Which time stamps are made and how they are told. See the kernel's ``networking/timestamping.rst``."""

    TX_HARDWARE = 1 << 0
    TX_SOFTWARE = 1 << 1
    RX_HARDWARE = 1 << 2
    RX_SOFTWARE = 1 << 3
    SOFTWARE = 1 << 4
    SYS_HARDWARE = 1 << 5
    RAW_HARDWARE = 1 << 6
    OPT_ID = 1 << 7
    TX_SCHED = 1 << 8
    TX_ACK = 1 << 9
    OPT_CMSG = 1 << 10
    OPT_TSONLY = 1 << 11
    OPT_STATS = 1 << 12
    OPT_PKTINFO = 1 << 13
    OPT_TX_SWHW = 1 << 14
    BIND_PHC = 1 << 15
    OPT_ID_TCP = 1 << 16
    OPT_RX_FILTER = 1 << 17
    TX_COMPLETION = 1 << 18


class AddressPreference(enum.IntFlag):
    """Which of its own IPv6 addresses a socket prefers to send from. RFC 5014."""

    TEMPORARY = 0x0001
    PUBLIC = 0x0002
    CARE_OF = 0x0004
    DEFAULT = 0x0100
    HOME = 0x0400


class ProcessDescriptor(Value[PidFd]):
    """A new descriptor for a process, owned by the object that is read."""

    says = "PidFd"

    def decode(self, data: bytes) -> PidFd:
        return PidFd.received(int.from_bytes(data, sys.byteorder))


_READ, _SET = Access.READ, Access.SET
_BYTES, _SECONDS, _MILLISECONDS, _MICROSECONDS = "bytes", "seconds", "milliseconds", "microseconds"
_TIMESTAMPING = "kernel: networking/timestamping.rst"


def _count(unit: str = "") -> Integer:
    """A number of the kernel's type ``int`` that cannot be negative."""
    return Integer(unit, low=0, high=2**31 - 1)


_TO_255 = Integer(low=0, high=255)
#: -1 stands for the system's default
_DEFAULT_TO_255 = Integer(low=-1, high=255)


class SocketOptions:
    """The options of a socket, by name, as properties. A subclass is a ``socket.socket``."""

    __slots__ = ()

    # fmt: off

    # -- any socket: socket(7)

    acceptconn = Option("SO_ACCEPTCONN", Flag(), on=Kind.ANY, access=_READ, source="socket(7)",
        meaning="Whether the socket listens.")
    bindtodevice = Option("SO_BINDTODEVICE", String(INTERFACE_NAME_BYTES), on=Kind.INET, kernels="Linux",
        source="socket(7)",
        meaning="Only this interface is used, for sending and receiving; '' for all.")
    bindtoifindex = Option("SO_BINDTOIFINDEX", InterfaceIndex(), on=Kind.INET, kernels="Linux 5.1",
        source="socket(7)",
        meaning="The same as bindtodevice, by index inside the kernel.")
    bpf_extensions = Option("SO_BPF_EXTENSIONS", Integer(), on=Kind.ANY, access=_READ, kernels="Linux 3.14",
        source="socket(7)",
        meaning="How many extensions of packet filters the kernel knows.")
    broadcast = Option("SO_BROADCAST", Flag(), on=Kind.UDP, source="socket(7)",
        meaning="Datagrams may be sent to a broadcast address.")
    buf_lock = Option("SO_BUF_LOCK", Bits(BufferLocks), on=Kind.ANY, kernels="Linux 5.15",
        source="kernel: sockopt SO_BUF_LOCK",
        meaning="Which buffers keep the size they were given, instead of being fitted by the kernel.")
    busy_poll = Option("SO_BUSY_POLL", _count(_MICROSECONDS), on=Kind.INET,
        kernels="Linux 3.11", source="socket(7)",
        meaning="How long a receive that finds nothing polls the device before it sleeps.")
    busy_poll_budget = Option("SO_BUSY_POLL_BUDGET", Integer("packets", low=0, high=65535), on=Kind.INET, access=_SET,
        kernels="Linux 5.11", source="kernel: networking/napi.rst",
        meaning="How many packets a busy poll takes at once.")
    cnx_advice = Option("SO_CNX_ADVICE", Integer(low=0, high=1), on=Kind.TCP, access=_SET, kernels="Linux 4.6",
        source="kernel: net/core/sock.c",
        meaning="1 tells the kernel that the path seems bad, so that IPv6 chooses another flow label.")
    cookie = Option("SO_COOKIE", Integer(low=0, size=8), on=Kind.ANY, access=_READ, kernels="Linux 4.12",
        source="socket(7)",
        meaning="A number that no other socket has as long as the system runs.")
    debug = Option("SO_DEBUG", Flag(), on=Kind.ANY, source="socket(7)",
        meaning="The kernel records debugging information; needs a privilege.")
    domain = Option("SO_DOMAIN", Integer(), on=Kind.ANY, access=_READ, kernels="Linux 2.6.32", source="socket(7)",
        meaning="The address family.")
    dontroute = Option("SO_DONTROUTE", Flag(), on=Kind.INET, source="socket(7)",
        meaning="Only hosts on a directly connected network are reached.")
    error = Option("SO_ERROR", Integer("error number"), on=Kind.ANY, access=_READ, source="socket(7)",
        meaning="The error that stands against the socket, 0 for none; reading takes it away.")
    incoming_cpu = Option("SO_INCOMING_CPU", Integer(low=-1, high=2**31 - 1), on=Kind.INET, kernels="Linux 3.19",
        source="socket(7)",
        meaning="The processor that handled the last packet; set on listeners that share a port, the one whose "
                "connections this one takes. -1: none yet.")
    incoming_napi_id = Option("SO_INCOMING_NAPI_ID", Integer(low=0), on=Kind.INET, access=_READ, kernels="Linux 4.12",
        source="socket(7)",
        meaning="The receive queue of the device that the last packet came from; 0 for none, as on loopback.")
    keepalive = Option("SO_KEEPALIVE", Flag(), on=Kind.ANY, source="socket(7)",
        meaning="An idle connection is probed; see keepidle, keepintvl, keepcnt for when.")
    linger = Option("SO_LINGER", Linger(), on=Kind.ANY, source="socket(7)",
        meaning="How many seconds close(2) waits for what was sent to be acknowledged; 0: it discards it and resets "
                "the connection; None: it does not wait, and the kernel goes on sending.")
    lock_filter = Option("SO_LOCK_FILTER", Flag(), on=Kind.ANY, kernels="Linux 3.9", source="socket(7)",
        meaning="The packet filter can no longer be changed; cannot be taken back.")
    mark = Option("SO_MARK", Integer(low=0), on=Kind.INET, kernels="Linux 2.6.25", source="socket(7)",
        meaning="The mark of each packet sent, for routing and filtering by it.")
    max_pacing_rate = Option("SO_MAX_PACING_RATE", Integer("bytes a second", low=0, size=8), on=Kind.INET,
        kernels="Linux 3.13", source="kernel: net/core/sock.c",
        meaning="The fastest that the kernel sends; all bits set: no limit.")
    meminfo = Option("SO_MEMINFO", Record(MemoryUse, "@9I"), on=Kind.ANY, access=_READ, kernels="Linux 4.12",
        source="sock_diag(7)",
        meaning="The memory that the socket uses.")
    netns_cookie = Option("SO_NETNS_COOKIE", Integer(low=0, size=8), on=Kind.ANY, access=_READ, kernels="Linux 5.14",
        source="kernel: net/core/sock.c",
        meaning="A number that tells network namespaces apart.")
    no_check = Option("SO_NO_CHECK", Flag(), on=Kind.UDP, kernels="Linux", source="kernel: net/core/sock.c",
        meaning="UDP over IPv4 sends no checksums.")
    nofcs = Option("SO_NOFCS", Flag(), on=Kind.PACKET, kernels="Linux 3.4", source="socket(7)",
        meaning="Packets leave without the network card's checksum, which stands in them already.")
    oobinline = Option("SO_OOBINLINE", Flag(), on=Kind.ANY, source="socket(7)",
        meaning="Urgent data comes among the other data.")
    passcred = Option("SO_PASSCRED", Flag(), on=Kind.UNIX, kernels="Linux", source="unix(7)",
        meaning="Each message comes with its sender's process, user and group.")
    passpidfd = Option("SO_PASSPIDFD", Flag(), on=Kind.UNIX, kernels="Linux 6.5", source="unix(7)",
        meaning="Each message comes with a pidfd, a descriptor for its sender's process.")
    passrights = Option("SO_PASSRIGHTS", Choice(PassedRights), on=Kind.UNIX, kernels="Linux 6.16", source="unix(7)",
        meaning="Whether descriptors that are sent are let through; the default is that they are.")
    passsec = Option("SO_PASSSEC", Flag(), on=Kind.UNIX, kernels="Linux 2.6.18", source="unix(7)",
        meaning="Each message comes with its sender's security label.")
    peek_off = Option("SO_PEEK_OFF", Integer(_BYTES, low=-1, high=2**31 - 1), on=Kind.UNIX, kernels="Linux 3.4",
        source="socket(7)",
        meaning="Where MSG_PEEK begins; it moves on by what was peeked at. -1: always at the front.")
    peercred = Option("SO_PEERCRED", Record(Credentials, "@iII"), on=Kind.UNIX_CONNECTED, access=_READ,
        kernels="Linux", source="unix(7)",
        meaning="Who connected, or made the pair: process, user and group at that time; (0, -1, -1) in 32 bits without a peer.")
    peergroups = Option("SO_PEERGROUPS", Groups(), on=Kind.UNIX_CONNECTED, access=_READ, kernels="Linux 4.13",
        source="unix(7)",
        meaning="The supplementary groups of who connected.")
    peerpidfd = Option("SO_PEERPIDFD", ProcessDescriptor(), on=Kind.UNIX_CONNECTED, access=_READ,
        kernels="Linux 6.5", source="unix(7)",
        meaning="A new pidfd, a descriptor for the process that connected: take() it, or it is closed.")
    peersec = Option("SO_PEERSEC", String(1024), on=Kind.UNIX_CONNECTED, access=_READ, kernels="Linux 2.6.2",
        source="unix(7)",
        meaning="The security label of who connected, where the kernel has labels.")
    prefer_busy_poll = Option("SO_PREFER_BUSY_POLL", Flag(), on=Kind.INET, kernels="Linux 5.11",
        source="kernel: networking/napi.rst",
        meaning="The device's queue is handled by busy polling rather than by interrupts.")
    priority = Option("SO_PRIORITY", _count(), on=Kind.ANY, kernels="Linux", source="socket(7)",
        meaning="The queueing priority of what is sent; above 6 needs a privilege.")
    protocol = Option("SO_PROTOCOL", Integer(), on=Kind.ANY, access=_READ, kernels="Linux 2.6.32", source="socket(7)",
        meaning="The protocol, as in IPPROTO_TCP.")
    rcvbuf = Option("SO_RCVBUF", _count(_BYTES), on=Kind.ANY, source="socket(7)",
        meaning="The receive buffer. Linux doubles what is set, for its own bookkeeping, and reads back the double; "
                "what can be asked for is bounded by net.core.rmem_max. Setting it ends the kernel's fitting of the "
                "size.")
    rcvbufforce = Option("SO_RCVBUFFORCE", _count(_BYTES), on=Kind.ANY, access=_SET,
        kernels="Linux 2.6.14", source="socket(7)",
        meaning="As rcvbuf, without its upper bound; needs a privilege.")
    rcvlowat = Option("SO_RCVLOWAT", _count(_BYTES), on=Kind.TCP, source="socket(7)",
        meaning="So many bytes have to be there before the socket counts as readable.")
    rcvmark = Option("SO_RCVMARK", Flag(), on=Kind.UDP, kernels="Linux 5.19", source="socket(7)",
        meaning="Each message comes with its packet's mark.")
    rcvpriority = Option("SO_RCVPRIORITY", Flag(), on=Kind.UDP, kernels="Linux 6.14", source="socket(7)",
        meaning="Each message comes with its packet's priority.")
    rcvtimeo = Option("SO_RCVTIMEO", Seconds(), on=Kind.ANY, source="socket(7)",
        meaning="How long a blocking receive waits at most; 0: no limit. Without effect on netnet's sockets, whose "
                "descriptors never block: settimeout is theirs. For descriptors handed to other programs.")
    reserve_mem = Option("SO_RESERVE_MEM", _count(_BYTES), on=Kind.TCP, kernels="Linux 5.16",
        source="kernel: net/core/sock.c",
        meaning="Memory set aside for the socket alone, where memory is limited by a control group.")
    reuseaddr = Option("SO_REUSEADDR", Flag(), on=Kind.ANY, source="socket(7)",
        meaning="An address may be bound while old connections of it are still closing down.")
    reuseport = Option("SO_REUSEPORT", Flag(), on=Kind.INET, kernels="Linux 3.9, BSD, macOS", source="socket(7)",
        meaning="Several sockets may bind the same address, and the kernel spreads connections and datagrams over "
                "them.")
    rxq_ovfl = Option("SO_RXQ_OVFL", Flag(), on=Kind.ANY, kernels="Linux 2.6.33", source="socket(7)",
        meaning="Each message comes with the number of those dropped so far.")
    select_err_queue = Option("SO_SELECT_ERR_QUEUE", Flag(), on=Kind.ANY, kernels="Linux 3.10", source="socket(7)",
        meaning="An entry in the error queue shows as urgent data (POLLPRI), too.")
    sndbuf = Option("SO_SNDBUF", _count(_BYTES), on=Kind.ANY, source="socket(7)",
        meaning="The send buffer. Doubled and bounded (net.core.wmem_max) as rcvbuf is.")
    sndbufforce = Option("SO_SNDBUFFORCE", _count(_BYTES), on=Kind.ANY, access=_SET,
        kernels="Linux 2.6.14", source="socket(7)",
        meaning="As sndbuf, without its upper bound; needs a privilege.")
    sndlowat = Option("SO_SNDLOWAT", Integer(_BYTES), on=Kind.ANY, access=_READ, source="socket(7)",
        meaning="So much room there has to be before the socket counts as writable; Linux has 1 always.")
    sndtimeo = Option("SO_SNDTIMEO", Seconds(), on=Kind.ANY, source="socket(7)",
        meaning="As rcvtimeo, for sending.")
    timestamp = Option("SO_TIMESTAMP", Flag(), on=Kind.ANY, source="socket(7)",
        meaning="Each message comes with the time it arrived, in microseconds.")
    timestampns = Option("SO_TIMESTAMPNS", Flag(), on=Kind.ANY, kernels="Linux 2.6.22", source="socket(7)",
        meaning="Each message comes with the time it arrived, in nanoseconds.")
    timestamping = Option("SO_TIMESTAMPING", Bits(Timestamping), on=Kind.INET, kernels="Linux 2.6.30",
        source=_TIMESTAMPING,
        meaning="Which time stamps are made of what comes and goes, by software and by the network card.")
    txrehash = Option("SO_TXREHASH", Integer(low=-1, high=1), on=Kind.TCP, kernels="Linux 5.18",
        source="kernel: networking/ip-sysctl.rst",
        meaning="Whether a connection whose packets are lost tries another path (IPv6 flow label); -1: the system's "
                "default.")
    txtime = Option("SO_TXTIME", Record(TransmitTime, "@iI"), on=Kind.UDP, kernels="Linux 4.19", source="tc-etf(8)",
        meaning="Each message may be sent with the time at which it is to leave, told in this clock.")
    type = Option("SO_TYPE", Integer(), on=Kind.ANY, access=_READ, source="socket(7)",
        meaning="The kind of socket, as in SOCK_STREAM.")
    wifi_status = Option("SO_WIFI_STATUS", Flag(), on=Kind.ANY, kernels="Linux 3.3", source="kernel: net/core/sock.c",
        meaning="What is sent is answered in the error queue with whether the other side acknowledged it on the air.")
    zerocopy = Option("SO_ZEROCOPY", Flag(), on=Kind.INET, kernels="Linux 4.14",
        source="kernel: networking/msg_zerocopy.rst",
        meaning="Sending with MSG_ZEROCOPY is allowed: the pages that are sent are not copied.")

    # -- TCP: tcp(7)

    congestion = Option("TCP_CONGESTION", String(16), on=Kind.TCP, kernels="Linux 2.6.13, FreeBSD", source="tcp(7)",
        meaning="The congestion control, as in 'cubic'.")
    cork = Option("TCP_CORK", Flag(), on=Kind.TCP, kernels="Linux, BSD, macOS", source="tcp(7)",
        meaning="Only full segments are sent until it is taken back, or 200 ms are over (TCP_NOPUSH on BSD and macOS).")
    cc_info = Option("TCP_CC_INFO", Octets(64), on=Kind.TCP, access=_READ, kernels="Linux 4.1",
        source="kernel: linux/inet_diag.h",
        meaning="What the congestion control has to tell of itself, in a form of its own.")
    defer_accept = Option("TCP_DEFER_ACCEPT", _count(_SECONDS), on=Kind.TCP, kernels="Linux",
        source="tcp(7)",
        meaning="accept(2) has a connection only when data came, or this time is over; rounded up to a whole number "
                "of retransmissions.")
    delack_max = Option("TCP_DELACK_MAX_US", _count(_MICROSECONDS), on=Kind.TCP,
        kernels="Linux 6.15", source="kernel: linux/tcp.h",
        meaning="How long an acknowledgement may be held back.")
    fastopen = Option("TCP_FASTOPEN", _count("connections"), on=Kind.TCP,
        kernels="Linux 3.7, BSD, macOS", source="tcp(7); RFC 7413",
        meaning="On a listener: so many connections may be open whose first packet brought data before the handshake "
                "is over.")
    fastopen_connect = Option("TCP_FASTOPEN_CONNECT", Flag(), on=Kind.TCP, kernels="Linux 4.11", source="tcp(7)",
        meaning="connect(2) returns at once where a cookie is known, and the first data goes with the first packet.")
    fastopen_key = Option("TCP_FASTOPEN_KEY", Octets(32), on=Kind.TCP, kernels="Linux 4.15",
        source="kernel: networking/ip-sysctl.rst",
        meaning="The key of the cookies, 16 bytes, or two of them; shared by servers that stand for one another.")
    fastopen_no_cookie = Option("TCP_FASTOPEN_NO_COOKIE", Flag(), on=Kind.TCP, kernels="Linux 4.15",
        source="kernel: linux/tcp.h",
        meaning="Data in the first packet needs no cookie: only where nobody can forge addresses.")
    info = Option("TCP_INFO", TcpInfoValue(), on=Kind.TCP, access=_READ, kernels="Linux", source="tcp(7)",
        meaning="What the kernel knows of the connection: state, round-trip time, window, losses, rates.")
    inq = Option("TCP_INQ", Flag(), on=Kind.TCP, kernels="Linux 4.18", source="kernel: linux/tcp.h",
        meaning="Each receive tells how many bytes are left to be received.")
    is_mptcp = Option("TCP_IS_MPTCP", Flag(), on=Kind.TCP, access=_READ, kernels="Linux 5.16",
        source="kernel: networking/mptcp.rst",
        meaning="Whether the connection is Multipath TCP.")
    keepcnt = Option("TCP_KEEPCNT", _count("probes"), on=Kind.TCP, source="tcp(7)",
        meaning="So many probes without an answer end the connection.")
    keepidle = Option("TCP_KEEPIDLE", _count(_SECONDS), on=Kind.TCP, source="tcp(7)",
        meaning="A connection that is idle for so long is probed, if keepalive is on (TCP_KEEPALIVE on macOS).")
    keepintvl = Option("TCP_KEEPINTVL", _count(_SECONDS), on=Kind.TCP, source="tcp(7)",
        meaning="The time between two probes.")
    linger2 = Option("TCP_LINGER2", Integer(_SECONDS, low=-1, high=2**31 - 1), on=Kind.TCP, kernels="Linux",
        source="tcp(7)",
        meaning="How long a closed connection waits in state FIN-WAIT-2 for the peer's end; -1: not at all.")
    maxseg = Option("TCP_MAXSEG", Integer(_BYTES, low=0, high=65535), on=Kind.TCP, source="tcp(7)",
        meaning="The largest segment. Before connecting, older kernels read it as a default.")
    nodelay = Option("TCP_NODELAY", Flag(), on=Kind.TCP, source="tcp(7)",
        meaning="Small segments leave at once, without waiting for an acknowledgement (Nagle's algorithm off).")
    notsent_lowat = Option("TCP_NOTSENT_LOWAT", Integer(_BYTES, low=0), on=Kind.TCP, kernels="Linux 3.12, macOS",
        source="tcp(7)",
        meaning="With so many unsent bytes in the buffer the socket is not writable; keeps latency low. 0: the "
                "system's limit.")
    quickack = Option("TCP_QUICKACK", Flag(), on=Kind.TCP, kernels="Linux 2.4.4", source="tcp(7)",
        meaning="Acknowledgements are not held back; the kernel may take it back as the connection goes on.")
    repair = Option("TCP_REPAIR", Integer(low=-1, high=1), on=Kind.TCP, kernels="Linux 3.5",
        source="kernel: linux/tcp.h",
        meaning="Repair mode, in which a connection's state can be read and set: 1 on, 0 off, -1 off without a "
                "window probe.")
    rto_max = Option("TCP_RTO_MAX_MS", Integer(_MILLISECONDS, low=1000, high=120000), on=Kind.TCP,
        kernels="Linux 6.15", source="kernel: networking/ip-sysctl.rst",
        meaning="The longest time until a segment is sent again.")
    rto_min = Option("TCP_RTO_MIN_US", Integer(_MICROSECONDS, low=1, high=2**31 - 1), on=Kind.TCP,
        kernels="Linux 6.15", source="kernel: linux/tcp.h",
        meaning="The shortest time until a segment is sent again.")
    save_syn = Option("TCP_SAVE_SYN", Integer(low=0, high=2), on=Kind.TCP, kernels="Linux 4.2",
        source="kernel: linux/tcp.h",
        meaning="A listener keeps each connection's first packet, without (1) or with (2) its link-layer header.")
    saved_syn = Option("TCP_SAVED_SYN", Octets(512), on=Kind.TCP_CONNECTED, access=_READ, kernels="Linux 4.2",
        source="kernel: linux/tcp.h",
        meaning="The headers of the connection's first packet, if the listener kept it; can be read once.")
    syncnt = Option("TCP_SYNCNT", Integer("packets", low=1, high=127), on=Kind.TCP, kernels="Linux", source="tcp(7)",
        meaning="How often a connection attempt is repeated before it is given up.")
    tcp_timestamp = Option("TCP_TIMESTAMP", Integer(low=0), on=Kind.TCP, kernels="Linux 3.9",
        source="kernel: linux/tcp.h",
        meaning="The clock of the TCP time stamps; can be set in repair mode.")
    thin_linear_timeouts = Option("TCP_THIN_LINEAR_TIMEOUTS", Flag(), on=Kind.TCP, kernels="Linux 2.6.34",
        source="kernel: networking/tcp-thin.rst",
        meaning="A connection with little under way repeats without the usual growing pauses.")
    tx_delay = Option("TCP_TX_DELAY", _count(_MICROSECONDS), on=Kind.TCP, kernels="Linux 5.3",
        source="kernel: linux/tcp.h",
        meaning="All that is sent is delayed, to try long paths; needs the fq queue.")
    ulp = Option("TCP_ULP", String(16), on=Kind.TCP_CONNECTED, kernels="Linux 4.13",
        source="kernel: networking/tls.rst",
        meaning="The protocol that the kernel runs on top of the connection, as in 'tls'; cannot be taken back.")
    user_timeout = Option("TCP_USER_TIMEOUT", _count(_MILLISECONDS), on=Kind.TCP,
        kernels="Linux 2.6.37", source="tcp(7); RFC 5482",
        meaning="What was sent may stay without acknowledgement for so long; then the connection is ended. 0: the "
                "system's limit.")
    window_clamp = Option("TCP_WINDOW_CLAMP", _count(_BYTES), on=Kind.TCP, kernels="Linux",
        source="tcp(7)",
        meaning="The receive window is never announced larger.")

    # -- IPv4: ip(7)

    bind_address_no_port = Option("IP_BIND_ADDRESS_NO_PORT", Flag(), on=Kind.IPV4, kernels="Linux 4.2",
        source="ip(7)",
        meaning="bind(2) with port 0 reserves no port yet; connect(2) chooses it, so that more connections find one.")
    checksum = Option("IP_CHECKSUM", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 4.0",
        source="kernel: net/ipv4/ip_sockglue.c",
        meaning="Each datagram comes with its checksum.")
    freebind = Option("IP_FREEBIND", Flag(), on=Kind.IPV4, kernels="Linux 2.4", source="ip(7)",
        meaning="An address may be bound that no interface has (yet).")
    hdrincl = Option("IP_HDRINCL", Flag(), on=Kind.IPV4_RAW, source="ip(7)",
        meaning="What is sent begins with an IP header of the sender's.")
    ip_options = Option("IP_OPTIONS", Octets(40), on=Kind.IPV4, source="ip(7)",
        meaning="The IP options of each packet sent, as they stand in it.")
    ip_protocol = Option("IP_PROTOCOL", _count(), on=Kind.IPV4_RAW, access=_READ,
        kernels="Linux 6.4", source="ip(7)",
        meaning="The protocol of a raw socket's packets.")
    local_port_range = Option("IP_LOCAL_PORT_RANGE", Record(PortRange, "@HH"), on=Kind.IPV4, kernels="Linux 6.3",
        source="ip(7)",
        meaning="The ports from which the kernel chooses for this socket; (0, 0): the system's.")
    minttl = Option("IP_MINTTL", Integer("hops", low=0, high=255), on=Kind.IPV4, kernels="Linux 2.6.34, BSD",
        source="ip(7); RFC 5082",
        meaning="Packets whose time to live is less are dropped.")
    mtu = Option("IP_MTU", Integer(_BYTES), on=Kind.IPV4_CONNECTED, access=_READ, kernels="Linux 2.2", source="ip(7)",
        meaning="The path's MTU, as far as it is known.")
    mtu_discover = Option("IP_MTU_DISCOVER", Choice(PathMtuDiscovery), on=Kind.IPV4, kernels="Linux 2.2",
        source="ip(7)",
        meaning="Whether the path's MTU is found out, with packets that must not be split.")
    multicast_all = Option("IP_MULTICAST_ALL", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 2.6.31", source="ip(7)",
        meaning="The socket gets what goes to any group that someone on this machine has joined, not only to its own.")
    multicast_if = Option("IP_MULTICAST_IF", IPv4(), on=Kind.IPV4_DATAGRAM, source="ip(7)",
        meaning="The interface that multicast leaves by, told by its address; see also Socket.multicast.")
    multicast_loop = Option("IP_MULTICAST_LOOP", Flag(), on=Kind.IPV4_DATAGRAM, source="ip(7)",
        meaning="Multicast that is sent also reaches this machine.")
    multicast_ttl = Option("IP_MULTICAST_TTL", _DEFAULT_TO_255, on=Kind.IPV4_DATAGRAM, source="ip(7)",
        meaning="How many hops multicast may take; -1 sets the default, 1.")
    nodefrag = Option("IP_NODEFRAG", Flag(), on=Kind.IPV4_RAW, kernels="Linux 2.6.36", source="ip(7)",
        meaning="Fragments are not put together before the firewall sees them.")
    original_dst = Option("SO_ORIGINAL_DST", InetSockaddr(), on=Kind.TCP_CONNECTED, level="SOL_IP", access=_READ,
        kernels="Linux 2.4", source="kernel: linux/netfilter_ipv4.h",
        meaning="Where a connection that the firewall redirected (iptables REDIRECT) was going.")
    ipv6_original_dst = Option("IP6T_SO_ORIGINAL_DST", InetSockaddr(), on=Kind.IPV6_CONNECTED, level="SOL_IPV6",
        access=_READ, kernels="Linux 3.7", source="kernel: linux/netfilter_ipv6/ip6_tables.h",
        meaning="As original_dst.")
    passsec_ip = Option("IP_PASSSEC", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 2.6.17", source="ip(7)",
        meaning="Each datagram comes with its sender's security label.")
    pktinfo = Option("IP_PKTINFO", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 2.2", source="ip(7)",
        meaning="Each datagram comes with the interface and the address it came to.")
    recverr = Option("IP_RECVERR", Flag(), on=Kind.IPV4, kernels="Linux 2.2", source="ip(7)",
        meaning="Errors that come back from the network are kept in the error queue, with who reported them.")
    recverr_rfc4884 = Option("IP_RECVERR_RFC4884", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 5.9", source="ip(7)",
        meaning="Errors in the error queue come with the extensions of RFC 4884.")
    recvfragsize = Option("IP_RECVFRAGSIZE", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 4.10",
        source="kernel: net/ipv4/ip_sockglue.c",
        meaning="Each datagram comes with the size of its largest fragment.")
    recvopts = Option("IP_RECVOPTS", Flag(), on=Kind.IPV4_DATAGRAM, source="ip(7)",
        meaning="Each datagram comes with its IP options.")
    recvorigdstaddr = Option("IP_RECVORIGDSTADDR", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 2.6.29",
        source="ip(7)",
        meaning="Each datagram comes with the address it was sent to, before any redirection.")
    recvtos = Option("IP_RECVTOS", Flag(), on=Kind.IPV4_DATAGRAM, source="ip(7)",
        meaning="Each datagram comes with its type of service.")
    recvttl = Option("IP_RECVTTL", Flag(), on=Kind.IPV4_DATAGRAM, kernels="Linux 2.2", source="ip(7)",
        meaning="Each datagram comes with its time to live.")
    retopts = Option("IP_RETOPTS", Flag(), on=Kind.IPV4_DATAGRAM, source="ip(7)",
        meaning="Each datagram comes with its IP options as a reply would need them.")
    router_alert = Option("IP_ROUTER_ALERT", Flag(), on=Kind.IPV4_RAW, kernels="Linux 2.2",
        source="ip(7)",
        meaning="Packets to be forwarded that carry the router alert option come to this socket.")
    tos = Option("IP_TOS", _TO_255, on=Kind.IPV4, source="ip(7)",
        meaning="Type of service: six bits of DSCP, two of ECN; TCP keeps the latter two to itself.")
    transparent = Option("IP_TRANSPARENT", Flag(), on=Kind.IPV4, kernels="Linux 2.6.24", source="ip(7)",
        meaning="Foreign addresses may be bound and connections to them accepted, for transparent proxies; needs a "
                "privilege.")
    ttl = Option("IP_TTL", Integer("hops", low=-1, high=255), on=Kind.IPV4, source="ip(7)",
        meaning="The time to live of what is sent; -1 sets the system's default.")
    unicast_if = Option("IP_UNICAST_IF", InterfaceIndex(network_order=True), on=Kind.IPV4_DATAGRAM,
        kernels="Linux 3.4", source="kernel: net/ipv4/ip_sockglue.c",
        meaning="The interface by which what is not multicast leaves.")

    # -- IPv6: ipv6(7)

    addr_preferences = Option("IPV6_ADDR_PREFERENCES", Bits(AddressPreference), on=Kind.IPV6, kernels="Linux 2.6.26",
        source="RFC 5014",
        meaning="Which of the machine's own addresses is preferred to send from.")
    addrform = Option("IPV6_ADDRFORM", Integer(), on=Kind.IPV6_CONNECTED, kernels="Linux", source="ipv6(7)",
        meaning="AF_INET turns a connection between IPv4-mapped addresses into an IPv4 socket.")
    autoflowlabel = Option("IPV6_AUTOFLOWLABEL", Flag(), on=Kind.IPV6, kernels="Linux 3.17",
        source="kernel: networking/ip-sysctl.rst",
        meaning="The kernel makes flow labels of its own.")
    dontfrag = Option("IPV6_DONTFRAG", Flag(), on=Kind.IPV6_DATAGRAM, source="RFC 3542",
        meaning="What is too large for the path is not split.")
    flowinfo = Option("IPV6_FLOWINFO", Flag(), on=Kind.IPV6_DATAGRAM, kernels="Linux", source="ipv6(7)",
        meaning="Each datagram comes with its flow label.")
    flowinfo_send = Option("IPV6_FLOWINFO_SEND", Flag(), on=Kind.IPV6, kernels="Linux", source="ipv6(7)",
        meaning="The flow label of the address is used for sending.")
    hops = Option("IPV6_UNICAST_HOPS", _DEFAULT_TO_255, on=Kind.IPV6, source="ipv6(7); RFC 3493",
        meaning="The hop limit of what is sent; -1 sets the route's default.")
    ipv6_checksum = Option("IPV6_CHECKSUM", Integer(_BYTES, low=-1, high=2**31 - 1), on=Kind.IPV6_RAW,
        source="RFC 3542",
        meaning="Where in a raw socket's packets the kernel is to put the checksum; -1: nowhere.")
    ipv6_freebind = Option("IPV6_FREEBIND", Flag(), on=Kind.IPV6, kernels="Linux 4.15", source="ipv6(7)",
        meaning="As freebind.")
    ipv6_hdrincl = Option("IPV6_HDRINCL", Flag(), on=Kind.IPV6_RAW, kernels="Linux 4.5",
        source="kernel: net/ipv6/raw.c",
        meaning="As hdrincl.")
    ipv6_minhopcount = Option("IPV6_MINHOPCOUNT", Integer("hops", low=0, high=255), on=Kind.IPV6,
        kernels="Linux 2.6.35", source="RFC 5082",
        meaning="As minttl.")
    ipv6_mtu = Option("IPV6_MTU", _count(_BYTES), on=Kind.IPV6_CONNECTED, kernels="Linux 2.2",
        source="ipv6(7)",
        meaning="The path's MTU, as far as it is known; setting it bounds the packets sent.")
    ipv6_mtu_discover = Option("IPV6_MTU_DISCOVER", Choice(PathMtuDiscovery), on=Kind.IPV6, kernels="Linux 2.2",
        source="ipv6(7)",
        meaning="As mtu_discover.")
    ipv6_multicast_all = Option("IPV6_MULTICAST_ALL", Flag(), on=Kind.IPV6_DATAGRAM, kernels="Linux 4.20",
        source="ip(7)",
        meaning="As multicast_all.")
    ipv6_multicast_hops = Option("IPV6_MULTICAST_HOPS", _DEFAULT_TO_255, on=Kind.IPV6_DATAGRAM,
        source="ipv6(7); RFC 3493",
        meaning="How many hops multicast may take; -1 sets the default, 1.")
    ipv6_multicast_if = Option("IPV6_MULTICAST_IF", InterfaceIndex(), on=Kind.IPV6_DATAGRAM, source="ipv6(7)",
        meaning="The interface that multicast leaves by.")
    ipv6_multicast_loop = Option("IPV6_MULTICAST_LOOP", Flag(), on=Kind.IPV6_DATAGRAM, source="ipv6(7)",
        meaning="As multicast_loop.")
    ipv6_pathmtu = Option("IPV6_PATHMTU", Octets(32), on=Kind.IPV6_CONNECTED, access=_READ, source="RFC 3542",
        meaning="The path's MTU with the address it is for, as struct ip6_mtuinfo.")
    ipv6_recverr = Option("IPV6_RECVERR", Flag(), on=Kind.IPV6, kernels="Linux 2.2", source="ipv6(7)",
        meaning="As recverr.")
    ipv6_recverr_rfc4884 = Option("IPV6_RECVERR_RFC4884", Flag(), on=Kind.IPV6_DATAGRAM, kernels="Linux 5.9",
        source="ip(7)",
        meaning="As recverr_rfc4884.")
    ipv6_recvfragsize = Option("IPV6_RECVFRAGSIZE", Flag(), on=Kind.IPV6_DATAGRAM, kernels="Linux 4.10",
        source="kernel: linux/in6.h",
        meaning="As recvfragsize.")
    ipv6_recvorigdstaddr = Option("IPV6_RECVORIGDSTADDR", Flag(), on=Kind.IPV6_DATAGRAM, kernels="Linux 2.6.37",
        source="ip(7)",
        meaning="As recvorigdstaddr.")
    ipv6_router_alert = Option("IPV6_ROUTER_ALERT", Integer(low=-1, high=65535), on=Kind.IPV6_RAW,
        kernels="Linux", source="ipv6(7)",
        meaning="Packets with a router alert of this value come to this socket; -1: none. Sockets of IPPROTO_RAW only.")
    ipv6_router_alert_isolate = Option("IPV6_ROUTER_ALERT_ISOLATE", Flag(), on=Kind.IPV6, kernels="Linux 5.2",
        source="kernel: linux/in6.h",
        meaning="Router alerts of other network namespaces do not come to this socket.")
    ipv6_transparent = Option("IPV6_TRANSPARENT", Flag(), on=Kind.IPV6, kernels="Linux 2.6.37", source="ip(7)",
        meaning="As transparent.")
    ipv6_unicast_if = Option("IPV6_UNICAST_IF", InterfaceIndex(network_order=True), on=Kind.IPV6_DATAGRAM,
        kernels="Linux 3.4", source="kernel: net/ipv6/ipv6_sockglue.c",
        meaning="As unicast_if.")
    recvdstopts = Option("IPV6_RECVDSTOPTS", Flag(), on=Kind.IPV6_DATAGRAM, source="RFC 3542",
        meaning="Each datagram comes with its destination options.")
    recvhoplimit = Option("IPV6_RECVHOPLIMIT", Flag(), on=Kind.IPV6_DATAGRAM, source="ipv6(7)",
        meaning="Each datagram comes with its hop limit.")
    recvhopopts = Option("IPV6_RECVHOPOPTS", Flag(), on=Kind.IPV6_DATAGRAM, source="ipv6(7)",
        meaning="Each datagram comes with its hop-by-hop options.")
    recvpathmtu = Option("IPV6_RECVPATHMTU", Flag(), on=Kind.IPV6_DATAGRAM, source="RFC 3542",
        meaning="A change of the path's MTU is told by an empty message.")
    recvpktinfo = Option("IPV6_RECVPKTINFO", Flag(), on=Kind.IPV6_DATAGRAM, source="ipv6(7)",
        meaning="Each datagram comes with the interface and the address it came to.")
    recvrthdr = Option("IPV6_RECVRTHDR", Flag(), on=Kind.IPV6_DATAGRAM, source="ipv6(7)",
        meaning="Each datagram comes with its routing header.")
    recvtclass = Option("IPV6_RECVTCLASS", Flag(), on=Kind.IPV6_DATAGRAM, source="RFC 3542",
        meaning="Each datagram comes with its traffic class.")
    tclass = Option("IPV6_TCLASS", _DEFAULT_TO_255, on=Kind.IPV6, source="RFC 3542",
        meaning="Traffic class: six bits of DSCP, two of ECN; -1 sets the default, 0.")
    v6only = Option("IPV6_V6ONLY", Flag(), on=Kind.IPV6, source="ipv6(7)",
        meaning="The socket is for IPv6 alone; else it reaches IPv4, too, as ::ffff:a.b.c.d. To be set before bind.")

    # -- UDP: udp(7)

    udp_cork = Option("UDP_CORK", Flag(), on=Kind.UDP, kernels="Linux 2.5.44", source="udp(7)",
        meaning="What is sent is gathered, and leaves as one datagram when it is taken back.")
    udp_encap = Option("UDP_ENCAP", _count(), on=Kind.UDP, kernels="Linux 2.5.67",
        source="kernel: linux/udp.h",
        meaning="Which protocol stands in the datagrams, for the kernel to take out (IPsec, L2TP).")
    udp_gro = Option("UDP_GRO", Flag(), on=Kind.UDP, kernels="Linux 5.0", source="udp(7)",
        meaning="Datagrams of one size may be received together; a control message tells the size.")
    udp_no_check6_rx = Option("UDP_NO_CHECK6_RX", Flag(), on=Kind.UDP, kernels="Linux 3.16", source="RFC 6936",
        meaning="UDP over IPv6 takes datagrams without a checksum.")
    udp_no_check6_tx = Option("UDP_NO_CHECK6_TX", Flag(), on=Kind.UDP, kernels="Linux 3.16", source="RFC 6936",
        meaning="UDP over IPv6 sends no checksums.")
    udp_segment = Option("UDP_SEGMENT", Integer(_BYTES, low=0, high=65535), on=Kind.UDP, kernels="Linux 4.18",
        source="udp(7)",
        meaning="What is sent at once leaves as datagrams of this size; 0: as one.")

    # -- link layer and netlink: packet(7), netlink(7)

    packet_auxdata = Option("PACKET_AUXDATA", Flag(), on=Kind.PACKET, kernels="Linux 2.6.21", source="packet(7)",
        meaning="Each packet comes with what the network card knew of it.")
    packet_ignore_outgoing = Option("PACKET_IGNORE_OUTGOING", Flag(), on=Kind.PACKET, kernels="Linux 4.20",
        source="packet(7)",
        meaning="What this machine sends is not captured.")
    packet_origdev = Option("PACKET_ORIGDEV", Flag(), on=Kind.PACKET, kernels="Linux 2.6.24", source="packet(7)",
        meaning="The interface told is the one below a bond or a bridge.")
    packet_qdisc_bypass = Option("PACKET_QDISC_BYPASS", Flag(), on=Kind.PACKET, kernels="Linux 3.14",
        source="packet(7)",
        meaning="What is sent passes by the queues of traffic control.")
    packet_statistics = Option("PACKET_STATISTICS", Record(PacketStatistics, "@II"), on=Kind.PACKET, access=_READ,
        kernels="Linux 2.2", source="packet(7)",
        meaning="How many packets came, and were dropped, since the last time of asking.")
    netlink_broadcast_error = Option("NETLINK_BROADCAST_ERROR", Flag(), on=Kind.NETLINK, kernels="Linux 2.6.30",
        source="netlink(7)",
        meaning="A sender learns that its broadcast did not reach this socket.")
    netlink_cap_ack = Option("NETLINK_CAP_ACK", Flag(), on=Kind.NETLINK, kernels="Linux 4.3", source="netlink(7)",
        meaning="An acknowledgement does not repeat what was sent.")
    netlink_ext_ack = Option("NETLINK_EXT_ACK", Flag(), on=Kind.NETLINK, kernels="Linux 4.12", source="netlink(7)",
        meaning="An acknowledgement comes with the reason in words.")
    netlink_get_strict_chk = Option("NETLINK_GET_STRICT_CHK", Flag(), on=Kind.NETLINK, kernels="Linux 4.20",
        source="netlink(7)",
        meaning="Requests are checked strictly, and can be filtered by what stands in them.")
    netlink_listen_all_nsid = Option("NETLINK_LISTEN_ALL_NSID", Flag(), on=Kind.NETLINK, kernels="Linux 4.2",
        source="netlink(7)",
        meaning="Messages of every network namespace come, that has an id in this one.")
    netlink_no_enobufs = Option("NETLINK_NO_ENOBUFS", Flag(), on=Kind.NETLINK, kernels="Linux 2.6.30",
        source="netlink(7)",
        meaning="Messages that are lost for want of room are not told of.")
    netlink_pktinfo = Option("NETLINK_PKTINFO", Flag(), on=Kind.NETLINK, kernels="Linux 2.6.14", source="netlink(7)",
        meaning="Each message comes with the number of its group.")
    # fmt: on


#: every row, by name
OPTIONS: Final[Mapping[str, Option[Any]]] = {
    name: row for name, row in vars(SocketOptions).items() if isinstance(row, Option)
}


def find_option(name: str) -> Option[Any]:
    """The option of a name, ``"nodelay"``, or of a constant, ``"TCP_NODELAY"``. Raises ``OptionError``."""
    found = OPTIONS.get(name) or next((option for option in OPTIONS.values() if option.constant == name), None)
    if found is not None:
        return found
    import difflib  # here, for a mistake only

    near = difflib.get_close_matches(name, [*OPTIONS, *(option.constant for option in OPTIONS.values())], 1)
    hint = f"did you mean {near[0]!r}?" if near else "'netnet sockopts' lists all"
    raise OptionError(f"there is no socket option {name!r}; {hint}")
