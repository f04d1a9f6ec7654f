"""The family growth: the configurations that are made for it are valid and decide as they should, idle connections stand
while others are measured, and what fails is told. Says nothing of speed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from netnet.bench import peers
from netnet.bench.families import growth, proxies
from netnet.bench.figures import FULL, QUICK, SMOKE
from netnet.bench.processes import BenchError, free_port
from netnet.proxy.config import parse
from netnet.proxy.passwords import verify
from netnet.socks.requests import Command

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]

LOOPBACK = bytes([127, 0, 0, 1])

COUNTS = [1, 2, 50, 3200]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("port", [1024, 32768, 65535])
def test_the_last_of_the_rules_matches(count, port):
    rules = parse(growth.rules_text(count)).settings.rules
    assert rules is not None
    assert len(rules.rules) == count
    verdict = rules.judge(
        LOOPBACK, None, Command.CONNECT, "127.0.0.9", LOOPBACK[:3] + b"\x09", port, deny_private=False
    )
    assert verdict is not None
    assert (verdict.allow, verdict.rule) == (True, f"rule {count}")


@pytest.mark.parametrize("count", COUNTS)
def test_the_last_of_the_users_may_log_in(count):
    users = parse(growth.users_text(count)).settings.users
    assert len(users) == count
    assert verify(users[growth.user(count - 1)].password, growth._PASSWORD)


@pytest.mark.client("danted")
def test_dante_has_the_rules_before_the_one_that_lets_pass():
    with growth._prepare_dante(7, proxies.HERE, free_port()) as ready:
        lines = Path(ready.command[ready.command.index("-f") + 1]).read_text().splitlines()
    rules = [line.split("{")[0].strip() for line in lines if line.startswith("socks ")]
    assert rules == ["socks block"] * 6 + ["socks pass"]


# -- the cases


def test_making_the_cases_starts_nothing(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    growth.growth(FULL)


@pytest.mark.parametrize("size", [FULL, QUICK, SMOKE], ids=lambda size: size.name)
def test_each_subject_grows_step_by_step(size):
    steps = {
        "connections": size.grown_connections,
        "rules": size.grown_rules,
        "users": size.grown_users,
        "timers": size.grown_timers,
    }
    found: dict[tuple[str, str], list[float]] = {}
    for case in growth.growth(size):
        ((things, count),) = case.table.place.items()
        found.setdefault((case.table.subject, things), []).append(count)
        assert case.table.title.startswith("growth: ")
        assert str(count) in case.table.title
    assert {things for _, things in found} == set(steps)
    for (_, things), counts in found.items():
        assert tuple(counts) == steps[things]


def test_a_million_timers_are_not_for_every_library_nor_for_every_round():
    for case in growth.growth(FULL):
        count = case.table.place.get("timers", 0)
        trio = {"trio"} & {*case.measures, *case.table.missing}
        assert bool(trio) == (0 < count <= growth.TRIO_TIMERS_MAX)
        assert (case.rounds or FULL.rounds) == (3 if count == 1_000_000 else FULL.rounds)


def test_what_is_not_here_is_named(monkeypatch):
    monkeypatch.setattr(peers, "has", lambda *modules: False)
    monkeypatch.setattr(peers.Software, "path", lambda self: None)
    missing = {peer: remedy for case in growth.growth(SMOKE) for peer, remedy in case.table.missing.items()}
    assert missing == {
        "gevent": "pip install gevent",
        "trio": "pip install trio",
        "dante": "apt install dante-server",
    }


# -- measuring

#: echoes only while so many connections stand
WANTING = """
import sys, netnet

standing = 0

def echo(conn):
    global standing
    standing += 1
    for chunk in conn:
        if standing < int(sys.argv[1]):
            raise SystemExit(f"only {standing} connections stand")
        conn.sendall(chunk)

def main():
    with netnet.listen("127.0.0.1:0") as listener:
        print("port", listener.getsockname()[1], flush=True)
        netnet.serve(listener, echo)

netnet.run(main)
"""


def wanting(connections):
    return [sys.executable, "-c", WANTING, str(connections)]


def test_idle_connections_stand_while_the_others_are_measured():
    sample = growth._echo_beside(partial(wanting, 21), 20, SMOKE)
    assert set(sample) == {"CPU"}


def test_a_server_that_fails():
    with pytest.raises(BenchError):
        growth._echo_beside(partial(wanting, 1000), 20, SMOKE)


@pytest.mark.parametrize("environment", [(), ("LOAD_USER=user0", "LOAD_PASSWORD=wrong")])
def test_a_proxy_that_does_not_let_in(environment):
    start = partial(growth._configured, growth.users_text(1))
    with pytest.raises(BenchError):
        growth._handshake(start, SMOKE, environment)
