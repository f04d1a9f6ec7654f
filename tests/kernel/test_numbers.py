"""The tables of the kernel's numbers against the headers of this machine: the C compiler says what each name is. What
the headers do not have is counted, and is on a list of what may be newer than they are."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection
from dataclasses import fields

import pytest

from netnet.kernel import numbers
from netnet.kernel.interfaces import InterfaceFlags
from netnet.kernel.numbers import ELSEWHERE, LINUX, LINUX_GENERIC, number, numbers_of
from netnet.kernel.options import AddressPreference, BufferLocks, PathMtuDiscovery, Timestamping
from netnet.kernel.tcp_info import TcpInfo, TcpOptions, TcpState
from netnet.kernel.values import MemoryUse, TcpInfoValue

linux = pytest.mark.skipif(sys.platform != "linux", reason="the headers are Linux'")
GENERIC = not os.uname().machine.startswith(("alpha", "mips", "parisc", "sparc"))
TABLE = LINUX | LINUX_GENERIC if GENERIC else LINUX

#: each of them compiled alone: those of the kernel and those of the C library do not go together
HEADERS = [
    "asm/socket.h",
    "linux/in.h",
    "linux/in6.h",
    "linux/tcp.h",
    "linux/udp.h",
    "linux/socket.h",
    "linux/if_packet.h",
    "linux/netlink.h",
    "linux/netfilter_ipv4.h",
    "linux/netfilter_ipv6/ip6_tables.h",
    "linux/sockios.h",
    "asm/sockios.h",
    "linux/net_tstamp.h",
    "sys/socket.h",
    "sys/ioctl.h",
    "netdb.h",
    "netinet/in.h",
    "netinet/tcp.h",
    "netinet/udp.h",
]

#: what headers may lack that are older than the kernel's 6.17, or of a C library of that time
MAYBE_NEWER = {
    *("TCP_IS_MPTCP", "TCP_RTO_MAX_MS", "TCP_RTO_MIN_US", "TCP_DELACK_MAX_US"),  # 5.16, 6.15
    *("IP_LOCAL_PORT_RANGE", "IP_PROTOCOL"),  # 6.3, 6.4
    *("SO_RESERVE_MEM", "SO_TXREHASH", "SO_RCVMARK"),  # 5.16, 5.18, 5.19
    *("SO_PASSPIDFD", "SO_PEERPIDFD", "SCM_PIDFD"),  # 6.5
    *("SO_RCVPRIORITY", "SO_PASSRIGHTS", "SCM_TS_OPT_ID"),  # 6.14, 6.16, 6.13
}

#: what is in no header for programs, but only in the kernel's own
INTERNAL = {"SCM_SECURITY"}


def c_numbers(folder, name: str, wanted: Collection[str]) -> dict[str, int]:
    """Which of the *wanted* names one header has, with the numbers that the compiler makes of them; none without it."""
    source = folder / "program.c"
    include = f"#define _GNU_SOURCE\n#include <{name}>\n"
    source.write_text(include)
    ran = subprocess.run(["cc", "-E", "-dM", source], capture_output=True, text=True)
    if ran.returncode:
        return {}
    macros = set(re.findall(r"^#define (\w+) ", ran.stdout, re.MULTILINE)) & set(wanted)
    # what is no macro is one of an enumeration, if anything
    body = subprocess.run(["cc", "-E", "-P", source], capture_output=True, text=True, check=True).stdout
    has = sorted(macros | {one for one in re.findall(r"\b[A-Z]\w+\b", body) if one in wanted})
    if not has:
        return {}
    return told_by_c(folder, include, {one: one for one in has})


def told_by_c(folder, include: str, expressions: dict[str, str]) -> dict[str, int]:
    """What a C program says of some expressions."""
    source, program = folder / "program.c", folder / "program"
    lines = "".join(f'    printf("{name} %lld\\n", (long long)({code}));\n' for name, code in expressions.items())
    others = "".join(f"#include <{other}>\n" for other in ("asm/ioctls.h", "stddef.h", "stdio.h", "time.h"))
    source.write_text(f"{include}{others}int main(void) {{\n{lines}    return 0;\n}}\n")
    subprocess.run(["cc", "-w", "-o", program, source], check=True, capture_output=True, text=True)
    told = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {one: int(value) for one, value in (line.split() for line in told.splitlines())}


def needs_compiler() -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, dict[str, int]]:
    """Name → header → number."""
    needs_compiler()
    found: dict[str, dict[str, int]] = {}
    for header in HEADERS:
        for name, value in c_numbers(tmp_path_factory.mktemp("headers"), header, TABLE).items():
            found.setdefault(name, {})[header] = value
    return found


@linux
def test_each_number_is_the_one_in_the_headers(told):
    wrong = {
        name: (TABLE[name], by_header)
        for name, by_header in told.items()
        if any(value != TABLE[name] for value in by_header.values())
    }
    assert wrong == {}


@linux
def test_what_the_headers_lack_is_newer_than_they_are(told, capsys):
    lacking = sorted(set(TABLE) - set(told))
    with capsys.disabled():
        print(f"\n{len(told)} of {len(TABLE)} numbers are in the headers; not there: {', '.join(lacking) or 'none'}")
    assert set(lacking) <= MAYBE_NEWER | INTERNAL
    assert len(told) > 100


@linux
@pytest.mark.parametrize("name", sorted(TABLE))
def test_pythons_own_constants_say_the_same(name):
    assert getattr(socket, name, TABLE[name]) == TABLE[name]
    assert number(name) == TABLE[name]


@linux
def test_the_tables_do_not_overlap():
    assert set(LINUX) & set(LINUX_GENERIC) == set()
    assert [name for name in LINUX_GENERIC if not name.startswith(("SO_", "SCM_", "SIOC"))] == []


@pytest.mark.parametrize("name", ["SOL_SOCKET", "SO_REUSEADDR", "AF_INET", "IPPROTO_TCP", "TCP_NODELAY", "MSG_PEEK"])
def test_what_python_knows_is_pythons(name):
    found = number(name)
    assert found == getattr(socket, name)
    assert type(found) is int


@pytest.mark.parametrize("name", ["SO_NEVER", "", "socket", "so_reuseaddr", "SocketType", "_LOCALHOST", "gaierror"])
def test_what_nobody_knows_is_none(name):
    assert number(name) is None


@pytest.mark.parametrize("prefix", ["MSG_", "AI_", "NI_", "UDP_"])
def test_all_of_a_prefix_with_those_that_python_lacks(prefix):
    found = numbers_of(prefix)
    assert {name for name in dir(socket) if name.startswith(prefix)} <= set(found)
    assert all(name.startswith(prefix) and type(value) is int for name, value in found.items())
    assert all(number(name) == value for name, value in found.items())
    if sys.platform == "linux":
        assert {name for name in TABLE if name.startswith(prefix)} <= set(found)


def test_nothing_has_a_prefix_that_there_is_not():
    assert numbers_of("NEVER_") == {}


@pytest.mark.parametrize(
    ("platform", "machine", "table"),
    [
        ("linux", "x86_64", LINUX | LINUX_GENERIC),
        ("linux", "aarch64", LINUX | LINUX_GENERIC),
        ("linux", "riscv64", LINUX | LINUX_GENERIC),
        ("linux", "mips64", LINUX),
        ("linux", "sparc64", LINUX),
        ("darwin", "arm64", ELSEWHERE["darwin"]),
        ("freebsd14", "amd64", ELSEWHERE["freebsd"]),
        ("openbsd7", "amd64", {}),
        ("win32", "AMD64", {}),
    ],
)
def test_each_platform_has_its_own(platform, machine, table, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "", "", "", machine)))
    assert numbers._table() == table


# -- enumerations and records, whose names are netnet's own


def prefixed(names, prefix: str, **others: str) -> dict[str, str]:
    """netnet's names → the headers', which have a prefix; *others* have another name."""
    return {name: others.get(name, prefix + name) for name in names}


ENUMERATIONS = [
    (InterfaceFlags, "linux/if.h", prefixed(InterfaceFlags.__members__, "IFF_")),
    (PathMtuDiscovery, "linux/in.h", prefixed(PathMtuDiscovery.__members__, "IP_PMTUDISC_")),
    (PathMtuDiscovery, "linux/in6.h", prefixed(PathMtuDiscovery.__members__, "IPV6_PMTUDISC_")),
    (BufferLocks, "linux/socket.h", {"SEND": "SOCK_SNDBUF_LOCK", "RECEIVE": "SOCK_RCVBUF_LOCK"}),
    (Timestamping, "linux/net_tstamp.h", prefixed(Timestamping.__members__, "SOF_TIMESTAMPING_")),
    (
        AddressPreference,
        "linux/in6.h",
        prefixed(
            AddressPreference.__members__,
            "IPV6_PREFER_SRC_",
            TEMPORARY="IPV6_PREFER_SRC_TMP",
            CARE_OF="IPV6_PREFER_SRC_COA",
            DEFAULT="IPV6_PREFER_SRC_PUBTMP_DEFAULT",
        ),
    ),
    (
        TcpState,
        "netinet/tcp.h",
        prefixed(
            TcpState.__members__,
            "TCP_",
            SYN_RECEIVED="TCP_SYN_RECV",
            FIN_WAIT_1="TCP_FIN_WAIT1",
            FIN_WAIT_2="TCP_FIN_WAIT2",
            CLOSED="TCP_CLOSE",
            NEW_SYN_RECEIVED="TCP_NEW_SYN_RECV",
        ),
    ),
    (
        TcpOptions,
        "linux/tcp.h",
        prefixed(
            TcpOptions.__members__,
            "TCPI_OPT_",
            SELECTIVE_ACK="TCPI_OPT_SACK",
            WINDOW_SCALE="TCPI_OPT_WSCALE",
            USEC_TIMESTAMPS="TCPI_OPT_USEC_TS",
        ),
    ),
]

#: what headers may lack; the last is in none for programs
MEMBERS_MAYBE_NEWER = {
    *("OPT_ID_TCP", "OPT_RX_FILTER", "TX_COMPLETION", "USEC_TIMESTAMPS", "TFO_CHILD", "ECN_SEEN", "SYN_DATA"),
    "NEW_SYN_RECEIVED",
}


@linux
@pytest.mark.parametrize(
    ("members", "header", "names"), ENUMERATIONS, ids=[f"{one[0].__name__}, {one[1]}" for one in ENUMERATIONS]
)
def test_each_member_of_an_enumeration_is_as_in_the_headers(members, header, names, tmp_path):
    needs_compiler()
    told = c_numbers(tmp_path, header, names.values())
    assert {name: told[there] for name, there in names.items() if there in told} == {
        name: int(member) for name, member in members.__members__.items() if names[name] in told
    }
    assert {name for name, there in names.items() if there not in told} <= MEMBERS_MAYBE_NEWER


#: field of ``TcpInfo`` → the kernel's name, where that is more than a unit at its end
TCP_INFO_NAMES = {"rto_us": "rto", "ato_us": "ato", "rtt_us": "rtt", "rttvar_us": "rttvar", "rcv_rtt_us": "rcv_rtt"}
TCP_INFO_NAMES |= {"min_rtt_us": "min_rtt", "busy_time_us": "busy_time", "rwnd_limited_us": "rwnd_limited"}
TCP_INFO_NAMES |= {"sndbuf_limited_us": "sndbuf_limited", "total_rto_time_ms": "total_rto_time"}
TCP_INFO_NAMES |= {f"last_{what}_ms": f"last_{what}" for what in ("data_sent", "ack_sent", "data_recv", "ack_recv")}

#: fields of less than a byte
BITS = {"snd_wscale", "rcv_wscale", "delivery_rate_app_limited", "fastopen_client_fail"}


@linux
def test_each_field_of_tcp_info_is_where_the_headers_have_it(tmp_path):
    needs_compiler()
    include = "#include <linux/tcp.h>\n"
    source = tmp_path / "program.c"
    source.write_text(include)
    body = subprocess.run(["cc", "-E", "-P", source], capture_output=True, text=True, check=True).stdout
    (struct,) = re.findall(r"struct tcp_info \{(.*?)\};", body, re.DOTALL)
    there = re.findall(r"\btcpi_(\w+);", struct)
    names = {one.name: TCP_INFO_NAMES.get(one.name, one.name) for one in fields(TcpInfo) if one.name not in BITS}
    known = {name: field for name, field in names.items() if field in there}
    expressions = {name: f"offsetof(struct tcp_info, tcpi_{field})" for name, field in known.items()}
    sizes = {f"size_{name}": f"sizeof(((struct tcp_info *)0)->tcpi_{field})" for name, field in known.items()}
    told = told_by_c(tmp_path, include, expressions | sizes | {"whole": "sizeof(struct tcp_info)"})
    assert set(there) <= set(names.values())
    data = bytes(number % 251 for number in range(told["whole"]))
    info = TcpInfoValue().decode(data)
    for name in known:
        at, size = told[name], told[f"size_{name}"]
        assert getattr(info, name) == int.from_bytes(data[at : at + size], sys.byteorder), name
    newer = set(names) - set(known)
    assert newer <= {"rcv_wnd", "rehash", "total_rto", "total_rto_recoveries", "total_rto_time_ms"}
    assert all(getattr(info, name) is None for name in newer)


@linux
def test_each_field_of_the_memory_in_use_is_where_the_headers_have_it(tmp_path):
    needs_compiler()
    names = ["RMEM_ALLOC", "RCVBUF", "WMEM_ALLOC", "SNDBUF", "FWD_ALLOC", "WMEM_QUEUED", "OPTMEM", "BACKLOG", "DROPS"]
    told = c_numbers(tmp_path, "linux/sock_diag.h", [f"SK_MEMINFO_{name}" for name in names])
    assert told == {f"SK_MEMINFO_{name}": number for number, name in enumerate(names)}
    assert MemoryUse._fields == (
        *("receive_allocated", "receive_max", "send_allocated", "send_max", "forward_allocated", "send_queued"),
        *("options", "backlog", "drops"),
    )
