"""The proxies that are compared: how each is configured and started, what is told of those that are not here, what their
families measure, and what goes wrong."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import time

import pytest

from netnet.bench.families import handshake, idle, latency, proxies, start_proxy
from netnet.bench.figures import SMOKE, Table
from netnet.bench.peers import lacking
from netnet.bench.processes import BenchError, Process, free_port, load, window
from netnet.proxy import config
from netnet.socks.requests import Command

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]


# -- ours


def load_configuration(text, folder):
    file = folder / "proxy.toml"
    file.write_text(text)
    file.chmod(0o600)
    return config.load(str(file))


def test_the_configuration_has_all_on(tmp_path):
    configuration = load_configuration(proxies.CONFIGURATION.read_text(), tmp_path)
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


def service_configuration(*arguments):
    with proxies.service(*arguments) as command:
        return command, config.load(command[command.index("--config") + 1])


def test_address_and_workers_are_put_in():
    command, configuration = service_configuration("127.0.0.1:4711", 3)
    assert str(configuration.listeners[0].address) == "127.0.0.1:4711"
    assert command[command.index("--workers") + 1] == "3"
    assert configuration.warnings == ()


@pytest.mark.parametrize(("target", "allow"), [(None, False), ("10.97.0.2", True)])
def test_a_target_elsewhere_is_allowed(target, allow):
    _, configuration = service_configuration(proxies.ANY_PORT, 1, target)
    client, far = bytes([127, 0, 0, 1]), bytes([10, 97, 0, 2])
    verdict = configuration.settings.rules.judge(
        client, None, Command.CONNECT, "10.97.0.2", far, 40000, deny_private=True
    )
    assert verdict.allow is allow
    assert configuration.warnings == ()


def test_metrics_are_not_left_out(monkeypatch):
    monkeypatch.setattr(proxies, "has", lambda *modules: False)
    with pytest.raises(BenchError, match=r"pip install 'netnet\[proxy\]'"), proxies.service():
        pass


# -- all of them


@pytest.fixture
def echo_port():
    with proxies.echo_target() as port:
        yield port


def wait_until_closed(port):
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as late:
            if late.connect_ex(("127.0.0.1", port)):
                return
        assert time.monotonic() < deadline


@pytest.mark.parametrize("name", proxies.PEERS)
def test_each_serves_and_is_gone_afterwards(name, echo_port):
    remedy = lacking(proxies.PEERS[name].needs)
    if remedy:
        pytest.skip(remedy)
    with proxies.start(name) as proxy:
        with proxy.load("socks", echo_port, 3, 0.01, 0.1) as client:
            used, words = window(proxy.process, client)
        pids = proxy.process.group_cpu_seconds()
        port = proxy.port
    assert int(words[1]) > 0
    assert int(words[3]) == 0
    assert used >= 0
    assert len(pids) >= {proxies.OURS: 2, proxies.SSH: 2, proxies.DANTE: 3}.get(name, 1)
    wait_until_closed(port)  # killed processes end a little later than their parent


def test_proxies_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("netnet.bench.peers.has", lambda *modules: False)
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    table = Table("t", "t", ())
    found = proxies.measures(table, proxies.PEERS, lambda name: {"CPU": len(name)})
    assert list(found) == [proxies.OURS, proxies.SOCKS4, proxies.PLAIN, proxies.FORK]
    assert found["netnet"]() == {"CPU": 6}
    assert table.missing == {
        "microsocks": "apt install microsocks",
        "dante": "apt install dante-server",
        "ssh -D": "apt install openssh-client openssh-server",
        "pproxy": "pip install pproxy",
        "pproxy uvloop": "pip install pproxy uvloop",
    }
    assert len(table.notes) == 4


@pytest.mark.parametrize("name", [proxies.MICROSOCKS, proxies.DANTE, proxies.SSH])
def test_starting_one_that_is_not_here(monkeypatch, name):
    monkeypatch.setattr("netnet.bench.peers.Software.path", lambda software: None)
    with pytest.raises(BenchError, match="is not here: apt install "), proxies.start(name):
        pass


@pytest.mark.client("ssh", "sshd")
def test_an_sshd_that_fails_says_why(tmp_path):
    prepare = proxies.PEERS[proxies.SSH].prepare
    with prepare(proxies.HERE, 0) as ready:
        folder = ready.command[1].removesuffix("/ssh_proxy.sh")
        with open(f"{folder}/sshd_config", "a") as file:
            file.write("NoSuchOption yes\n")
        with (
            pytest.raises(BenchError, match=r"ended with status \d+: .*bad configuration options"),
            proxies.listening(ready.command, ready.port, quiet=True),
        ):
            pass


# -- listening

SERVER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            {}
"""


def test_listening_is_waited_for_without_connecting():
    port = free_port()
    with proxies.listening([sys.executable, "-c", SERVER.format("sys.exit('asked')"), str(port)], port) as process:
        process.still_runs()


@pytest.mark.parametrize(("quiet", "told"), [(True, "status 1: no"), (False, "status 1$")])
def test_one_that_ends_instead_of_listening(quiet, told):
    with (
        pytest.raises(BenchError, match=told),
        proxies.listening([sys.executable, "-c", "raise SystemExit('no')"], free_port(), quiet=quiet),
    ):
        pass


