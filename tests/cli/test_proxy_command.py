"""``netnet proxy`` from outside: what it prints, its exit status, and that it ends when it is told to."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest

import netnet
from netnet.cli.main import main
from tests.cli.process import PATIENCE_SECONDS, ProxyProcess, proxy_process
from tests.socks.wire import GRANTED, REFUSAL, request


@pytest.fixture
def proxy():
    with proxy_process() as process:
        yield process


def ask(proxy, data):
    """A plain client that has sent *data*."""
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_SECONDS)
    client.sendall(data)
    return client


def command(*arguments):
    """Runs ``netnet`` to its end: exit status, output, errors."""
    ended = subprocess.run(
        [sys.executable, "-m", "netnet", *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_the_greeting_names_the_address_and_a_line_to_paste(proxy):
    assert re.fullmatch(r"SOCKS4/4a proxy on 127\.0\.0\.1:\d+, at most \d+ connections\. .*\n", proxy.greeting)
    assert f"curl --socks4a 127.0.0.1:{proxy.port} " in proxy.process.stdout.readline()


@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGTERM, 0, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_stops_it(proxy, number, status, word, busy):
    with socket.create_server(("127.0.0.1", 0)) as target:
        if not busy:
            code, lines = proxy.stop(number)
            assert (code, lines) == (status, [f"netnet proxy: stopped by {word}"])
            return
        with ask(proxy, request(*target.getsockname())) as client, ask(proxy, b"\x04"):
            assert client.recv(8)[1] == GRANTED
            code, lines = proxy.stop(number)
            with pytest.raises(ConnectionResetError):  # cut off, and told so
                client.recv(1)
        assert code == status
        assert lines.count(f"netnet proxy: stopped by {word}") == 1
        assert not any("Traceback" in line for line in lines)


def test_one_line_for_each_connection(proxy):
    with socket.create_server(("127.0.0.1", 0)) as target, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        good, bad = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in (target, refusing))
        with ask(proxy, b"GET / HTTP/1.0\r\n\r\n") as client:
            assert client.recv(100) == REFUSAL
        with ask(proxy, request(*refusing.getsockname())) as client:
            assert client.recv(100) == REFUSAL
        with ask(proxy, request(*target.getsockname(), user=b"x\ny") + b"hello") as client:
            assert client.recv(8)[1] == GRANTED
            seen, _ = target.accept()
            with seen:
                assert seen.recv(5) == b"hello"
        code, lines = proxy.stop()
    assert (code, lines.pop()) == (0, "netnet proxy: stopped by SIGTERM")
    told = {line.split(" -> ")[1].split(" ")[0]: line for line in lines}
    assert len(lines) == 3
    assert set(told) == {"-", good, bad}
    assert "bad request" in told["-"]
    assert "refused" in told[bad]
    assert " 5/0 bytes " in told[good]


def test_quiet():
    with socket.create_server(("127.0.0.1", 0)), proxy_process("--listen", "127.0.0.1:0", "--quiet") as proxy:
        with ask(proxy, b"\x05") as client:
            assert client.recv(100) == REFUSAL
            assert client.recv(1) == b""
        assert proxy.stop() == (0, ["netnet proxy: stopped by SIGTERM"])


def test_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with proxy_process("--listen", "[::1]:0") as proxy:
        assert "on [::1]:" in proxy.greeting
        assert f"curl --socks4a [::1]:{proxy.port} " in proxy.process.stdout.readline()


def test_every_interface_is_greeted_with_an_address_one_can_paste():
    with proxy_process("--listen", "0.0.0.0:0") as proxy:
        assert "on 0.0.0.0:" in proxy.greeting
        assert f"curl --socks4a 127.0.0.1:{proxy.port} " in proxy.process.stdout.readline()


def test_on_a_unix_socket(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as target,
        proxy_process("--listen", f"unix:{tmp_path}/p") as proxy,
        socket.socket(socket.AF_UNIX) as client,
    ):
        assert f"on unix:{tmp_path}/p," in proxy.greeting
        client.settimeout(PATIENCE_SECONDS)
        client.connect(f"{tmp_path}/p")
        client.sendall(request(*target.getsockname()))
        assert client.recv(8)[:2] == bytes([0, GRANTED])


def test_it_serves_on_after_a_crowd_of_bad_clients(proxy):
    with socket.create_server(("127.0.0.1", 0)) as target:
        crowd = [ask(proxy, data) for data in (b"", b"\x05", b"\x16\x03\x01", b"\x04\x01", bytes(5000)) * 10]
        with ask(proxy, request(*target.getsockname())) as client:
            assert client.recv(8)[1] == GRANTED
        for one in crowd:
            one.close()
        assert proxy.process.poll() is None


# -- what is refused


def test_a_busy_port_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, output, errors = command("proxy", "--listen", address)
    assert (code, output) == (1, "")
    assert errors == f"netnet: listen on {address}: Address already in use\n"


def test_a_name_that_leads_nowhere_is_one_clear_line():
    code, output, errors = command("proxy", "--listen", "no.such.host.invalid:0")
    assert (code, output) == (1, "")
    assert errors.count("\n") == 1
    assert "no.such.host.invalid" in errors


@pytest.mark.parametrize(
    "text", ["", "1080", "localhost", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "h:x"]
)
def test_a_bad_address_is_shown(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["proxy", "--listen", text])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "--listen" in last
    assert repr(text) in last


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["proxy", "--nonsense"], ["proxy", "surplus"]])
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: netnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--version"], f"netnet {netnet.__version__}"), (["--help"], "proxy"), (["proxy", "--help"], "127.0.0.1:1080")],
)
def test_help_and_version(arguments, word, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    assert word in capsys.readouterr().out


def test_main_returns_the_status():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["proxy", "--listen", address]) == 1


def test_the_process_class_closes_what_it_started():
    proxy = ProxyProcess("--listen", "127.0.0.1:0")
    proxy.close()
    assert proxy.process.returncode == -signal.SIGKILL
