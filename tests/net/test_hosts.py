"""hosts(5) as a table, and files that are read again when they change."""

from __future__ import annotations

import os
import socket

import pytest

from netnet.net.hosts import Found, Watched, as_name, is_address, is_host_name, read_hosts, same_form

INET, INET6 = int(socket.AF_INET), int(socket.AF_INET6)
BOTH = (INET, INET6)

TEXT = """
# a comment
127.0.0.1   localhost
::1\tlocalhost ip6-localhost   # another
192.0.2.1 Db.test db other.   \r
192.0.2.2 db.test
2001:DB8:0::1 db.test
192.0.2.1 later.test
192.0.2.3
nonsense name.test
127.1 short.test
fe80::1%lo link.test
\ufffd\0
"""


@pytest.mark.parametrize(
    ("name", "families", "expected"),
    [
        ("localhost", BOTH, Found("localhost", ("127.0.0.1", "::1"))),
        ("LOCALHOST.", (INET6,), Found("localhost", ("::1",))),
        ("ip6-localhost", BOTH, Found("localhost", ("::1",))),
        ("ip6-localhost", (INET,), None),
        ("db.test", BOTH, Found("Db.test", ("192.0.2.1", "192.0.2.2", "2001:db8::1"))),
        ("db", BOTH, Found("Db.test", ("192.0.2.1",))),
        ("other", BOTH, Found("Db.test", ("192.0.2.1",))),
        ("link.test", BOTH, Found("link.test", ("fe80::1%lo",))),
        ("name.test", BOTH, None),
        ("short.test", BOTH, None),
        ("no.test", BOTH, None),
        ("", BOTH, None),
    ],
)
def test_names_of_a_hosts_file(name, families, expected):
    assert read_hosts(TEXT).find(name, families) == expected


@pytest.mark.parametrize(
    ("address", "name"),
    [("192.0.2.1", "Db.test"), ("2001:db8::1", "Db.test"), ("127.0.0.1", "localhost"), ("192.0.2.3", None)],
)
def test_addresses_of_a_hosts_file(address, name):
    table = read_hosts(TEXT.replace("2001:DB8:0::1 db.test", "2001:DB8:0::1 Db.test"))
    assert table.name_of(address) == name


def test_a_large_file_is_read():
    text = "".join(f"0.0.0.0 ad{number}.test\n" for number in range(20_000))
    assert read_hosts(text).find("ad19999.test", BOTH) == Found("ad19999.test", ("0.0.0.0",))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1", True), ("::1", True), (b"::1", True), ("fe80::1%lo", True)]
    + [(host, False) for host in ("localhost", "", "1.2.3.4.5", "::g", "a..b", "\ud800", b"\xff")],
)
def test_what_is_an_address(host, expected):
    assert is_address(host) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.test", True), ("_a._tcp.x-y.test.", True), ("1", True), ("A", True)]
    + [(name, False) for name in ("", ".", "-a", "a b", "a\n", "a/b", "é", "a..b", "a.-b", "$x")],
)
def test_what_is_the_name_of_a_host(name, expected):
    assert is_host_name(name) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("A.Test.", "a.test."), (b"A", "a"), ("Bücher.test", "xn--bcher-kva.test"), ("a" * 63, "a" * 63)],
)
def test_names_as_they_are_looked_up(host, expected):
    assert as_name(host) == expected


@pytest.mark.parametrize("address", ["", "localhost", "127.1", "::g", "1.2.3.4.5"])
def test_what_has_no_form(address):
    with pytest.raises(ValueError, match="IP address"):
        same_form(address)


# -- files


def test_a_file_is_read_again_when_it_has_changed(tmp_path):
    path = tmp_path / "file"
    watched = Watched(path, str.strip, look_seconds=0, octets_max=100)
    assert watched.value() == ""
    path.write_text("one")
    assert watched.value() == "one"
    versions = watched.version
    assert watched.value() == "one"
    assert watched.version == versions
    (tmp_path / "new").write_text("two")
    os.replace(tmp_path / "new", path)
    assert watched.value() == "two"
    path.unlink()
    assert watched.value() == ""
    path.mkdir()
    assert watched.value() == ""


def test_a_file_is_not_looked_at_all_the_time(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    watched = Watched(path, str, look_seconds=1000, octets_max=100)
    assert watched.value() == "one"
    path.write_text("other")
    assert watched.value() == "one"


def test_of_a_file_so_much_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xff" + b"x" * 1000)
    assert Watched(path, str, look_seconds=0, octets_max=5).value() == "\ufffdxxxx"
    assert Watched(None, str, look_seconds=0, octets_max=5).value() == ""
