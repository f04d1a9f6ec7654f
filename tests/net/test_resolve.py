"""Names to addresses: what is an IP address is taken as it is, without a thread; names go to the system's resolver, which
runs beside the other tasks."""

from __future__ import annotations

import socket
import threading

import pytest

import netnet
from netnet.net import resolve as resolving
from netnet.net.resolve import numeric


@pytest.mark.parametrize(
    ("host", "family", "sockaddr"),
    [
        ("127.0.0.1", socket.AF_INET, ("127.0.0.1", 80)),
        ("::1", socket.AF_INET6, ("::1", 80, 0, 0)),
        ("::ffff:1.2.3.4", socket.AF_INET6, ("::ffff:1.2.3.4", 80, 0, 0)),
    ],
)
def test_an_address_is_no_name(run, monkeypatch, host, family, sockaddr):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked"))
    assert run(netnet.resolve, host, 80) == [(family, sockaddr)]
    assert numeric(host, 80) == (family, sockaddr)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.256", "127.1", "1.2.3.4.5", "::g", "fe80::1%lo", "[::1]"])
def test_a_name_is_no_address(host):
    assert numeric(host, 80) is None


@pytest.mark.parametrize("loop", [False, True])
def test_a_name_goes_to_the_system(run, loop):
    found = run(netnet.resolve, "localhost", 80) if loop else netnet.resolve("localhost", 80)
    assert found
    assert {sockaddr[0] for _, sockaddr in found} <= {"127.0.0.1", "::1"}
    assert {sockaddr[1] for _, sockaddr in found} == {80}


def test_one_family_alone(run):
    assert {family for family, _ in run(lambda: netnet.resolve("localhost", 80, family=socket.AF_INET))} == {
        socket.AF_INET
    }


def test_an_unknown_name(run):
    with pytest.raises(socket.gaierror):
        run(netnet.resolve, "no-such-host.invalid", 80)


def test_others_run_meanwhile(run, monkeypatch):
    """The look-up ends only after another task has run."""
    go_on = threading.Event()

    def slow(*_):
        assert go_on.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(resolving.socket, "getaddrinfo", slow)

    def main():
        task = netnet.spawn(netnet.resolve, "some.name", 80)
        netnet.sleep(0)
        assert not task.done
        go_on.set()
        assert task.result() == [(socket.AF_INET, ("127.0.0.1", 80))]

    run(main)


def test_a_cancelled_look_up_is_left_alone(run, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(resolving.socket, "getaddrinfo", lambda *_: go_on.wait(10))

    def main():
        with pytest.raises(TimeoutError), netnet.timeout(0.01):
            netnet.resolve("some.name", 80)
        go_on.set()

    run(main)
