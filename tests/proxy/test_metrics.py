"""Metrics, health and the document by HTTP: what is said, in which form, and what a client can send."""

from __future__ import annotations

import builtins
import contextlib
import json
import logging
import socket
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import netnet
from netnet.proxy import metrics
from netnet.proxy.extras import MissingExtraError
from netnet.proxy.metrics import CONNECTIONS_MAX, HEAD_BYTES_MAX, Metrics, Request, families, parse_request, troubles
from netnet.proxy.tally import Tally
from netnet.socks.session import Ending
from netnet.testing import VirtualClock, wait_all_parked
from tests.proxy.sessions import ended_session, open_session
from tests.proxy.test_status import Worker, overview_of, workers

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def tally():
    one = Tally(2, users=["alice", 'b"ob\n\\'], rules=["work"])
    yield one
    one.close()


@contextlib.contextmanager
def serving(tally, *sessions):
    """Metrics of one worker: their address, and the worker."""
    with workers(Worker(tally, *sessions)) as (worker,), netnet.listen("127.0.0.1:0") as listener:
        overview = overview_of(tally, worker)
        task = netnet.spawn(Metrics(overview).serve, listener)
        yield listener.getsockname()[:2], worker, overview
        task.cancel()
        wait_all_parked()


def exchange(address, data, *, end=False):
    """What is answered to *data*: head and body."""
    with netnet.connect(address) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
        got = b""
        while piece := client.recv(65536):
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode(), body


def get(address, path, accept=""):
    return exchange(address, f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())


def samples(text, parse=parse_text):
    """name and labels → value"""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


# -- what is said


def test_the_metrics(run, backend, tally):
    def main():
        tally.count(ended_session(user="alice", rule="work", sent=5, received=6))
        tally.count(ended_session(Ending.REFUSED))
        tally.count(ended_session(Ending.LOGIN_FAILED))
        tally.handshake(0.02)
        with serving(tally, open_session(100, 200, user="alice")) as (address, worker, _):
            worker.server.statistics.accept_errors = 3
            head, body = get(address, "/metrics")
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
            said = samples(body.decode())
        expected = {
            ("netnet_proxy_sessions_total", "closed", "connect", "socks5"): 1,
            ("netnet_proxy_sessions_total", "connect", "refused", "socks5"): 1,
            ("netnet_proxy_bytes_total", "sent"): 105,
            ("netnet_proxy_bytes_total", "received"): 206,
            ("netnet_proxy_user_bytes_total", "alice", "sent"): 105,
            ("netnet_proxy_user_bytes_total", "alice", "received"): 206,
            ("netnet_proxy_user_sessions_total", "alice"): 1,
            ("netnet_proxy_rule_sessions_total", "work"): 1,
            ("netnet_proxy_logins_total", "good"): 1,
            ("netnet_proxy_logins_total", "failed"): 1,
            ("netnet_proxy_accept_errors_total",): 3,
            ("netnet_proxy_connections",): 1,
            ("netnet_proxy_workers", "ready"): 1,
            ("netnet_proxy_workers", "silent"): 0,
            ("netnet_proxy_workers", "draining"): 0,
            ("netnet_proxy_handshake_seconds_bucket", "0.01"): 0,
            ("netnet_proxy_handshake_seconds_bucket", "0.025"): 1,
            ("netnet_proxy_handshake_seconds_bucket", "+Inf"): 1,
            ("netnet_proxy_handshake_seconds_count",): 1,
            ("netnet_proxy_handshake_seconds_sum",): 0.02,
            ("netnet_proxy_session_seconds_count",): 3,
            ("netnet_proxy_session_seconds_sum",): 4.5,
            ("netnet_proxy_banned_clients",): 0,
            ("netnet_proxy_info", netnet.__version__): 1,
        }
        assert expected.items() <= said.items()
        names = {name for name, *_ in said}
        assert {
            "netnet_proxy_process_open_fds",
            "netnet_proxy_process_max_fds",
            "netnet_proxy_process_resident_memory_bytes",
            "netnet_proxy_process_cpu_seconds_total",
            "netnet_proxy_loop_lag_seconds",
        } <= names

    run(main)


