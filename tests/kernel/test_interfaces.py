"""The machine's interfaces as ``ip`` of iproute2 tells them: this machine's own, and in a network namespace of the test's
those with many addresses, peers, odd names or no hardware address."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import subprocess
import sys
import threading

import pytest

import netnet
from netnet.kernel.interfaces import Interface, InterfaceAddress, InterfaceFlags, interfaces

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell names and indexes only")

#: what ``ip`` adds to the flags of the kernel's, and what it leaves out
IP_ADDS, IP_HIDES = {"NO-CARRIER", "M-DOWN"}, {"RUNNING"}

#: kinds of links whose hardware address is one
WITH_HARDWARE = {"ether", "loopback"}


def as_ip_tells(one):
    """What ``ip -j addr`` says of an interface, as ``as_netnet_tells`` has it."""
    addresses = []
    for info in one["addr_info"]:
        if info["family"] in ("inet", "inet6"):
            own, peer, prefix = info["local"], info.get("address"), info["prefixlen"]
            alone = 32 if info["family"] == "inet" else 128  # the prefix is that of the peer, then
            addresses.append(
                [f"{own}/{alone if peer else prefix}", info.get("broadcast"), f"{peer}/{prefix}" if peer else None]
            )
    hardware = one.get("address", "") if one["link_type"] in WITH_HARDWARE else ""
    return {
        "index": one["ifindex"],
        "flags": sorted(set(one["flags"]) - IP_ADDS),
        "mtu": one["mtu"],
        "hardware": hardware,
        "addresses": addresses,
    }


def as_netnet_tells(one):
    """The same of an ``Interface``."""
    return {
        "index": one.index,
        "flags": sorted({flag.name for flag in InterfaceFlags if flag in one.flags} - IP_HIDES),
        "mtu": one.mtu,
        "hardware": one.hardware_address,
        "addresses": [
            [str(at), str(at.broadcast) if at.broadcast else None, str(at.peer) if at.peer else None]
            for at in one.addresses
        ],
    }


def ip(*args):
    return subprocess.run(["ip", *args], capture_output=True, text=True, check=True).stdout


# -- this machine


@linux
@pytest.mark.client("ip")
def test_this_machines_interfaces_are_those_that_ip_tells():
    told = {one["ifname"]: as_ip_tells(one) for one in json.loads(ip("-j", "addr"))}
    found = interfaces()
    assert {name: as_netnet_tells(one) for name, one in found.items()} == told
    assert [one.index for one in found.values()] == sorted(one.index for one in found.values())


@linux
def test_loopback_is_what_it_is():
    lo = netnet.interfaces()["lo"]
    assert (lo.name, lo.index) == ("lo", socket.if_nametoindex("lo"))
    assert InterfaceFlags.LOOPBACK | InterfaceFlags.UP in lo.flags
    assert InterfaceFlags.BROADCAST not in lo.flags
    assert lo.mtu >= 1500
    (address,) = [one for one in lo.of_family(socket.AF_INET) if str(one.ip) == "127.0.0.1"]
    assert (address.prefix_length, str(address.netmask)) == (8, "255.0.0.0")
    assert (address.broadcast, address.peer) == (None, None)
    assert str(address) == "127.0.0.1/8"
    assert all(one.ip.version == 6 for one in lo.of_family(socket.AF_INET6))
    assert lo.of_family(socket.AF_UNIX) == []


def test_names_and_indexes_are_those_that_python_has():
    found = interfaces()
    assert {name: one.index for name, one in found.items()} == {name: index for index, name in socket.if_nameindex()}
    assert all(name == one.name for name, one in found.items())


def test_the_same_in_a_task_and_in_a_thread(run):
    expected = interfaces()
    assert run(interfaces) == expected
    found = []
    thread = threading.Thread(target=lambda: found.append(interfaces()))
    thread.start()
    thread.join()
    assert found == [expected]


def test_an_interface_is_a_value():
    one, other = interfaces(), interfaces()
    assert one == other
    assert one is not other
    assert hash(next(iter(one.values()))) == hash(next(iter(other.values())))
    with pytest.raises(AttributeError):
        next(iter(one.values())).mtu = 5


# -- values made by hand

V4 = InterfaceAddress(ipaddress.IPv4Interface("192.0.2.1/24"), ipaddress.IPv4Address("192.0.2.255"))
V6 = InterfaceAddress(ipaddress.IPv6Interface("2001:db8::1/64"))


@pytest.mark.parametrize(
    ("address", "ip", "prefix", "netmask", "text"),
    [
        (V4, "192.0.2.1", 24, "255.255.255.0", "192.0.2.1/24"),
        (V6, "2001:db8::1", 64, "ffff:ffff:ffff:ffff::", "2001:db8::1/64"),
        (InterfaceAddress(ipaddress.IPv4Interface("192.0.2.1/32")), "192.0.2.1", 32, "255.255.255.255", "192.0.2.1/32"),
        (InterfaceAddress(ipaddress.IPv4Interface("192.0.2.1/0")), "192.0.2.1", 0, "0.0.0.0", "192.0.2.1/0"),
    ],
)
def test_an_address_tells_its_parts(address, ip, prefix, netmask, text):
    assert str(address.ip) == ip
    assert address.prefix_length == prefix
    assert str(address.netmask) == netmask
    assert str(address) == text


@pytest.mark.parametrize(
    ("family", "addresses"), [(socket.AF_INET, [V4]), (2, [V4]), (socket.AF_INET6, [V6]), (socket.AF_UNIX, []), (0, [])]
)
def test_addresses_of_a_family(family, addresses):
    assert Interface("x", 1, addresses=(V4, V6)).of_family(family) == addresses


def test_what_is_not_told_is_empty():
    bare = Interface("x", 1)
    assert (bare.flags, bare.mtu, bare.hardware_address, bare.addresses) == (InterfaceFlags(0), 0, "", ())


# -- a network namespace of the test's own

TELL = """
import json, netnet
from tests.kernel.test_interfaces import as_netnet_tells
print(json.dumps({name: as_netnet_tells(one) for name, one in netnet.interfaces().items()}))
"""


def told_in_a_namespace(commands, pytestconfig):
    """What netnet and what ``ip`` tell, in a new network namespace, after *commands* for ``ip``, a line each."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1) to make a network namespace with")
    for unshare in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        made = subprocess.run([*unshare, "true"], capture_output=True, text=True)
        if not made.returncode:
            break
    else:
        pytest.skip(f"no network namespace can be made: {made.stderr.strip()}")
    script = 'ip -batch - && "$0" -c "$1" && ip -j addr'
    done = subprocess.run(
        [*unshare, "sh", "-c", script, sys.executable, TELL],
        input=commands,
        capture_output=True,
        text=True,
        cwd=pytestconfig.rootpath,
    )
    if "Unknown device type" in done.stderr or "Operation not supported" in done.stderr:
        pytest.skip(f"the kernel makes no such interface: {done.stderr.strip()}")
    if done.stderr.startswith("open: Permission denied"):
        pytest.skip("this user may not open /dev/net/tun, which makes such interfaces")
    assert done.returncode == 0, done.stderr
    ours, theirs = done.stdout.splitlines()[:2]
    return json.loads(ours), {one["ifname"]: as_ip_tells(one) for one in json.loads(theirs)}


