"""The kernel's numbers that Python's ``socket`` module lacks, per platform, as the kernel's headers have them.

``number`` asks the ``socket`` module first: what it knows was compiled against the headers of this very platform. The
tables below fill the gaps; ``tests/kernel/test_numbers.py`` compiles a program against the installed headers and
compares. Sources: Linux ``include/uapi`` (``asm-generic/socket.h``, ``linux/in.h``, ``in6.h``, ``tcp.h``, ``udp.h``,
``socket.h``, ``if_packet.h``, ``netlink.h``), ``sys/socket.h`` and ``netinet/tcp.h`` of the others.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

#: the same on every Linux, whatever the processor
LINUX: Final = {
    "SOL_IP": 0,
    "SOL_IPV6": 41,
    "SOL_UDP": 17,
    "SOL_PACKET": 263,
    "SOL_NETLINK": 270,
    "TCP_THIN_LINEAR_TIMEOUTS": 16,
    "TCP_REPAIR": 19,
    "TCP_TIMESTAMP": 24,
    "TCP_NOTSENT_LOWAT": 25,
    "TCP_CC_INFO": 26,
    "TCP_SAVE_SYN": 27,
    "TCP_SAVED_SYN": 28,
    "TCP_FASTOPEN_CONNECT": 30,
    "TCP_ULP": 31,
    "TCP_FASTOPEN_KEY": 33,
    "TCP_FASTOPEN_NO_COOKIE": 34,
    "TCP_INQ": 36,
    "TCP_TX_DELAY": 37,
    "TCP_IS_MPTCP": 43,
    "TCP_RTO_MAX_MS": 44,
    "TCP_RTO_MIN_US": 45,
    "TCP_DELACK_MAX_US": 46,
    "IP_ROUTER_ALERT": 5,
    "IP_PKTINFO": 8,
    "IP_MTU_DISCOVER": 10,
    "IP_RECVERR": 11,
    "IP_RECVTTL": 12,
    "IP_RECVTOS": 13,
    "IP_MTU": 14,
    "IP_FREEBIND": 15,
    "IP_PASSSEC": 18,
    "IP_ORIGDSTADDR": 20,
    "IP_RECVORIGDSTADDR": 20,
    "IP_MINTTL": 21,
    "IP_NODEFRAG": 22,
    "IP_CHECKSUM": 23,
    "IP_BIND_ADDRESS_NO_PORT": 24,
    "IP_RECVFRAGSIZE": 25,
    "IP_RECVERR_RFC4884": 26,
    "MCAST_JOIN_GROUP": 42,
    "MCAST_BLOCK_SOURCE": 43,
    "MCAST_UNBLOCK_SOURCE": 44,
    "MCAST_LEAVE_GROUP": 45,
    "MCAST_JOIN_SOURCE_GROUP": 46,
    "MCAST_LEAVE_SOURCE_GROUP": 47,
    "IP_MULTICAST_ALL": 49,
    "IP_UNICAST_IF": 50,
    "IP_LOCAL_PORT_RANGE": 51,
    "IP_PROTOCOL": 52,
    "SO_ORIGINAL_DST": 80,
    "IP6T_SO_ORIGINAL_DST": 80,
    "IPV6_ADDRFORM": 1,
    "IPV6_FLOWINFO": 11,
    "IPV6_ROUTER_ALERT": 22,
    "IPV6_MTU_DISCOVER": 23,
    "IPV6_MTU": 24,
    "IPV6_RECVERR": 25,
    "IPV6_MULTICAST_ALL": 29,
    "IPV6_ROUTER_ALERT_ISOLATE": 30,
    "IPV6_RECVERR_RFC4884": 31,
    "IPV6_FLOWINFO_SEND": 33,
    "IPV6_HDRINCL": 36,
    "IPV6_RECVPATHMTU": 60,
    "IPV6_PATHMTU": 61,
    "IPV6_DONTFRAG": 62,
    "IPV6_AUTOFLOWLABEL": 70,
    "IPV6_ADDR_PREFERENCES": 72,
    "IPV6_MINHOPCOUNT": 73,
    "IPV6_ORIGDSTADDR": 74,
    "IPV6_RECVORIGDSTADDR": 74,
    "IPV6_TRANSPARENT": 75,
    "IPV6_UNICAST_IF": 76,
    "IPV6_RECVFRAGSIZE": 77,
    "IPV6_FREEBIND": 78,
    "UDP_CORK": 1,
    "UDP_ENCAP": 100,
    "UDP_NO_CHECK6_TX": 101,
    "UDP_NO_CHECK6_RX": 102,
    "UDP_SEGMENT": 103,
    "UDP_GRO": 104,
    "PACKET_STATISTICS": 6,
    "PACKET_AUXDATA": 8,
    "PACKET_ORIGDEV": 9,
    "PACKET_QDISC_BYPASS": 20,
    "PACKET_IGNORE_OUTGOING": 23,
    "NETLINK_PKTINFO": 3,
    "NETLINK_BROADCAST_ERROR": 4,
    "NETLINK_NO_ENOBUFS": 5,
    "NETLINK_LISTEN_ALL_NSID": 8,
    "NETLINK_CAP_ACK": 10,
    "NETLINK_EXT_ACK": 11,
    "NETLINK_GET_STRICT_CHK": 12,
    "MSG_CONFIRM": 0x800,
    "MSG_PROXY": 0x10,
    "MSG_ZEROCOPY": 0x4000000,
    "MSG_FASTOPEN": 0x20000000,
    "MSG_CMSG_CLOEXEC": 0x40000000,
    "AI_IDN": 0x40,
    "AI_CANONIDN": 0x80,
    "NI_IDN": 32,
    "SCM_SECURITY": 3,
    "SCM_PIDFD": 4,
}

#: of level ``SOL_SOCKET``, where the processor's kernel follows ``asm-generic`` (all but alpha, mips, parisc, sparc)
LINUX_GENERIC: Final = {
    "SO_NO_CHECK": 11,
    "SO_TIMESTAMP": 29,
    "SO_SNDBUFFORCE": 32,
    "SO_RCVBUFFORCE": 33,
    "SO_TIMESTAMPNS": 35,
    "SO_TIMESTAMPING": 37,
    "SO_PROTOCOL": 38,
    "SO_DOMAIN": 39,
    "SO_RXQ_OVFL": 40,
    "SO_WIFI_STATUS": 41,
    "SO_PEEK_OFF": 42,
    "SO_NOFCS": 43,
    "SO_LOCK_FILTER": 44,
    "SO_SELECT_ERR_QUEUE": 45,
    "SO_BUSY_POLL": 46,
    "SO_MAX_PACING_RATE": 47,
    "SO_BPF_EXTENSIONS": 48,
    "SO_INCOMING_CPU": 49,
    "SO_CNX_ADVICE": 53,
    "SO_MEMINFO": 55,
    "SO_INCOMING_NAPI_ID": 56,
    "SO_COOKIE": 57,
    "SO_PEERGROUPS": 59,
    "SO_ZEROCOPY": 60,
    "SO_TXTIME": 61,
    "SO_BINDTOIFINDEX": 62,
    "SO_TIMESTAMP_NEW": 63,
    "SO_TIMESTAMPNS_NEW": 64,
    "SO_TIMESTAMPING_NEW": 65,
    "SO_PREFER_BUSY_POLL": 69,
    "SO_BUSY_POLL_BUDGET": 70,
    "SO_NETNS_COOKIE": 71,
    "SO_BUF_LOCK": 72,
    "SO_RESERVE_MEM": 73,
    "SO_TXREHASH": 74,
    "SO_RCVMARK": 75,
    "SO_PASSPIDFD": 76,
    "SO_PEERPIDFD": 77,
    "SO_RCVPRIORITY": 82,
    "SO_PASSRIGHTS": 83,
    "SIOCATMARK": 0x8905,
    "SIOCOUTQNSD": 0x894B,
}

#: what other kernels call by another name or number
ELSEWHERE: Final = {
    "darwin": {"TCP_CORK": 4, "TCP_KEEPIDLE": 0x10, "SO_TIMESTAMP": 0x400},  # TCP_NOPUSH, TCP_KEEPALIVE
    "freebsd": {"TCP_CORK": 4, "SO_TIMESTAMP": 0x400},  # TCP_NOPUSH
}


def _table() -> dict[str, int]:
    platform: str = sys.platform
    if platform == "linux":
        odd = os.uname().machine.startswith(("alpha", "mips", "parisc", "sparc"))
        return LINUX if odd else LINUX | LINUX_GENERIC
    return next((table for name, table in ELSEWHERE.items() if platform.startswith(name)), {})


_TABLE: Final = _table()


def number(name: str) -> int | None:
    """The number of a constant of the C headers, as in ``"SO_ZEROCOPY"``; ``None`` where this platform has none."""
    known = getattr(socket, name, None)
    return int(known) if isinstance(known, int) else _TABLE.get(name)


def numbers_of(prefix: str) -> dict[str, int]:
    """Every constant that begins with *prefix*, by its full name."""
    found = {name: value for name, value in _TABLE.items() if name.startswith(prefix)}
    found |= {name: int(value) for name, value in vars(socket).items() if name.startswith(prefix)}
    return found
