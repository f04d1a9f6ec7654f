"""The bench in its smallest size: each family runs with the peers that are here and gives a figure for each. Says
nothing of speed. Peers from PyPI that the tests do not install count as missing, and are named so."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys

import pytest

from netnet.bench import report
from netnet.bench.families import FAMILIES, echo, inside, proxies, proxy, start, tasks, workers
from netnet.bench.figures import SMOKE, Figures
from netnet.bench.processes import BenchError
from netnet.bench.targets import measured

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]


def quiet(what):
    """Where nobody wants to know how far it is."""


#: families that compare with microsocks → what they promise, and against whom. Their tables have the full size's names
PROXIES = {
    "handshake": {("SOCKS5 handshakes, 50 at a time", "microsocks"), ("SOCKS5 handshakes, 50 at a time", "pproxy")},
    "proxybulk": {("bulk data through the proxy, one way, one stream", "C splice")},
    "latency": {
        (f"delay added to a 64-byte round trip{busy}, {percentile}", "microsocks")
        for busy in ("", ", 100 others busy")
        for percentile in ("p50", "p99")
    },
    "idle": set(),
    "proxystart": {("start of the proxy, to the first connection", None)},
}
WORKERS = ("workers", "proxyworkers")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in (*PROXIES, *WORKERS)])
def test_family(name):
    check(FAMILIES[name](SMOKE, quiet))


@pytest.mark.parametrize("name", WORKERS)
def test_family_of_workers(name):
    check(FAMILIES[name](SMOKE, quiet))


def check(tables):
    """Sees that a family's tables are whole."""
    assert len({figures.title for figures in tables}) == len(tables) > 0
    for figures in tables:
        assert figures.samples[figures.ours]
        assert (figures.base in figures.samples) != (figures.base in figures.missing)
        assert len({len(samples) for samples in figures.samples.values()}) == 1
        assert all(math.isfinite(sample) for samples in figures.samples.values() for sample in samples)
        assert report.table(figures)


@pytest.mark.client("microsocks")
@pytest.mark.parametrize("name", PROXIES)
def test_family_against_microsocks(name):
    size = dataclasses.replace(SMOKE, at_once=50, busy_connections=100)
    tables = FAMILIES[name](size, quiet)
    check(tables)
    for figures in tables:
        assert {"netnet", "microsocks"} <= set(figures.samples)
        assert not any("failed" in note for note in figures.notes)
        if name == "handshake":
            rows = {proxies.SOCKS4, proxies.PLAIN, proxies.PPROXY, proxies.PPROXY_UVLOOP}
            assert rows <= {*figures.samples, *figures.missing}
    promised = {(target.table, target.peer) for target, _ in measured(tables)}
    missing = {peer for figures in tables for peer in figures.missing}
    assert promised == {(table, peer) for table, peer in PROXIES[name] if peer not in missing}


def test_nothing_is_lost():
    (figures,) = proxy.hold(SMOKE, quiet)
    assert figures.samples["netnet"] == [0]


def test_every_sleeper_wakes_and_takes_memory():
    memory, lost = tasks._sleepers(SMOKE, quiet)
    assert all(samples == [0] for samples in lost.samples.values())
    assert memory.samples["netnet"][0] > 0


# -- peers that are not here


def test_missing_servers_are_named(monkeypatch):
    monkeypatch.setattr(echo, "has", lambda *modules: False)
    figures = Figures("t", "u")
    assert set(echo.peers(figures)) == {"C epoll", "netnet", "asyncio streams"}
    assert "pip install gevent" in figures.missing.values()
    assert "missing: pip install gevent" in report.table(figures)


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setattr(inside, "has", lambda *modules: False)
    figures = Figures("two tasks that take turns", "u", base="gevent")
    works = {library: inside.Work(library, "turns", 100) for library in ("gevent", "netnet")}
    inside.take_turns(figures, works, SMOKE, quiet)
    assert set(figures.samples) == {"netnet"}
    assert figures.missing == {"gevent": "pip install gevent"}
    assert "missing: pip install gevent" in report.table(figures)


def test_missing_imports_are_named(monkeypatch):
    monkeypatch.setattr(start, "has", lambda *modules: False)
    (figures,) = start.importing(SMOKE, quiet)
    assert set(figures.samples) == {"python alone", "netnet", "asyncio"}
    assert figures.missing == {"gevent": "pip install gevent"}


def test_import_brings_greenlet_and_nothing_else():
    assert start._brought_along().endswith("outside the standard library: greenlet, netnet")


# -- workers


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ({5}, ({5}, {5})),
        ({0, 1}, ({0, 1}, {0, 1})),
        ({0, 1, 2}, ({0, 1, 2}, {0, 1, 2})),
        ({3, 2, 1, 7, 9}, ({1, 2}, {3, 7})),
    ],
)
def test_where_workers_and_load_run(monkeypatch, allowed, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: allowed)
    assert workers.places() == expected


FORKING = """
import os, sys, netnet

def echo(conn):
    for chunk in conn:
        conn.sendall(chunk)

listener = netnet.listen("127.0.0.1:0")
print("port", listener.getsockname()[1], flush=True)
for _ in range(int(sys.argv[1]) - 1):
    if not os.fork():
        break
netnet.run(netnet.serve, listener, echo)
"""


def server(monkeypatch, source):
    """Lets the family start *source* in place of its server."""
    monkeypatch.setattr(workers, "python_server", lambda name, count: [sys.executable, "-c", source, str(count)])


@pytest.mark.parametrize("count", [1, 3])
def test_all_processes_of_a_server_are_measured(monkeypatch, count):
    server(monkeypatch, FORKING)
    trips = workers.measure(count, SMOKE.connections, SMOKE)
    assert len(trips.used_seconds) == count
    assert trips.count > 0
    assert trips.a_second == pytest.approx(trips.count / SMOKE.seconds)


def test_the_tables_of_workers_say_which_of_them_counts(monkeypatch):
    server(monkeypatch, FORKING)
    throughput, capacity = workers.workers(SMOKE, quiet)
    assert [set(figures.samples) for figures in (throughput, capacity)] == [{"1 worker", "2 workers"}] * 2
    assert sum("the table to judge workers by" in note for note in throughput.notes + capacity.notes) == 1
    assert capacity.notes[0].startswith("share of the busiest process of 2 workers")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import sys; sys.exit('this serve takes no workers')", "ended with status 1: this serve takes no workers"),
        (FORKING.replace("netnet.run(", "sys.exit('and no more') if len(sys.argv) else netnet.run("), "and no more"),
    ],
)
def test_a_server_that_fails(monkeypatch, source, told):
    server(monkeypatch, source)
    with pytest.raises(BenchError, match=told):
        workers.measure(1, SMOKE.connections, SMOKE)


def test_capacity_counts_each_worker_a_processor_of_its_own():
    alone, shared = workers.Trips(900.0, 1000, [0.01]), workers.Trips(1000.0, 1000, [0.0, 0.004, 0.006])
    assert shared.capacity(2) / alone.capacity(1) == pytest.approx(2)
    assert shared.busiest_percent == pytest.approx(60)