PAIR = "link add v0 type veth peer name v1\n"

NAMESPACES = {
    "nothing but loopback, down": "",
    "a pair, one end up": PAIR + "link set v0 up\n",
    "a pair, both ends up": PAIR + "link set v0 up\nlink set v1 up\n",
    "hardware address and MTU": PAIR + "link set v0 address 02:00:00:00:00:fe mtu 9000\nlink set v1 mtu 68\n",
    "flags": PAIR + "link set v0 promisc on arp off multicast off\nlink set v1 allmulticast on\n",
    "two networks": PAIR
    + "addr add 192.0.2.1/24 dev v0\naddr add 198.51.100.1/25 dev v0\naddr add 192.0.2.2/32 dev v1\n",
    "a broadcast address": PAIR
    + "addr add 192.0.2.1/24 broadcast + dev v0\naddr add 192.0.2.9/24 broadcast 192.0.2.7 dev v0\n",
    "a label": PAIR + "addr add 192.0.2.1/24 dev v0 label v0:home\n",
    "a peer": PAIR
    + "addr add 192.0.2.1 peer 192.0.2.2/30 dev v0\naddr add 2001:db8::1 peer 2001:db8::2/64 dev v0 nodad\n",
    "IPv6": PAIR
    + "addr add 2001:db8::1/64 dev v0 nodad\naddr add fd00::1/128 dev v0 nodad\naddr add 192.0.2.1/31 dev v0\n",
    "an odd name": "link add p+.-@é type veth peer name 1\naddr add 192.0.2.1/24 dev p+.-@é\n",
    "the longest name": f"link add {'x' * 15} type veth peer name v1\n",
    "a bridge with a port": PAIR + "link add br0 type bridge\nlink set v0 master br0\nlink set br0 up\n",
    "no hardware address": "tuntap add tun0 mode tun\naddr add 192.0.2.1 peer 192.0.2.2 dev tun0\n",
    "an Ethernet-like device": "tuntap add tap0 mode tap\n",
    "indexes out of order": "link add v0 index 90 type veth peer name v1\nlink add v2 index 70 type veth peer name v3\n",
}


@linux
@pytest.mark.client("ip")
@pytest.mark.parametrize("name", NAMESPACES)
def test_interfaces_of_a_namespace_are_those_that_ip_tells(name, pytestconfig):
    ours, theirs = told_in_a_namespace(NAMESPACES[name], pytestconfig)
    assert ours == theirs
    assert "lo" in ours
    if NAMESPACES[name]:
        assert len(ours) >= 2
    assert [one["index"] for one in ours.values()] == sorted(one["index"] for one in ours.values())


@linux
@pytest.mark.client("ip")
def test_more_than_one_message_of_addresses_and_interfaces(pytestconfig):
    links = "".join(f"link add a{number} type veth peer name b{number}\n" for number in range(40))
    addresses = "".join(
        f"addr add 10.{number // 250}.{number % 250}.1/24 dev a{number % 40}\n" for number in range(1500)
    )
    ours, theirs = told_in_a_namespace(links + addresses, pytestconfig)
    assert ours == theirs
    assert len(ours) == 81
    assert sum(len(one["addresses"]) for one in ours.values()) == 1500