@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        ("", "text/plain; version=0.0.4", parse_text),
        ("*/*", "text/plain; version=0.0.4", parse_text),
        ("text/plain;version=1.0.0;q=0.5", "text/plain; version=1.0.0", parse_text),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0", parse_openmetrics),
        (OPENMETRICS + ",text/plain;q=0.5", "application/openmetrics-text; version=1.0.0", parse_openmetrics),
        ("application/openmetrics-text; version=x.y", "text/plain", parse_text),
        ("application/openmetrics-text; version=1.0.0; escaping=nonsense", "", None),
    ],
)
def test_the_form_is_the_one_that_is_asked_for(run, tally, accept, kind, parse):
    def main():
        tally.count(ended_session(user='b"ob\n\\', sent=7))
        with serving(tally) as (address, _, _):
            head, body = get(address, "/metrics", accept)
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert f"Content-Type: {kind}" in head
            if parse is not None:
                said = samples(body.decode(), parse)
                assert said["netnet_proxy_user_bytes_total", 'b"ob\n\\', "sent"] == 7

    run(main)


def test_names_and_meanings_follow_the_conventions(run, tally):
    def main():
        with workers(Worker(tally)) as (worker,):
            overview = overview_of(tally, worker)
            told = overview.status()
            found = list(families(told, overview.totals))
            assert len({one.name for one in found}) == len(found)
            for one in found:
                assert one.name.startswith("netnet_proxy_")
                assert not one.name.endswith(("_total", "_count", "_sum", "_ms", "_kb"))
                assert one.documentation.endswith(".")

    run(main)


def test_the_document(run, tally):
    def main():
        with serving(tally, open_session(1, 2)) as (address, _, _):
            head, body = get(address, "/status.json?pretty")
            assert "Content-Type: application/json" in head
            assert json.loads(body)["connections"] == 1

    run(main)


def test_health(run, tally):
    def main():
        with serving(tally) as (address, worker, overview):
            assert get(address, "/healthz")[1] == b"ok\n"
            overview.draining, overview._status = True, None
            head, body = get(address, "/healthz")
            assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
            assert body == b"it was told to stop, and takes no more connections\n"
            overview.draining, overview._status = False, None
            overview.remove(worker.link)
            assert get(address, "/healthz")[1] == b"none of 0 workers answers\n"

    run(main)


def worker_row(silent=0.0, draining=False, used=10, most=100):
    return {
        "silent_seconds": silent,
        "draining": draining,
        "process": {"pid": 1, "cpu_seconds": 0, "rss_bytes": 1, "descriptors": used, "descriptors_max": most},
    }


HEALTH = [
    (False, [worker_row()], []),
    (False, [worker_row(silent=2.0), worker_row()], []),
    (False, [worker_row(used=99), worker_row()], []),
    (False, [worker_row(used=-1, most=-1)], []),
    (False, [worker_row(silent=2.0)], ["none of 1 workers answers"]),
    (False, [worker_row(draining=True)], ["none of 1 workers answers"]),
    (False, [worker_row(used=98)], ["all workers are about to run out of descriptors"]),
    (True, [worker_row()], ["it was told to stop, and takes no more connections"]),
]


@pytest.mark.parametrize(("draining", "rows", "expected"), HEALTH)
def test_troubles(draining, rows, expected):
    assert troubles({"draining": draining, "workers": rows}) == expected


def test_without_the_package(monkeypatch, tally):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("prometheus_client"):
            raise ImportError("no such thing")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'netnet\[proxy\]'"):
        Metrics(overview_of(tally))


# -- what a client can send

