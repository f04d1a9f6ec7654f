"""The family echo: its cases, and every server in the smallest size, where what it needs is here. Says nothing of speed."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import struct
import sys

import pytest

from netnet.bench import peers
from netnet.bench.families import echo
from netnet.bench.figures import FULL, SMOKE
from netnet.bench.peers import Software
from netnet.bench.processes import BenchError, probing, python_server

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]

#: so that each answer is partly sent
LARGE = 102_400


def server(peer):
    """The peer's command; skips where what it needs is not here."""
    remedy = peers.lacking(echo.SERVERS[peer].needs)
    if remedy:
        pytest.skip(f"missing: {remedy}")
    return echo.SERVERS[peer].command()


def test_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cases = echo.echo(FULL)
    assert not list(tmp_path.iterdir()), "making the cases has compiled something"
    titles = [case.table.title for case in cases]
    assert len(set(titles)) == len(titles) == 12
    assert titles[:2] == ["echo, 64 bytes, 1 connection", "echo, 64 bytes, 100 connections"]
    assert titles[4::4] == ["echo, 1 KiB, 1 connection", "echo, 100 KiB, 1 connection"]
    for case in cases:
        assert case.table.subject == case.table.family == "echo"
        assert {*case.measures, *case.table.missing} == set(echo.SERVERS)
        assert list(case.table.place) == ["connections", "bytes"]
        assert any("256 KB" in note for note in case.table.notes) == (case.table.place["bytes"] == LARGE)


@pytest.mark.parametrize("message", [echo.MESSAGE, LARGE])
@pytest.mark.parametrize("peer", echo.SERVERS)
def test_server(peer, message):
    told = echo.measure(server(peer), 10, message, SMOKE)
    assert list(told) == [one.name for one in echo.QUANTITIES]
    assert told["CPU"] >= 0
    assert told["throughput"] > 0
    assert 0 < told["p50"] <= told["p99"] <= told["p99.9"]
    assert 1 < told["peak memory"] < 1000


def test_a_case_measures():
    (case,) = echo.echo(dataclasses.replace(SMOKE, echo_connections=(2,)))
    assert set(case.measures["netnet"]()) == {one.name for one in case.table.quantities}
    assert set(case.measures["C epoll"]()) == {one.name for one in case.table.quantities}


@pytest.mark.parametrize("peer", echo.SERVERS)
def test_a_server_outlives_a_reset(peer):
    with probing(server(peer)) as process:
        port = process.port()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as lost:
                lost.sendall(b"x" * LARGE)
                lost.recv(1)
                lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"there?")
            assert client.recv(6, socket.MSG_WAITALL) == b"there?"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        process.still_runs()


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setitem(peers.SOFTWARE, "go", Software("go", program="no-such-program", debian="golang-go"))
    monkeypatch.setitem(peers.SOFTWARE, "trio", Software("trio", module="no_such_module"))
    (case, *_) = echo.echo(SMOKE)
    assert case.table.missing["Go"] == "apt install golang-go"
    assert case.table.missing["trio"] == "pip install trio"
    assert not {"Go", "trio"} & set(case.measures)
    assert not any("Go" in note for note in case.table.notes)


@pytest.mark.parametrize(("tcp_bytes", "told"), [(100, True), (1e12, False)])
def test_too_little_memory_for_tcp_is_told(monkeypatch, tcp_bytes, told):
    monkeypatch.setattr(echo, "_tcp_bytes", lambda: tcp_bytes)
    (case, *_) = echo.echo(SMOKE)
    assert any("tcp_mem" in note for note in case.table.notes) == told


CLOSES = "import socket; s = socket.create_server(('127.0.0.1', 0)); print('port', s.getsockname()[1], flush=True)\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit('no loop here')", "status 1: no loop here"),
        (CLOSES + "s.accept()[0].close(); raise SystemExit('gave up')", "status 1: gave up"),
        (CLOSES + "while True: s.accept()[0].close()", r"load-\w+ echo .* ended with status 1"),
    ],
    ids=["does not start", "ends", "closes"],
)
def test_a_server_that_fails(code, told):
    with pytest.raises(BenchError, match=told):
        echo.measure([sys.executable, "-c", code], 2, echo.MESSAGE, SMOKE)


def test_what_other_families_use():
    assert echo.MESSAGE == 64
    assert echo.microseconds(python_server("echo_netnet"), 2, SMOKE) >= 0
