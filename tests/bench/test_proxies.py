"""The proxies that are compared: how ours is configured, what is told of those that are not here, and what goes wrong."""

from __future__ import annotations

import shutil
import sys

import pytest

from netnet.bench.families import latency, proxies, proxy
from netnet.bench.figures import SMOKE, Figures
from netnet.bench.native import program
from netnet.bench.processes import BenchError, Process, load
from netnet.proxy import config
from netnet.socks.requests import Command

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]


# -- ours


def test_the_configuration_has_all_on(tmp_path):
    file = shutil.copy(proxies.CONFIGURATION, tmp_path)
    tmp_path.joinpath(file).chmod(0o600)
    configuration = config.load(file)
    assert configuration.warnings == ()
    assert configuration.log_connections
    assert configuration.metrics is not None
    settings = configuration.settings
    assert len(settings.users) == 3
    assert len(settings.rules.rules) == 20
    assert settings.limits.connections_per_client is not None
    assert settings.limits.new_connections_per_second_per_client is not None


@pytest.mark.parametrize(("last", "rule"), [(1, "connections from here"), (200, "connections from here")])
def test_the_last_rule_lets_the_load_through(last, rule):
    rules = config.parse(proxies.CONFIGURATION.read_text()).settings.rules
    local = bytes([127, 0, 0, last])
    verdict = rules.judge(local, None, Command.CONNECT, f"127.0.0.{last}", local, 40000, deny_private=False)
    assert (verdict.allow, verdict.rule) == (True, rule)
    assert rules.rules[-1].name == rule


def test_the_address_is_put_in():
    with proxies.service("127.0.0.1:4711", 3) as command:
        file = command[command.index("--config") + 1]
        assert str(config.load(file).listeners[0].address) == "127.0.0.1:4711"
        assert command[command.index("--workers") + 1] == "3"
        assert config.load(file).warnings == ()


def test_metrics_are_not_left_out(monkeypatch):
    monkeypatch.setattr(proxies, "has", lambda *modules: False)
    with pytest.raises(BenchError, match=r"pip install 'netnet\[proxy\]'"), proxies.service():
        pass


# -- the others


def test_proxies_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(proxies, "has", lambda *modules: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    tables = Figures("t", "u"), Figures("t2", "u")
    names = (proxies.MICROSOCKS, proxies.OURS, proxies.PPROXY, proxies.PPROXY_UVLOOP)
    assert set(proxies.peers(tables, *names)) == {proxies.OURS}
    for figures in tables:
        assert figures.missing == {
            "microsocks": "apt install microsocks",
            "pproxy": "pip install pproxy",
            "pproxy, uvloop": "pip install pproxy uvloop",
        }
        assert len(figures.notes) == 1


def test_a_start_without_microsocks(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    (figures,) = proxy.start(SMOKE, lambda what: None)
    assert set(figures.samples) == {"python alone", "netnet", "netnet, answers"}
    assert figures.missing == {"microsocks": "apt install microsocks"}
    for listens, answers in zip(figures.samples["netnet"], figures.samples["netnet, answers"], strict=True):
        assert 0 < listens <= answers


SERVER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            {}
"""


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("connection.sendall(bytes([5, 255])) if connection.recv(9) else None", "does not answer as a SOCKS5 proxy"),
        ("sys.exit('no') if connection.recv(9) else None", "ended with status 1|does not answer"),
    ],
)
def test_a_proxy_that_does_not_answer(does, told):
    port = proxies.free_port()
    with pytest.raises(BenchError, match=told):
        proxy._start([sys.executable, "-c", SERVER.format(does), str(port)], port)


# -- the load generator


@pytest.fixture
def echo_port():
    with proxy.echo_target() as port:
        yield port


def test_delays_of_two_connections(echo_port):
    with load("delay", 0, echo_port, echo_port, 64, 0.05, 0.2) as client:
        assert client.line() == ["start"]
        words = client.line()
        client.finish()
    assert (words[0], words[2], words[5]) == ("ops", "direct", "proxied")
    assert int(words[1]) > 0
    for median, percentile in ((words[3], words[4]), (words[6], words[7])):
        assert 0 < float(median) <= float(percentile)


def test_the_busy_keep_their_rate(echo_port):
    with (
        load("busy", 0, echo_port, echo_port, 3, 100) as client,
        load("delay", 0, echo_port, echo_port, 1, 0, 0.3) as time,
    ):
        assert client.line() == ["busy", "3"]
        time.finish()
        client.tell("end")
        words = client.line()
        client.finish()
    assert (words[0], words[2]) == ("ops", "late")
    assert 0 < int(words[1]) + int(words[3]) < 1000


SILENT = (
    "import socket; s = socket.create_server(('127.0.0.1', 0)); print('port', s.getsockname()[1], flush=True); input()"
)


def test_the_busy_do_not_send_before_their_answer_has_come():
    with Process([sys.executable, "-c", SILENT]) as silent:
        port = silent.port()
        with load("busy", 0, port, port, 2, 1000) as client, proxy.echo_target() as echo:
            client.line()
            with load("delay", 0, echo, echo, 1, 0, 0.2) as time:
                time.finish()
            client.tell("end")
            words = client.line()
    assert int(words[1]) == 0
    assert int(words[3]) > 0


def test_late_messages_are_told():
    with Process([sys.executable, "-c", SILENT]) as silent, proxy.echo_target() as echo:
        port = silent.port()
        told = []
        with (
            latency._others(proxies.Proxy(silent, port, 0), port, 2, told),
            load("delay", 0, echo, echo, 1, 0, 0.2) as time,
        ):
            time.finish()
    (note,) = told
    assert note.startswith("of the others ")
    assert note.endswith(" came late")


@pytest.mark.parametrize("how", ["splice", "copy"])
def test_the_yardstick_outlives_its_clients(how):
    with load("source") as source, Process([str(program("relay")), how, str(source.port())]) as relay:
        port = relay.port()
        for _ in range(2):
            with load("pull", 0, port, port, 1, 0.01, 0.05) as client:
                client.line()
                assert int(client.line()[1]) > 0
                client.finish()
        relay.still_runs(0.2)


@pytest.mark.parametrize("mode", ["delay", "busy", "pull"])
def test_what_the_load_does_not_know(mode):
    with Process([str(program("load")), mode, "1"]) as client, pytest.raises(BenchError, match="ended with status 2"):
        client.line()
