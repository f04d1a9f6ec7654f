"""Every socket option, one row each. ``SocketOptions`` is the table and, as part of ``Socket``, the typed properties.

A name is the constant's in lower case without ``SO_``, ``TCP_`` and ``IP_``; the other prefixes stay. The documentation
page ``docs/options.md`` and ``netnet sockopts`` are made from these rows. How a row is read and set: ``option``; how a
value stands in bytes: ``values``. Where a meaning names no unit, the number has none.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from netnet.kernel.option import Access, Kind, Option, find
from netnet.kernel.tcp_info import TcpInfoValue
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
    TransmitTime,
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


_READ, _SET = Access.READ, Access.SET
_BYTES, _SECONDS, _MILLISECONDS, _MICROSECONDS = "bytes", "seconds", "milliseconds", "microseconds"
_TIMESTAMPING = "kernel: networking/timestamping.rst"
_TO_255 = Integer(low=0, high=255)
#: -1 stands for the system's default
_DEFAULT_TO_255 = Integer(low=-1, high=255)


class SocketOptions:
    """The options of a socket, by name, as properties. A subclass is a ``socket.socket``."""

    __slots__ = ()

    # -- any socket: socket(7)

    acceptconn = Option("SO_ACCEPTCONN", Flag(), "Whether the socket listens.", "socket(7)", on=Kind.ANY, access=_READ)
    bindtodevice = Option(
        "SO_BINDTODEVICE",
        String(INTERFACE_NAME_BYTES),
        "Only this interface is used, for sending and receiving; '' for all.",
        "socket(7)",
        on=Kind.INET,
        kernels="Linux",
    )
    bindtoifindex = Option(
        "SO_BINDTOIFINDEX",
        InterfaceIndex(),
        "The same as bindtodevice, by index inside the kernel.",
        "socket(7)",
        on=Kind.INET,
        kernels="Linux 5.1",
    )
    bpf_extensions = Option(
        "SO_BPF_EXTENSIONS",
        Integer(),
        "How many extensions of packet filters the kernel knows.",
        "socket(7)",
        on=Kind.ANY,
        access=_READ,
        kernels="Linux 3.14",
    )
    broadcast = Option(
        "SO_BROADCAST", Flag(), "Datagrams may be sent to a broadcast address.", "socket(7)", on=Kind.UDP
    )
    buf_lock = Option(
        "SO_BUF_LOCK",
        Bits(BufferLocks),
        "Which buffers keep the size they were given, instead of being fitted by the kernel.",
        "kernel: sockopt SO_BUF_LOCK",
        on=Kind.ANY,
        kernels="Linux 5.15",
    )
    busy_poll = Option(
        "SO_BUSY_POLL",
        Integer(_MICROSECONDS, low=0, high=2**31 - 1),
        "How long a receive that finds nothing polls the device before it sleeps.",
        "socket(7)",
        on=Kind.INET,
        kernels="Linux 3.11",
    )
    busy_poll_budget = Option(
        "SO_BUSY_POLL_BUDGET",
        Integer("packets", low=0, high=65535),
        "How many packets a busy poll takes at once.",
        "kernel: networking/napi.rst",
        on=Kind.INET,
        access=_SET,
        kernels="Linux 5.11",
    )
    cnx_advice = Option(
        "SO_CNX_ADVICE",
        Integer(low=0, high=1),
        "1 tells the kernel that the path seems bad, so that IPv6 chooses another flow label.",
        "kernel: net/core/sock.c",
        on=Kind.TCP,
        access=_SET,
        kernels="Linux 4.6",
    )
    cookie = Option(
        "SO_COOKIE",
        Integer(low=0, size=8),
        "A number that no other socket has as long as the system runs.",
        "socket(7)",
        on=Kind.ANY,
        access=_READ,
        kernels="Linux 4.12",
    )
    debug = Option("SO_DEBUG", Flag(), "The kernel records debugging information.", "socket(7)", on=Kind.ANY)
    domain = Option(
        "SO_DOMAIN", Integer(), "The address family.", "socket(7)", on=Kind.ANY, access=_READ, kernels="Linux 2.6.32"
    )
    dontroute = Option(
        "SO_DONTROUTE", Flag(), "Only hosts on a directly connected network are reached.", "socket(7)", on=Kind.INET
    )
    error = Option(
        "SO_ERROR",
        Integer("error number"),
        "The error that stands against the socket, 0 for none; reading takes it away.",
        "socket(7)",
        on=Kind.ANY,
        access=_READ,
    )
    incoming_cpu = Option(
        "SO_INCOMING_CPU",
        Integer(low=-1, high=2**31 - 1),
        "The processor that handled the last packet; set on listeners that share a port, the one whose connections "
        "this one takes. -1: none yet.",
        "socket(7)",
        on=Kind.INET,
        kernels="Linux 3.19",
    )
    incoming_napi_id = Option(
        "SO_INCOMING_NAPI_ID",
        Integer(low=0),
        "The receive queue of the device that the last packet came from; 0 for none, as on loopback.",
        "socket(7)",
        on=Kind.INET,
        access=_READ,
        kernels="Linux 4.12",
    )
    keepalive = Option(
        "SO_KEEPALIVE",
        Flag(),
        "An idle connection is probed; see keepidle, keepintvl, keepcnt for when.",
        "socket(7)",
        on=Kind.ANY,
    )
    linger = Option(
        "SO_LINGER",
        Linger(),
        "How many seconds close(2) waits for what was sent to be acknowledged; 0: it discards it and resets the "
        "connection; None: it does not wait, and the kernel goes on sending.",
        "socket(7)",
        on=Kind.ANY,
    )
    lock_filter = Option(
        "SO_LOCK_FILTER",
        Flag(),
        "The packet filter can no longer be changed; cannot be taken back.",
        "socket(7)",
        on=Kind.ANY,
        kernels="Linux 3.9",
    )
    mark = Option(
        "SO_MARK",
        Integer(low=0),
        "The mark of each packet sent, for routing and filtering by it.",
        "socket(7)",
        on=Kind.INET,
        kernels="Linux 2.6.25",
    )
    max_pacing_rate = Option(
        "SO_MAX_PACING_RATE",
        Integer("bytes a second", low=0, size=8),
        "The fastest that the kernel sends; all bits set: no limit.",
        "kernel: net/core/sock.c",
        on=Kind.INET,
        kernels="Linux 3.13",
    )
    meminfo = Option(
        "SO_MEMINFO",
        Record(MemoryUse, "@9I"),
        "The memory that the socket uses.",
        "sock_diag(7)",
        on=Kind.ANY,
        access=_READ,
        kernels="Linux 4.12",
    )
    netns_cookie = Option(
        "SO_NETNS_COOKIE",
        Integer(low=0, size=8),
        "A number that tells network namespaces apart.",
        "kernel: net/core/sock.c",
        on=Kind.ANY,
        access=_READ,
        kernels="Linux 5.14",
    )
    no_check = Option(
        "SO_NO_CHECK",
        Flag(),
        "UDP over IPv4 sends no checksums.",
        "kernel: net/core/sock.c",
        on=Kind.UDP,
        kernels="Linux",
    )
    nofcs = Option(
        "SO_NOFCS",
        Flag(),
        "Packets leave without the network card's checksum, which stands in them already.",
        "socket(7)",
        on=Kind.PACKET,
        kernels="Linux 3.4",
    )
    oobinline = Option("SO_OOBINLINE", Flag(), "Urgent data comes among the other data.", "socket(7)", on=Kind.ANY)
    passcred = Option(
        "SO_PASSCRED",
        Flag(),
        "Each message comes with its sender's process, user and group.",
        "unix(7)",
        on=Kind.UNIX,
        kernels="Linux",
    )
    passpidfd = Option(
        "SO_PASSPIDFD",
        Flag(),
        "Each message comes with a pidfd, a descriptor for its sender's process.",
        "unix(7)",
        on=Kind.UNIX,
        kernels="Linux 6.5",
    )
    passrights = Option(
        "SO_PASSRIGHTS",
        Choice(PassedRights),
        "Whether descriptors that are sent are let through; the default is that they are.",
        "unix(7)",
        on=Kind.UNIX,
        kernels="Linux 6.16",
    )
    passsec = Option(
        "SO_PASSSEC",
        Flag(),
        "Each message comes with its sender's security label.",
        "unix(7)",
        on=Kind.UNIX,
        kernels="Linux 2.6.18",
    )
    peek_off = Option(
        "SO_PEEK_OFF",
        Integer(_BYTES, low=-1, high=2**31 - 1),
        "Where MSG_PEEK begins; it moves on by what was peeked at. -1: always at the front.",
        "socket(7)",
        on=Kind.UNIX,
        kernels="Linux 3.4",
    )
    peercred = Option(
        "SO_PEERCRED",
        Record(Credentials, "@iII"),
        "Who connected, or made the pair: process, user and group at that time.",
        "unix(7)",
        on=Kind.UNIX_CONNECTED,
        access=_READ,
        kernels="Linux",
    )
    peergroups = Option(
        "SO_PEERGROUPS",
        Groups(),
        "The supplementary groups of who connected.",
        "unix(7)",
        on=Kind.UNIX_CONNECTED,
        access=_READ,
        kernels="Linux 4.13",
    )
    peerpidfd = Option(
        "SO_PEERPIDFD",
        Integer("descriptor"),
        "A new pidfd, a descriptor for the process that connected; each reading makes one, which is yours to close.",
        "unix(7)",
        on=Kind.UNIX_CONNECTED,
        access=_READ,
        kernels="Linux 6.5",
    )
    peersec = Option(
        "SO_PEERSEC",
        String(1024),
        "The security label of who connected, where the kernel has labels.",
        "unix(7)",
        on=Kind.UNIX_CONNECTED,
        access=_READ,
        kernels="Linux 2.6.2",
    )
    prefer_busy_poll = Option(
        "SO_PREFER_BUSY_POLL",
        Flag(),
        "The device's queue is handled by busy polling rather than by interrupts.",
        "kernel: networking/napi.rst",
        on=Kind.INET,
        access=_SET,
        kernels="Linux 5.11",
    )
    priority = Option(
        "SO_PRIORITY",
        Integer(low=0, high=2**31 - 1),
        "The queueing priority of what is sent; above 6 needs a privilege.",
        "socket(7)",
        on=Kind.ANY,
        kernels="Linux",
    )
    protocol = Option(
        "SO_PROTOCOL",
        Integer(),
        "The protocol, as in IPPROTO_TCP.",
        "socket(7)",
        on=Kind.ANY,
        access=_READ,
        kernels="Linux 2.6.32",
    )
    rcvbuf = Option(
        "SO_RCVBUF",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "The receive buffer. Linux doubles what is set, for its own bookkeeping, and reads back the double; what can "
        "be asked for is bounded by net.core.rmem_max. Setting it ends the kernel's fitting of the size.",
        "socket(7)",
        on=Kind.ANY,
    )
    rcvbufforce = Option(
        "SO_RCVBUFFORCE",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "As rcvbuf, without its upper bound; needs a privilege.",
        "socket(7)",
        on=Kind.ANY,
        access=_SET,
        kernels="Linux 2.6.14",
    )
    rcvlowat = Option(
        "SO_RCVLOWAT",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "So many bytes have to be there before the socket counts as readable.",
        "socket(7)",
        on=Kind.TCP,
    )
    rcvmark = Option(
        "SO_RCVMARK",
        Flag(),
        "Each message comes with its packet's mark.",
        "socket(7)",
        on=Kind.UDP,
        kernels="Linux 5.19",
    )
    rcvpriority = Option(
        "SO_RCVPRIORITY",
        Flag(),
        "Each message comes with its packet's priority.",
        "socket(7)",
        on=Kind.UDP,
        kernels="Linux 6.14",
    )
    rcvtimeo = Option(
        "SO_RCVTIMEO",
        Seconds(),
        "How long a blocking receive waits at most; 0: no limit. Without effect on netnet's sockets, whose descriptors "
        "never block: settimeout is theirs. For descriptors handed to other programs.",
        "socket(7)",
        on=Kind.ANY,
    )
    reserve_mem = Option(
        "SO_RESERVE_MEM",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "Memory set aside for the socket alone, where memory is limited by a control group.",
        "kernel: net/core/sock.c",
        on=Kind.TCP,
        kernels="Linux 5.16",
    )
    reuseaddr = Option(
        "SO_REUSEADDR",
        Flag(),
        "An address may be bound while old connections of it are still closing down.",
        "socket(7)",
        on=Kind.ANY,
    )
    reuseport = Option(
        "SO_REUSEPORT",
        Flag(),
        "Several sockets may bind the same address, and the kernel spreads connections and datagrams over them.",
        "socket(7)",
        on=Kind.INET,
        kernels="Linux 3.9, BSD, macOS",
    )
    rxq_ovfl = Option(
        "SO_RXQ_OVFL",
        Flag(),
        "Each message comes with the number of those dropped so far.",
        "socket(7)",
        on=Kind.ANY,
        kernels="Linux 2.6.33",
    )
    select_err_queue = Option(
        "SO_SELECT_ERR_QUEUE",
        Flag(),
        "An entry in the error queue shows as urgent data (POLLPRI), too.",
        "socket(7)",
        on=Kind.ANY,
        kernels="Linux 3.10",
    )
    sndbuf = Option(
        "SO_SNDBUF",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "The send buffer. Doubled and bounded (net.core.wmem_max) as rcvbuf is.",
        "socket(7)",
        on=Kind.ANY,
    )
    sndbufforce = Option(
        "SO_SNDBUFFORCE",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "As sndbuf, without its upper bound; needs a privilege.",
        "socket(7)",
        on=Kind.ANY,
        access=_SET,
        kernels="Linux 2.6.14",
    )
    sndlowat = Option(
        "SO_SNDLOWAT",
        Integer(_BYTES),
        "So much room there has to be before the socket counts as writable; Linux has 1 always.",
        "socket(7)",
        on=Kind.ANY,
        access=_READ,
    )
    sndtimeo = Option("SO_SNDTIMEO", Seconds(), "As rcvtimeo, for sending.", "socket(7)", on=Kind.ANY)
    timestamp = Option(
        "SO_TIMESTAMP",
        Flag(),
        "Each message comes with the time it arrived, in microseconds.",
        "socket(7)",
        on=Kind.ANY,
    )
    timestampns = Option(
        "SO_TIMESTAMPNS",
        Flag(),
        "Each message comes with the time it arrived, in nanoseconds.",
        "socket(7)",
        on=Kind.ANY,
        kernels="Linux 2.6.22",
    )
    timestamping = Option(
        "SO_TIMESTAMPING",
        Bits(Timestamping),
        "Which time stamps are made of what comes and goes, by software and by the network card.",
        _TIMESTAMPING,
        on=Kind.INET,
        kernels="Linux 2.6.30",
    )
    txrehash = Option(
        "SO_TXREHASH",
        Integer(low=-1, high=1),
        "Whether a connection whose packets are lost tries another path (IPv6 flow label); -1: the system's default.",
        "kernel: networking/ip-sysctl.rst",
        on=Kind.TCP,
        kernels="Linux 5.18",
    )
    txtime = Option(
        "SO_TXTIME",
        Record(TransmitTime, "@iI"),
        "Each message may be sent with the time at which it is to leave, told in this clock.",
        "tc-etf(8)",
        on=Kind.UDP,
        kernels="Linux 4.19",
    )
    type = Option(
        "SO_TYPE", Integer(), "The kind of socket, as in SOCK_STREAM.", "socket(7)", on=Kind.ANY, access=_READ
    )
    wifi_status = Option(
        "SO_WIFI_STATUS",
        Flag(),
        "What is sent is answered in the error queue with whether the other side acknowledged it on the air.",
        "kernel: net/core/sock.c",
        on=Kind.ANY,
        kernels="Linux 3.3",
    )
    zerocopy = Option(
        "SO_ZEROCOPY",
        Flag(),
        "Sending with MSG_ZEROCOPY is allowed: the pages that are sent are not copied.",
        "kernel: networking/msg_zerocopy.rst",
        on=Kind.INET,
        kernels="Linux 4.14",
    )

    # -- TCP: tcp(7)

    congestion = Option(
        "TCP_CONGESTION",
        String(16),
        "The congestion control, as in 'cubic'.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux 2.6.13, FreeBSD",
    )
    cork = Option(
        "TCP_CORK",
        Flag(),
        "Only full segments are sent until it is taken back, or 200 ms are over (TCP_NOPUSH on BSD and macOS).",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux, BSD, macOS",
    )
    cc_info = Option(
        "TCP_CC_INFO",
        Octets(64),
        "What the congestion control has to tell of itself, in a form of its own.",
        "kernel: linux/inet_diag.h",
        on=Kind.TCP,
        access=_READ,
        kernels="Linux 4.1",
    )
    defer_accept = Option(
        "TCP_DEFER_ACCEPT",
        Integer(_SECONDS, low=0, high=2**31 - 1),
        "accept(2) has a connection only when data came, or this time is over; rounded up to a whole number of "
        "retransmissions.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux",
    )
    delack_max = Option(
        "TCP_DELACK_MAX_US",
        Integer(_MICROSECONDS, low=0, high=2**31 - 1),
        "How long an acknowledgement may be held back.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 6.15",
    )
    fastopen = Option(
        "TCP_FASTOPEN",
        Integer("connections", low=0, high=2**31 - 1),
        "On a listener: so many connections may be open whose first packet brought data before the handshake is over.",
        "tcp(7); RFC 7413",
        on=Kind.TCP,
        kernels="Linux 3.7, BSD, macOS",
    )
    fastopen_connect = Option(
        "TCP_FASTOPEN_CONNECT",
        Flag(),
        "connect(2) returns at once where a cookie is known, and the first data goes with the first packet.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux 4.11",
    )
    fastopen_key = Option(
        "TCP_FASTOPEN_KEY",
        Octets(32),
        "The key of the cookies, 16 bytes, or two of them; shared by servers that stand for one another.",
        "kernel: networking/ip-sysctl.rst",
        on=Kind.TCP,
        kernels="Linux 4.15",
    )
    fastopen_no_cookie = Option(
        "TCP_FASTOPEN_NO_COOKIE",
        Flag(),
        "Data in the first packet needs no cookie: only where nobody can forge addresses.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 4.15",
    )
    info = Option(
        "TCP_INFO",
        TcpInfoValue(),
        "What the kernel knows of the connection: state, round-trip time, window, losses, rates.",
        "tcp(7)",
        on=Kind.TCP,
        access=_READ,
        kernels="Linux",
    )
    inq = Option(
        "TCP_INQ",
        Flag(),
        "Each receive tells how many bytes are left to be received.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 4.18",
    )
    is_mptcp = Option(
        "TCP_IS_MPTCP",
        Flag(),
        "Whether the connection is Multipath TCP.",
        "kernel: networking/mptcp.rst",
        on=Kind.TCP,
        access=_READ,
        kernels="Linux 5.16",
    )
    keepcnt = Option(
        "TCP_KEEPCNT",
        Integer("probes", low=0, high=2**31 - 1),
        "So many probes without an answer end the connection.",
        "tcp(7)",
        on=Kind.TCP,
    )
    keepidle = Option(
        "TCP_KEEPIDLE",
        Integer(_SECONDS, low=0, high=2**31 - 1),
        "A connection that is idle for so long is probed, if keepalive is on (TCP_KEEPALIVE on macOS).",
        "tcp(7)",
        on=Kind.TCP,
    )
    keepintvl = Option(
        "TCP_KEEPINTVL",
        Integer(_SECONDS, low=0, high=2**31 - 1),
        "The time between two probes.",
        "tcp(7)",
        on=Kind.TCP,
    )
    linger2 = Option(
        "TCP_LINGER2",
        Integer(_SECONDS, low=-1, high=2**31 - 1),
        "How long a closed connection waits in state FIN-WAIT-2 for the peer's end; -1: not at all.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux",
    )
    maxseg = Option(
        "TCP_MAXSEG",
        Integer(_BYTES, low=0, high=65535),
        "The largest segment. Before connecting it reads as a default, not as what was set.",
        "tcp(7)",
        on=Kind.TCP,
    )
    nodelay = Option(
        "TCP_NODELAY",
        Flag(),
        "Small segments leave at once, without waiting for an acknowledgement (Nagle's algorithm off).",
        "tcp(7)",
        on=Kind.TCP,
    )
    notsent_lowat = Option(
        "TCP_NOTSENT_LOWAT",
        Integer(_BYTES, low=0),
        "With so many unsent bytes in the buffer the socket is not writable; keeps latency low. 0: the system's limit.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux 3.12, macOS",
    )
    quickack = Option(
        "TCP_QUICKACK",
        Flag(),
        "Acknowledgements are not held back; the kernel may take it back as the connection goes on.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux 2.4.4",
    )
    repair = Option(
        "TCP_REPAIR",
        Integer(low=-1, high=1),
        "Repair mode, in which a connection's state can be read and set: 1 on, 0 off, -1 off without a window probe.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 3.5",
    )
    rto_max = Option(
        "TCP_RTO_MAX_MS",
        Integer(_MILLISECONDS, low=1000, high=120000),
        "The longest time until a segment is sent again.",
        "kernel: networking/ip-sysctl.rst",
        on=Kind.TCP,
        kernels="Linux 6.15",
    )
    rto_min = Option(
        "TCP_RTO_MIN_US",
        Integer(_MICROSECONDS, low=1, high=2**31 - 1),
        "The shortest time until a segment is sent again.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 6.15",
    )
    save_syn = Option(
        "TCP_SAVE_SYN",
        Integer(low=0, high=2),
        "A listener keeps each connection's first packet, without (1) or with (2) its link-layer header.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 4.2",
    )
    saved_syn = Option(
        "TCP_SAVED_SYN",
        Octets(512),
        "The headers of the connection's first packet, if the listener kept it; can be read once.",
        "kernel: linux/tcp.h",
        on=Kind.TCP_CONNECTED,
        access=_READ,
        kernels="Linux 4.2",
    )
    syncnt = Option(
        "TCP_SYNCNT",
        Integer("packets", low=1, high=127),
        "How often a connection attempt is repeated before it is given up.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux",
    )
    tcp_timestamp = Option(
        "TCP_TIMESTAMP",
        Integer(low=0),
        "The clock of the TCP time stamps; can be set in repair mode.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        access=_READ,
        kernels="Linux 3.9",
    )
    thin_linear_timeouts = Option(
        "TCP_THIN_LINEAR_TIMEOUTS",
        Flag(),
        "A connection with little under way repeats without the usual growing pauses.",
        "kernel: networking/tcp-thin.rst",
        on=Kind.TCP,
        kernels="Linux 2.6.34",
    )
    tx_delay = Option(
        "TCP_TX_DELAY",
        Integer(_MICROSECONDS, low=0, high=2**31 - 1),
        "All that is sent is delayed, to try long paths; needs the fq queue.",
        "kernel: linux/tcp.h",
        on=Kind.TCP,
        kernels="Linux 5.3",
    )
    ulp = Option(
        "TCP_ULP",
        String(16),
        "The protocol that the kernel runs on top of the connection, as in 'tls'; cannot be taken back.",
        "kernel: networking/tls.rst",
        on=Kind.TCP_CONNECTED,
        kernels="Linux 4.13",
    )
    user_timeout = Option(
        "TCP_USER_TIMEOUT",
        Integer(_MILLISECONDS, low=0, high=2**31 - 1),
        "What was sent may stay without acknowledgement for so long; then the connection is ended. 0: the system's "
        "limit.",
        "tcp(7); RFC 5482",
        on=Kind.TCP,
        kernels="Linux 2.6.37",
    )
    window_clamp = Option(
        "TCP_WINDOW_CLAMP",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "The receive window is never announced larger.",
        "tcp(7)",
        on=Kind.TCP,
        kernels="Linux",
    )

    # -- IPv4: ip(7)

    bind_address_no_port = Option(
        "IP_BIND_ADDRESS_NO_PORT",
        Flag(),
        "bind(2) with port 0 reserves no port yet; connect(2) chooses it, so that more connections find one.",
        "ip(7)",
        on=Kind.IPV4,
        kernels="Linux 4.2",
    )
    checksum = Option(
        "IP_CHECKSUM",
        Flag(),
        "Each datagram comes with its checksum.",
        "kernel: net/ipv4/ip_sockglue.c",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 4.0",
    )
    freebind = Option(
        "IP_FREEBIND",
        Flag(),
        "An address may be bound that no interface has (yet).",
        "ip(7)",
        on=Kind.IPV4,
        kernels="Linux 2.4",
    )
    hdrincl = Option(
        "IP_HDRINCL", Flag(), "What is sent begins with an IP header of the sender's.", "ip(7)", on=Kind.IPV4_RAW
    )
    ip_options = Option(
        "IP_OPTIONS", Octets(40), "The IP options of each packet sent, as they stand in it.", "ip(7)", on=Kind.IPV4
    )
    ip_protocol = Option(
        "IP_PROTOCOL",
        Integer(low=0, high=2**31 - 1),
        "The protocol of a raw socket's packets.",
        "ip(7)",
        on=Kind.IPV4,
        access=_READ,
        kernels="Linux 6.4",
    )
    local_port_range = Option(
        "IP_LOCAL_PORT_RANGE",
        Record(PortRange, "@HH"),
        "The ports from which the kernel chooses for this socket; (0, 0): the system's.",
        "ip(7)",
        on=Kind.IPV4,
        kernels="Linux 6.3",
    )
    minttl = Option(
        "IP_MINTTL",
        Integer("hops", low=0, high=255),
        "Packets whose time to live is less are dropped.",
        "ip(7); RFC 5082",
        on=Kind.IPV4,
        kernels="Linux 2.6.34, BSD",
    )
    mtu = Option(
        "IP_MTU",
        Integer(_BYTES),
        "The path's MTU, as far as it is known.",
        "ip(7)",
        on=Kind.IPV4_CONNECTED,
        access=_READ,
        kernels="Linux 2.2",
    )
    mtu_discover = Option(
        "IP_MTU_DISCOVER",
        Choice(PathMtuDiscovery),
        "Whether the path's MTU is found out, with packets that must not be split.",
        "ip(7)",
        on=Kind.IPV4,
        kernels="Linux 2.2",
    )
    multicast_all = Option(
        "IP_MULTICAST_ALL",
        Flag(),
        "The socket gets what goes to any group that someone on this machine has joined, not only to its own.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 2.6.31",
    )
    multicast_if = Option(
        "IP_MULTICAST_IF",
        IPv4(),
        "The interface that multicast leaves by, told by its address; see also Socket.multicast.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
    )
    multicast_loop = Option(
        "IP_MULTICAST_LOOP",
        Flag(),
        "Multicast that is sent also reaches this machine.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
    )
    multicast_ttl = Option(
        "IP_MULTICAST_TTL",
        _DEFAULT_TO_255,
        "How many hops multicast may take; -1 sets the default, 1.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
    )
    nodefrag = Option(
        "IP_NODEFRAG",
        Flag(),
        "Fragments are not put together before the firewall sees them.",
        "ip(7)",
        on=Kind.IPV4_RAW,
        kernels="Linux 2.6.36",
    )
    original_dst = Option(
        "SO_ORIGINAL_DST",
        InetSockaddr(),
        "Where a connection that the firewall redirected (iptables REDIRECT) was going.",
        "kernel: linux/netfilter_ipv4.h",
        on=Kind.TCP_CONNECTED,
        level="SOL_IP",
        access=_READ,
        kernels="Linux 2.4",
    )
    passsec_ip = Option(
        "IP_PASSSEC",
        Flag(),
        "Each datagram comes with its sender's security label.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 2.6.17",
    )
    pktinfo = Option(
        "IP_PKTINFO",
        Flag(),
        "Each datagram comes with the interface and the address it came to.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 2.2",
    )
    recverr = Option(
        "IP_RECVERR",
        Flag(),
        "Errors that come back from the network are kept in the error queue, with who reported them.",
        "ip(7)",
        on=Kind.IPV4,
        kernels="Linux 2.2",
    )
    recverr_rfc4884 = Option(
        "IP_RECVERR_RFC4884",
        Flag(),
        "Errors in the error queue come with the extensions of RFC 4884.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 5.9",
    )
    recvfragsize = Option(
        "IP_RECVFRAGSIZE",
        Flag(),
        "Each datagram comes with the size of its largest fragment.",
        "kernel: net/ipv4/ip_sockglue.c",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 4.10",
    )
    recvopts = Option("IP_RECVOPTS", Flag(), "Each datagram comes with its IP options.", "ip(7)", on=Kind.IPV4_DATAGRAM)
    recvorigdstaddr = Option(
        "IP_RECVORIGDSTADDR",
        Flag(),
        "Each datagram comes with the address it was sent to, before any redirection.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 2.6.29",
    )
    recvtos = Option(
        "IP_RECVTOS", Flag(), "Each datagram comes with its type of service.", "ip(7)", on=Kind.IPV4_DATAGRAM
    )
    recvttl = Option(
        "IP_RECVTTL",
        Flag(),
        "Each datagram comes with its time to live.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 2.2",
    )
    retopts = Option(
        "IP_RETOPTS",
        Flag(),
        "Each datagram comes with its IP options as a reply would need them.",
        "ip(7)",
        on=Kind.IPV4_DATAGRAM,
    )
    router_alert = Option(
        "IP_ROUTER_ALERT",
        Flag(),
        "Packets to be forwarded that carry the router alert option come to this socket.",
        "ip(7)",
        on=Kind.IPV4_RAW,
        access=_SET,
        kernels="Linux 2.2",
    )
    tos = Option(
        "IP_TOS",
        _TO_255,
        "Type of service: six bits of DSCP, two of ECN; TCP keeps the latter two to itself.",
        "ip(7)",
        on=Kind.IPV4,
    )
    transparent = Option(
        "IP_TRANSPARENT",
        Flag(),
        "Foreign addresses may be bound and connections to them accepted, for transparent proxies; needs a privilege.",
        "ip(7)",
        on=Kind.IPV4,
        kernels="Linux 2.6.24",
    )
    ttl = Option(
        "IP_TTL",
        Integer("hops", low=-1, high=255),
        "The time to live of what is sent; -1 sets the system's default.",
        "ip(7)",
        on=Kind.IPV4,
    )
    unicast_if = Option(
        "IP_UNICAST_IF",
        InterfaceIndex(network_order=True),
        "The interface by which what is not multicast leaves.",
        "kernel: net/ipv4/ip_sockglue.c",
        on=Kind.IPV4_DATAGRAM,
        kernels="Linux 3.4",
    )

    # -- IPv6: ipv6(7)

    addr_preferences = Option(
        "IPV6_ADDR_PREFERENCES",
        Bits(AddressPreference),
        "Which of the machine's own addresses is preferred to send from.",
        "RFC 5014",
        on=Kind.IPV6,
        kernels="Linux 2.6.26",
    )
    addrform = Option(
        "IPV6_ADDRFORM",
        Integer(),
        "AF_INET turns a connection between IPv4-mapped addresses into an IPv4 socket.",
        "ipv6(7)",
        on=Kind.IPV6_CONNECTED,
        kernels="Linux",
    )
    autoflowlabel = Option(
        "IPV6_AUTOFLOWLABEL",
        Flag(),
        "The kernel makes flow labels of its own.",
        "kernel: networking/ip-sysctl.rst",
        on=Kind.IPV6,
        kernels="Linux 3.17",
    )
    dontfrag = Option(
        "IPV6_DONTFRAG", Flag(), "What is too large for the path is not split.", "RFC 3542", on=Kind.IPV6_DATAGRAM
    )
    flowinfo = Option(
        "IPV6_FLOWINFO",
        Flag(),
        "Each datagram comes with its flow label.",
        "ipv6(7)",
        on=Kind.IPV6_DATAGRAM,
        kernels="Linux",
    )
    flowinfo_send = Option(
        "IPV6_FLOWINFO_SEND",
        Flag(),
        "The flow label of the address is used for sending.",
        "ipv6(7)",
        on=Kind.IPV6,
        kernels="Linux",
    )
    hops = Option(
        "IPV6_UNICAST_HOPS",
        _DEFAULT_TO_255,
        "The hop limit of what is sent; -1 sets the route's default.",
        "ipv6(7); RFC 3493",
        on=Kind.IPV6,
    )
    ipv6_checksum = Option(
        "IPV6_CHECKSUM",
        Integer(_BYTES, low=-1, high=2**31 - 1),
        "Where in a raw socket's packets the kernel is to put the checksum; -1: nowhere.",
        "RFC 3542",
        on=Kind.IPV6_RAW,
    )
    ipv6_freebind = Option("IPV6_FREEBIND", Flag(), "As freebind.", "ipv6(7)", on=Kind.IPV6, kernels="Linux 4.15")
    ipv6_hdrincl = Option(
        "IPV6_HDRINCL", Flag(), "As hdrincl.", "kernel: net/ipv6/raw.c", on=Kind.IPV6_RAW, kernels="Linux 4.5"
    )
    ipv6_minhopcount = Option(
        "IPV6_MINHOPCOUNT",
        Integer("hops", low=0, high=255),
        "As minttl.",
        "RFC 5082",
        on=Kind.IPV6,
        kernels="Linux 2.6.35",
    )
    ipv6_mtu = Option(
        "IPV6_MTU",
        Integer(_BYTES, low=0, high=2**31 - 1),
        "The path's MTU, as far as it is known; setting it bounds the packets sent.",
        "ipv6(7)",
        on=Kind.IPV6_CONNECTED,
        kernels="Linux 2.2",
    )
    ipv6_mtu_discover = Option(
        "IPV6_MTU_DISCOVER", Choice(PathMtuDiscovery), "As mtu_discover.", "ipv6(7)", on=Kind.IPV6, kernels="Linux 2.2"
    )
    ipv6_multicast_all = Option(
        "IPV6_MULTICAST_ALL", Flag(), "As multicast_all.", "ip(7)", on=Kind.IPV6_DATAGRAM, kernels="Linux 4.20"
    )
    ipv6_multicast_hops = Option(
        "IPV6_MULTICAST_HOPS",
        _DEFAULT_TO_255,
        "How many hops multicast may take; -1 sets the default, 1.",
        "ipv6(7); RFC 3493",
        on=Kind.IPV6_DATAGRAM,
    )
    ipv6_multicast_if = Option(
        "IPV6_MULTICAST_IF",
        InterfaceIndex(),
        "The interface that multicast leaves by.",
        "ipv6(7)",
        on=Kind.IPV6_DATAGRAM,
    )
    ipv6_multicast_loop = Option("IPV6_MULTICAST_LOOP", Flag(), "As multicast_loop.", "ipv6(7)", on=Kind.IPV6_DATAGRAM)
    ipv6_pathmtu = Option(
        "IPV6_PATHMTU",
        Octets(32),
        "The path's MTU with the address it is for, as struct ip6_mtuinfo.",
        "RFC 3542",
        on=Kind.IPV6_CONNECTED,
        access=_READ,
    )
    ipv6_recverr = Option("IPV6_RECVERR", Flag(), "As recverr.", "ipv6(7)", on=Kind.IPV6, kernels="Linux 2.2")
    ipv6_recverr_rfc4884 = Option(
        "IPV6_RECVERR_RFC4884", Flag(), "As recverr_rfc4884.", "ip(7)", on=Kind.IPV6_DATAGRAM, kernels="Linux 5.9"
    )
    ipv6_recvfragsize = Option(
        "IPV6_RECVFRAGSIZE",
        Flag(),
        "As recvfragsize.",
        "kernel: linux/in6.h",
        on=Kind.IPV6_DATAGRAM,
        kernels="Linux 4.10",
    )
    ipv6_recvorigdstaddr = Option(
        "IPV6_RECVORIGDSTADDR", Flag(), "As recvorigdstaddr.", "ip(7)", on=Kind.IPV6_DATAGRAM, kernels="Linux 2.6.37"
    )
    ipv6_router_alert = Option(
        "IPV6_ROUTER_ALERT",
        Integer(low=-1, high=65535),
        "Packets with a router alert of this value come to this socket; -1: none.",
        "ipv6(7)",
        on=Kind.IPV6_RAW,
        access=_SET,
        kernels="Linux",
    )
    ipv6_router_alert_isolate = Option(
        "IPV6_ROUTER_ALERT_ISOLATE",
        Flag(),
        "Router alerts of other network namespaces do not come to this socket.",
        "kernel: linux/in6.h",
        on=Kind.IPV6,
        kernels="Linux 5.2",
    )
    ipv6_transparent = Option(
        "IPV6_TRANSPARENT", Flag(), "As transparent.", "ip(7)", on=Kind.IPV6, kernels="Linux 2.6.37"
    )
    ipv6_unicast_if = Option(
        "IPV6_UNICAST_IF",
        InterfaceIndex(network_order=True),
        "As unicast_if.",
        "kernel: net/ipv6/ipv6_sockglue.c",
        on=Kind.IPV6_DATAGRAM,
        kernels="Linux 3.4",
    )
    recvdstopts = Option(
        "IPV6_RECVDSTOPTS",
        Flag(),
        "Each datagram comes with its destination options.",
        "RFC 3542",
        on=Kind.IPV6_DATAGRAM,
    )
    recvhoplimit = Option(
        "IPV6_RECVHOPLIMIT", Flag(), "Each datagram comes with its hop limit.", "ipv6(7)", on=Kind.IPV6_DATAGRAM
    )
    recvhopopts = Option(
        "IPV6_RECVHOPOPTS", Flag(), "Each datagram comes with its hop-by-hop options.", "ipv6(7)", on=Kind.IPV6_DATAGRAM
    )
    recvpathmtu = Option(
        "IPV6_RECVPATHMTU",
        Flag(),
        "A change of the path's MTU is told by an empty message.",
        "RFC 3542",
        on=Kind.IPV6_DATAGRAM,
    )
    recvpktinfo = Option(
        "IPV6_RECVPKTINFO",
        Flag(),
        "Each datagram comes with the interface and the address it came to.",
        "ipv6(7)",
        on=Kind.IPV6_DATAGRAM,
    )
    recvrthdr = Option(
        "IPV6_RECVRTHDR", Flag(), "Each datagram comes with its routing header.", "ipv6(7)", on=Kind.IPV6_DATAGRAM
    )
    recvtclass = Option(
        "IPV6_RECVTCLASS", Flag(), "Each datagram comes with its traffic class.", "RFC 3542", on=Kind.IPV6_DATAGRAM
    )
    tclass = Option(
        "IPV6_TCLASS",
        _DEFAULT_TO_255,
        "Traffic class: six bits of DSCP, two of ECN; -1 sets the default, 0.",
        "RFC 3542",
        on=Kind.IPV6,
    )
    v6only = Option(
        "IPV6_V6ONLY",
        Flag(),
        "The socket is for IPv6 alone; else it reaches IPv4, too, as ::ffff:a.b.c.d. To be set before bind.",
        "ipv6(7)",
        on=Kind.IPV6,
    )

    # -- UDP: udp(7)

    udp_cork = Option(
        "UDP_CORK",
        Flag(),
        "What is sent is gathered, and leaves as one datagram when it is taken back.",
        "udp(7)",
        on=Kind.UDP,
        kernels="Linux 2.5.44",
    )
    udp_encap = Option(
        "UDP_ENCAP",
        Integer(low=0, high=2**31 - 1),
        "Which protocol stands in the datagrams, for the kernel to take out (IPsec, L2TP).",
        "kernel: linux/udp.h",
        on=Kind.UDP,
        kernels="Linux 2.5.67",
    )
    udp_gro = Option(
        "UDP_GRO",
        Flag(),
        "Datagrams of one size may be received together; a control message tells the size.",
        "udp(7)",
        on=Kind.UDP,
        kernels="Linux 5.0",
    )
    udp_no_check6_rx = Option(
        "UDP_NO_CHECK6_RX",
        Flag(),
        "UDP over IPv6 takes datagrams without a checksum.",
        "RFC 6936",
        on=Kind.UDP,
        kernels="Linux 3.16",
    )
    udp_no_check6_tx = Option(
        "UDP_NO_CHECK6_TX", Flag(), "UDP over IPv6 sends no checksums.", "RFC 6936", on=Kind.UDP, kernels="Linux 3.16"
    )
    udp_segment = Option(
        "UDP_SEGMENT",
        Integer(_BYTES, low=0, high=65535),
        "What is sent at once leaves as datagrams of this size; 0: as one.",
        "udp(7)",
        on=Kind.UDP,
        kernels="Linux 4.18",
    )

    # -- link layer and netlink: packet(7), netlink(7)

    packet_auxdata = Option(
        "PACKET_AUXDATA",
        Flag(),
        "Each packet comes with what the network card knew of it.",
        "packet(7)",
        on=Kind.PACKET,
        kernels="Linux 2.6.21",
    )
    packet_ignore_outgoing = Option(
        "PACKET_IGNORE_OUTGOING",
        Flag(),
        "What this machine sends is not captured.",
        "packet(7)",
        on=Kind.PACKET,
        kernels="Linux 4.20",
    )
    packet_origdev = Option(
        "PACKET_ORIGDEV",
        Flag(),
        "The interface told is the one below a bond or a bridge.",
        "packet(7)",
        on=Kind.PACKET,
        kernels="Linux 2.6.24",
    )
    packet_qdisc_bypass = Option(
        "PACKET_QDISC_BYPASS",
        Flag(),
        "What is sent passes by the queues of traffic control.",
        "packet(7)",
        on=Kind.PACKET,
        kernels="Linux 3.14",
    )
    packet_statistics = Option(
        "PACKET_STATISTICS",
        Record(PacketStatistics, "@II"),
        "How many packets came, and were dropped, since the last time of asking.",
        "packet(7)",
        on=Kind.PACKET,
        access=_READ,
        kernels="Linux 2.2",
    )
    netlink_broadcast_error = Option(
        "NETLINK_BROADCAST_ERROR",
        Flag(),
        "A sender learns that its broadcast did not reach this socket.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 2.6.30",
    )
    netlink_cap_ack = Option(
        "NETLINK_CAP_ACK",
        Flag(),
        "An acknowledgement does not repeat what was sent.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 4.3",
    )
    netlink_ext_ack = Option(
        "NETLINK_EXT_ACK",
        Flag(),
        "An acknowledgement comes with the reason in words.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 4.12",
    )
    netlink_get_strict_chk = Option(
        "NETLINK_GET_STRICT_CHK",
        Flag(),
        "Requests are checked strictly, and can be filtered by what stands in them.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 4.20",
    )
    netlink_listen_all_nsid = Option(
        "NETLINK_LISTEN_ALL_NSID",
        Flag(),
        "Messages of every network namespace come, that has an id in this one.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 4.2",
    )
    netlink_no_enobufs = Option(
        "NETLINK_NO_ENOBUFS",
        Flag(),
        "Messages that are lost for want of room are not told of.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 2.6.30",
    )
    netlink_pktinfo = Option(
        "NETLINK_PKTINFO",
        Flag(),
        "Each message comes with the number of its group.",
        "netlink(7)",
        on=Kind.NETLINK,
        kernels="Linux 2.6.14",
    )


#: every row, by name
OPTIONS: Final[Mapping[str, Option[Any]]] = {
    name: row for name, row in vars(SocketOptions).items() if isinstance(row, Option)
}


def find_option(name: str) -> Option[Any]:
    """The option of a name, ``"nodelay"``, or of a constant, ``"TCP_NODELAY"``. Raises ``OptionError``."""
    return find(OPTIONS, name)