REQUESTS = [
    (b"GET / HTTP/1.1\r\n\r\n", "200 OK"),
    (b"GET / HTTP/1.0\r\n\r\n", "200 OK"),
    (b"GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
    (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "405 Method Not Allowed"),
    (b"DELETE /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    (b"get / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
    (b"GET / HTTP/2.0\r\n\r\n", "400 Bad Request"),
    (b"GET http://x/ HTTP/1.1\r\n\r\n", "400 Bad Request"),
    (b"GET  / HTTP/1.1\r\n\r\n", "400 Bad Request"),
    (b"GET /\r\n\r\n", "400 Bad Request"),
    (b"GET / HTTP/1.1\r\nno header\r\n\r\n", "400 Bad Request"),
    (b"\r\n\r\n", "400 Bad Request"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400 Bad Request"),
    (b"\xff" * 100 + b"\r\n\r\n", "400 Bad Request"),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", "431 Request Header Fields Too Large"),
    (b"x" * 200_000, "431 Request Header Fields Too Large"),
]


@pytest.mark.parametrize(("sent", "answered"), REQUESTS)
def test_requests(run, tally, sent, answered):
    def main():
        with serving(tally) as (address, _, _):
            head, body = exchange(address, sent)
            assert head.startswith(f"HTTP/1.1 {answered}\r\n")
            assert f"Content-Length: {len(body)}\r\n" in head
            assert ("Allow: GET, HEAD\r\n" in head) is answered.startswith("405")
            assert get(address, "/healthz")[1] == b"ok\n", "and it goes on"

    run(main)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"\x05\x01\x00"])
def test_a_client_that_leaves_in_the_middle(run, tally, sent):
    def main():
        with serving(tally) as (address, _, _):
            head, _ = exchange(address, sent, end=True)
            assert head.startswith("HTTP/1.1 400")
            with netnet.connect(address) as client:  # and one that breaks off
                client.sendall(sent or b"x")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert get(address, "/healthz")[1] == b"ok\n"

    run(main)


def test_head(run, tally):
    def main():
        with serving(tally) as (address, _, _):
            head, body = exchange(address, b"HEAD /healthz HTTP/1.1\r\n\r\n")
            assert "Content-Length: 3" in head
            assert body == b""

    run(main)


def test_byte_by_byte(run, tally):
    def main():
        with serving(tally) as (address, _, _), netnet.connect(address) as client:
            for byte in b"GET /healthz HTTP/1.1\r\nAccept: */*\r\n\r\n":
                client.sendall(bytes([byte]))
                wait_all_parked()
            assert client.recv(1000).endswith(b"\r\n\r\nok\n")

    run(main)


def test_slow_clients_are_sent_away_and_others_wait_for_a_place(run, tally):
    def main():
        with serving(tally) as (address, _, _), contextlib.ExitStack() as stack:
            slow = [stack.enter_context(netnet.connect(address)) for _ in range(CONNECTIONS_MAX)]
            wait_all_parked()
            assert get(address, "/")[0].startswith("HTTP/1.1 200")
            for one in slow:
                assert one.recv(1000).startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    run(main, clock=VirtualClock())


def test_a_bug_costs_one_answer(run, tally, monkeypatch, caplog):
    def main():
        def broken(status, totals):
            raise RuntimeError("a bug")

        monkeypatch.setattr(metrics, "families", broken)
        with serving(tally) as (address, _, _):
            assert get(address, "/metrics")[0].startswith("HTTP/1.1 500 ")
            assert get(address, "/healthz")[1] == b"ok\n"

    with caplog.at_level(logging.ERROR, "netnet.proxy"):
        run(main)
    assert "/metrics could not be made" in caplog.text


@pytest.mark.client("curl")
def test_curl(run, tally):
    def main():
        with serving(tally) as ((host, port), _, _):
            command = ["curl", "-sSi", "--noproxy", "*", "--max-time", "10", f"http://{host}:{port}/healthz"]
            done = netnet.to_thread(lambda: subprocess.run(command, capture_output=True, text=True, timeout=20))
            assert done.stdout.endswith("\n\nok\n"), done.stderr

    run(main)


@given(st.binary(max_size=300))
def test_any_head_is_a_request_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        assert isinstance(parse_request(data), Request)


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=100))
def test_any_accept_header_gets_metrics(accept):
    body, kind = metrics._exposition()([], accept)
    assert isinstance(body, bytes)
    assert kind.isprintable()
