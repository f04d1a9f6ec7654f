"""The family "scale": where workers and load run, that all processes of a server count, and what goes wrong is told."""

from __future__ import annotations

import shutil
import sys

import pytest

from netnet.bench.families import scale
from netnet.bench.figures import SMOKE
from netnet.bench.processes import BenchError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]


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
    assert scale.places() == expected


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
    monkeypatch.setattr(scale, "python_server", lambda name, count: [sys.executable, "-c", source, str(count)])


@pytest.mark.parametrize("count", [1, 3])
def test_all_processes_of_a_server_are_measured(monkeypatch, count):
    server(monkeypatch, FORKING)
    trips = scale.measure(count, SMOKE)
    assert len(trips.used_seconds) == count
    assert trips.count > 0
    assert trips.a_second == pytest.approx(trips.count / SMOKE.seconds)


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
        scale.measure(1, SMOKE)


def test_capacity_counts_each_worker_a_processor_of_its_own():
    alone, shared = scale.Trips(900.0, 1000, [0.01]), scale.Trips(1000.0, 1000, [0.0, 0.004, 0.006])
    assert shared.capacity(2) / alone.capacity(1) == pytest.approx(2)
    assert shared.busiest_percent == pytest.approx(60)


@pytest.mark.parametrize(("processors", "judged"), [({0, 1}, 1), ({0, 1, 2, 3}, 2)])
def test_throughput_is_judged_where_the_load_has_processors_of_its_own(monkeypatch, processors, judged):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: processors)
    for case in scale.scale(SMOKE):
        assert len(list(case.table.judged_figures())) == judged
        assert list(case.measures) == ["1 worker", "2 workers"]