def test_one_that_never_listens(monkeypatch):
    monkeypatch.setattr(proxies, "START_SECONDS", 0.05)
    with pytest.raises(BenchError, match="does not listen on port"), proxies.listening(["cat"], free_port()):
        pass


# -- the start


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("connection.sendall(bytes([5, 255])) if connection.recv(9) else None", "does not answer as a SOCKS5 proxy"),
        ("sys.exit('no') if connection.recv(9) else None", "ended with status 1|does not answer"),
    ],
)
def test_a_proxy_that_does_not_answer(does, told):
    port = free_port()
    with pytest.raises(BenchError, match=told):
        start_proxy.started(proxies.Ready([sys.executable, "-c", SERVER.format(does), str(port)], port))


def test_the_start_of_ours():
    (case,) = start_proxy.start_proxy(SMOKE)
    assert case.rounds == SMOKE.starts
    assert set(case.measures["python alone"]()) == {"time"}
    sample = case.measures["netnet"]()
    assert 0 < sample["time"] <= sample["answer"]
    assert sample["CPU"] > 0


# -- what the families measure


def test_the_titles_of_handshakes():
    titles = [case.table.title for case in (*handshake.handshake(SMOKE), *handshake.churn(SMOKE))]
    assert titles == ["SOCKS5 handshakes, 5 at a time", "SOCKS5 churn, 5 connections standing"]


REFUSES = """
import socket
with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
    print("port", listener.getsockname()[1], flush=True)
    while True:
        listener.accept()[0].close()
"""


@pytest.fixture
def refusing(monkeypatch):
    """In place of the fork proxy, one that takes no request."""
    monkeypatch.setitem(proxies.PEERS, proxies.FORK, proxies.PEERS[proxies.FORK]._replace(prepare=refusing_prepared))


@contextlib.contextmanager
def refusing_prepared(place, port):
    yield proxies.Ready([sys.executable, "-c", REFUSES], 0)


@pytest.mark.usefixtures("refusing")
def test_a_proxy_through_which_no_handshake_comes():
    (case,) = handshake.handshake(SMOKE)
    with pytest.raises(BenchError, match=r"no handshake came through in 0.1 s, \d+ failed"):
        case.measures[proxies.FORK]()


def test_a_proxy_that_takes_no_connections(monkeypatch):
    monkeypatch.setitem(proxies.PEERS, proxies.OURS, proxies.PEERS[proxies.OURS]._replace(prepare=refusing_prepared))
    case = idle.idle(SMOKE)[0]
    with pytest.raises(BenchError, match="not all of 200 connections stand through it: .*load"):
        case.measures[proxies.OURS]()


SILENT = (
    "import socket; s = socket.create_server(('127.0.0.1', 0)); print('port', s.getsockname()[1], flush=True); input()"
)


@contextlib.contextmanager
def silent_prepared(place, port):
    yield proxies.Ready([sys.executable, "-c", SILENT], 0)


def test_a_proxy_that_takes_too_long_is_not_waited_for(monkeypatch):
    monkeypatch.setitem(proxies.PEERS, proxies.OURS, proxies.PEERS[proxies.OURS]._replace(prepare=silent_prepared))
    monkeypatch.setattr(idle, "OPEN_SECONDS", 0.05)
    case = idle.idle(SMOKE)[0]
    with pytest.raises(BenchError, match=r"not all of 200 connections stand through it: 0.05 s are over"):
        case.measures[proxies.OURS]()


def test_nothing_is_lost():
    case = idle.idle(SMOKE)[-1]
    assert case.rounds == 1
    sample = case.measures["netnet"]()
    assert sample["lost"] == 0
    assert sample["p50"] <= sample["p99"]


def test_the_delay_of_ours():
    quiet, busy = latency.latency(SMOKE)
    assert busy.table.title == f"{quiet.table.title}, 5 others busy"
    for case in (quiet, busy):
        sample = case.measures["netnet"]()
        assert set(sample) == {quantity.name for quantity in case.table.quantities}
        assert 0 < sample["p50 in all"] <= sample["p99 in all"]


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
        load("delay", 0, echo_port, echo_port, 1, 0, 0.3) as clock,
    ):
        assert client.line() == ["busy", "3"]
        clock.finish()
        client.tell("end")
        words = client.line()
        client.finish()
    assert (words[0], words[2]) == ("ops", "late")
    assert 0 < int(words[1]) + int(words[3]) < 1000


def test_the_busy_do_not_send_before_their_answer_has_come(echo_port):
    with Process([sys.executable, "-c", SILENT]) as silent:
        port = silent.port()
        with load("busy", 0, port, port, 2, 1000) as client:
            client.line()
            with load("delay", 0, echo_port, echo_port, 1, 0, 0.2) as clock:
                clock.finish()
            client.tell("end")
            words = client.line()
    assert int(words[1]) == 0
    assert int(words[3]) > 0


def test_late_messages_are_told(echo_port):
    with Process([sys.executable, "-c", SILENT]) as silent:
        port = silent.port()
        late = {}
        with (
            latency.others(proxies.Proxy(silent, port, 0), port, 2, late),
            load("delay", 0, echo_port, echo_port, 1, 0, 0.2) as clock,
        ):
            clock.finish()
    assert late == {"late": 100}
