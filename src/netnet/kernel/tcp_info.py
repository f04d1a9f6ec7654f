"""``TCP_INFO``: what the kernel knows of a TCP connection, as a record with names and units.

The kernel's ``struct tcp_info`` has grown with time, always at its end; an older kernel tells fewer fields, which are
``None`` then. See tcp(7) and ``linux/tcp.h``.
"""

from __future__ import annotations

import bisect
import enum
import itertools
import re
import struct
from dataclasses import dataclass, fields


class TcpState(enum.IntEnum):
    """The states of a TCP connection, RFC 9293 section 3.3.2, with the kernel's numbers."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECEIVED = 12


class TcpOptions(enum.IntFlag):
    """What the two ends have agreed on. See ``TCPI_OPT_*`` in ``linux/tcp.h``."""

    TIMESTAMPS = 1
    SELECTIVE_ACK = 2
    WINDOW_SCALE = 4
    ECN = 8
    ECN_SEEN = 16
    SYN_DATA = 32
    USEC_TIMESTAMPS = 64
    TFO_CHILD = 128


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What the kernel knows of a TCP connection. Units stand in the names: microseconds (``_us``), milliseconds.

    ``rtt_us`` is the smoothed round-trip time and ``rttvar_us`` its variation; ``unacked``, ``sacked``, ``lost`` and
    ``retrans`` count segments under way; ``snd_cwnd`` and ``snd_ssthresh`` are segments, too. What this kernel does not
    tell is ``None``. See tcp(7).
    """

    state: TcpState
    ca_state: int
    retransmits: int
    probes: int
    backoff: int
    options: TcpOptions
    snd_wscale: int
    rcv_wscale: int
    delivery_rate_app_limited: bool
    fastopen_client_fail: int
    rto_us: int
    ato_us: int
    snd_mss: int
    rcv_mss: int
    unacked: int
    sacked: int
    lost: int
    retrans: int
    fackets: int
    last_data_sent_ms: int
    last_ack_sent_ms: int
    last_data_recv_ms: int
    last_ack_recv_ms: int
    pmtu: int
    rcv_ssthresh: int
    rtt_us: int
    rttvar_us: int
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    reordering: int
    rcv_rtt_us: int
    rcv_space: int
    total_retrans: int
    pacing_rate: int | None = None
    max_pacing_rate: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    segs_out: int | None = None
    segs_in: int | None = None
    notsent_bytes: int | None = None
    min_rtt_us: int | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: int | None = None
    busy_time_us: int | None = None
    rwnd_limited_us: int | None = None
    sndbuf_limited_us: int | None = None
    delivered: int | None = None
    delivered_ce: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    dsack_dups: int | None = None
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None
    rcv_wnd: int | None = None
    rehash: int | None = None
    total_rto: int | None = None
    total_rto_recoveries: int | None = None
    total_rto_time_ms: int | None = None


_HEAD = struct.Struct("@8B")
#: the numbers behind the eight bytes in front, as the kernel lays them out
_LAYOUT = "24I4Q6I4Q2I2Q6I2HI"
_NUMBERS = struct.Struct(f"={_LAYOUT}")
#: where each of them ends
_LETTERS = "".join(letter * int(count or 1) for count, letter in re.findall(r"(\d*)(\D)", _LAYOUT))
_ENDS = list(itertools.accumulate(struct.calcsize(f"={letter}") for letter in _LETTERS))
#: how many of them every kernel tells
_OLDEST = 24
assert len(_ENDS) == len(fields(TcpInfo)) - 10


def decode(data: bytes) -> TcpInfo:
    """The record out of the kernel's bytes, whatever length they have."""
    state, ca_state, retransmits, probes, backoff, options, scales, limits = _HEAD.unpack_from(data)
    try:
        state = TcpState(state)
    except ValueError:
        pass  # of a kernel to come
    told = max(bisect.bisect_right(_ENDS, len(data) - _HEAD.size), _OLDEST)
    numbers = _NUMBERS.unpack(data[_HEAD.size :][: _NUMBERS.size].ljust(_NUMBERS.size, b"\0"))[:told]
    return TcpInfo(
        state,
        ca_state,
        retransmits,
        probes,
        backoff,
        TcpOptions(options),
        scales & 15,
        scales >> 4,
        bool(limits & 1),
        limits >> 1 & 3,
        *numbers,
    )
