"""``netnet proxy`` from outside: what it prints, its exit status, and that it ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

import netnet
from netnet.cli.main import main
from netnet.proxy.passwords import verify
from tests.cli.process import PATIENCE_SECONDS, ProxyProcess, configured_proxy, proxy_process
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


def refused(proxy):
    """Waits until nobody listens there any more."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", proxy.port)):
                return
    raise AssertionError("it still listens")


def command(*arguments, given=""):
    """Runs ``netnet`` to its end: exit status, output, errors."""
    ended = subprocess.run(
        [sys.executable, "-m", "netnet", *arguments],
        capture_output=True,
        text=True,
        input=given,
        timeout=PATIENCE_SECONDS,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_the_greeting_names_the_address_and_a_line_to_paste(proxy):
    count = len(os.sched_getaffinity(0))
    workers = "1 worker" if count == 1 else f"{count} workers"
    expected = rf"SOCKS4/4a/5 and HTTP proxy on 127\.0\.0\.1:\d+, {workers}\. Ctrl-C stops it\.\n"
    assert re.fullmatch(expected, proxy.greeting)
    assert proxy.process.stdout.readline() == "Try:\n"
    assert f"curl --proxy socks5h://127.0.0.1:{proxy.port} " in proxy.process.stdout.readline()


@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGTERM, 0, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_signal_stops_it(proxy, number, status, word):
    assert proxy.stop(number) == (status, [f"netnet proxy: stopped by {word}"])


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]]
)
def test_ctrl_c_or_a_second_signal_cuts_connections_off(proxy, signals):
    with socket.create_server(("127.0.0.1", 0)) as target:
        with ask(proxy, request(*target.getsockname())) as client, ask(proxy, b"\x04") as slow:
            assert client.recv(8)[1] == GRANTED
            ports = [one.getsockname()[1] for one in (client, slow)]
            for number in signals[:-1]:
                proxy.process.send_signal(number)
                refused(proxy)
            code, lines = proxy.stop(signals[-1])
            with pytest.raises(ConnectionResetError):  # cut off, and told so
                client.recv(1)
    status, word = (130, "Ctrl-C") if signals[0] == signal.SIGINT else (0, "SIGTERM")
    assert (code, lines[-1]) == (status, f"netnet proxy: stopped by {word}")
    for port in ports:
        assert [line.endswith(" stopped") for line in lines if f"127.0.0.1:{port} -> " in line] == [True]
    assert not any("Traceback" in line for line in lines)


def test_sigterm_lets_connections_come_to_their_end(proxy):
    with socket.create_server(("127.0.0.1", 0)) as target:
        with ask(proxy, request(*target.getsockname())) as client:
            assert client.recv(8)[1] == GRANTED
            seen, _ = target.accept()
            with seen:
                proxy.process.send_signal(signal.SIGTERM)
                refused(proxy)
                client.sendall(b"still")
                assert seen.recv(5) == b"still"
                seen.sendall(b"there")
                assert client.recv(5) == b"there"
        _, lines = proxy.process.communicate(timeout=PATIENCE_SECONDS)
    assert proxy.process.returncode == 0
    assert " 5/5 bytes " in lines
    assert lines.endswith("netnet proxy: stopped by SIGTERM\n")


def test_sigterm_waits_no_longer_than_it_is_told(tmp_path):
    text = '[proxy]\nworkers = 1\ndrain = "100 ms"\n[[listener]]\naddress = "127.0.0.1:0"\n'
    with socket.create_server(("127.0.0.1", 0)) as target, configured_proxy(tmp_path, text) as proxy:
        with ask(proxy, request(*target.getsockname())) as client:
            assert client.recv(8)[1] == GRANTED
            code, lines = proxy.stop()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert (code, lines[-1]) == (0, "netnet proxy: stopped by SIGTERM")
        assert lines[0].endswith(" stopped")


def test_one_line_for_each_connection(proxy):
    with socket.create_server(("127.0.0.1", 0)) as target, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        good, bad = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in (target, refusing))
        with ask(proxy, b"\x16\x03\x01") as client:
            assert client.recv(100) == b""
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
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} 127\.0\.0\.1:\d+ -> ", line) for line in lines), lines
    assert len(lines) == 3
    assert set(told) == {"-", good, bad}
    assert "bad request" in told["-"]
    assert "refused" in told[bad]
    assert " 5/0 bytes " in told[good]


def test_quiet():
    with socket.create_server(("127.0.0.1", 0)), proxy_process("--listen", "127.0.0.1:0", "--quiet") as proxy:
        with ask(proxy, b"\x04\x09") as client:
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
        proxy.process.stdout.readline()
        assert f"curl --proxy socks5h://[::1]:{proxy.port} " in proxy.process.stdout.readline()


def test_no_open_proxy_by_accident():
    """Every interface, without a password: not without saying so in a file."""
    code, output, errors = command("proxy", "--listen", "0.0.0.0:0")
    assert (code, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert "0.0.0.0:0" in errors
    assert "asks for no password" in errors


def test_every_interface_is_greeted_with_an_address_one_can_paste(tmp_path):
    text = '[[listener]]\naddress = "0.0.0.0:0"\npublic_without_authentication = true\n'
    with configured_proxy(tmp_path, text) as proxy:
        assert "on 0.0.0.0:" in proxy.greeting
        proxy.process.stdout.readline()
        assert f"curl --proxy socks5h://127.0.0.1:{proxy.port} " in proxy.process.stdout.readline()


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


# -- a file


LISTENER = '[[listener]]\naddress = "127.0.0.1:0"\n'


@pytest.fixture
def file(tmp_path):
    """Writes a configuration; returns its path."""

    def write(text):
        path = tmp_path / "proxy.toml"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write


def test_a_file_and_options_beside_it(file, tmp_path):
    status = tmp_path / "status"
    with proxy_process("--config", file(LISTENER), "--workers", "3", "--status", str(status), "--quiet") as proxy:
        assert ", 3 workers. " in proxy.greeting
        with ask(proxy, b"\x04\x09") as client:
            assert client.recv(8) == REFUSAL
        code, output, errors = command("proxy", "top", "--status", str(status), "--json", "--once")
        assert (code, errors) == (0, "")
        assert len(json.loads(output)["workers"]) == 3
        assert proxy.stop() == (0, ["netnet proxy: stopped by SIGTERM"])


def test_metrics_by_an_option():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with proxy_process("--listen", "127.0.0.1:0", "--metrics", address) as proxy:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{address}/healthz", timeout=PATIENCE_SECONDS) as answer:
            assert answer.read() == b"ok\n"
        assert proxy.stop()[0] == 0


#: arguments → the exit status, and what its one line says. ``{file}`` is a right file, ``{wrong}`` a wrong one
WRONG = [
    (
        ["proxy", "--listen", "127.0.0.1:0", "--config", "{file}"],
        2,
        "netnet proxy: give --config or --listen, not both",
    ),
    (["proxy", "--config", "/no/such/file"], 1, "/no/such/file"),
    (["proxy", "--config", "{wrong}"], 1, "netnet proxy: {wrong}:2: listener[1].address: 'nowhere' has no port"),
    (["proxy", "--status", "/no/such/directory/s"], 1, "/no/such/directory/s: No such file or directory"),
    (["proxy", "check", "/no/such/file"], 1, None),
    (["proxy", "check", "{wrong}"], 1, None),
    (["proxy", "explain", "{file}", "--client", "x", "--dest", "h:1"], 1, "netnet: the client 'x' is no IP address"),
    (["proxy", "explain", "{file}", "--client", "::1", "--dest", "h"], 1, "netnet: "),
    (
        ["proxy", "explain", "{wrong}", "--client", "::1", "--dest", "h:1"],
        1,
        "{wrong}:2: listener[1].address: 'nowhere' has no port",
    ),
    (["proxy", "top", "--status", "/no/such/socket", "--once"], 1, "/no/such/socket"),
    (["proxy", "hash-password"], 1, "netnet proxy: a password has 1 to 255 bytes in UTF-8 (RFC 1929), not 0"),
]


@pytest.mark.parametrize(("arguments", "status", "told"), WRONG)
def test_what_is_wrong_is_one_clear_line(arguments, status, told, file, tmp_path):
    right = file(LISTENER)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[[listener]]\naddress = "nowhere"\n')
    names = {"file": right, "wrong": wrong}
    code, output, errors = command(*(one.format(**names) for one in arguments))
    assert (code, output) == (status, "")
    if told is None:  # the problems, and how many
        assert errors.splitlines()[-1].endswith(": 1 problem")
        assert len(errors.splitlines()) == 2
        return
    assert len(errors.splitlines()) == 1, errors
    assert told.format(**names) in errors


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "0"], ["--workers", "x"], ["--workers", "1025"], ["--metrics", "9180"], ["--metrics", "unix:/x"]],
)
def test_bad_values(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["proxy", *arguments])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert arguments[0] in last
    assert repr(arguments[1]) in last


def test_check(file, capsys):
    path = file(LISTENER + '[[rule]]\naction = "deny"\nports = [25]\n')
    assert main(["proxy", "check", path]) == 0
    assert capsys.readouterr() == (f"{path}: right. 1 listener, 0 users, 1 rule\n", "")
    path = file('[proxy]\ndefault_rule = "deny"\n' + LISTENER)
    assert main(["proxy", "check", path]) == 0
    output, errors = capsys.readouterr()
    assert output == f"{path}: right. 1 listener, 0 users, 0 rules\n"
    assert errors.startswith("warning: ")


def test_explain(file, capsys):
    path = file(LISTENER + '[[rule]]\nname = "no mail"\naction = "deny"\nports = [25]\n')
    assert main(["proxy", "explain", path, "--client", "127.0.0.1", "--dest", "192.0.2.1:25"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert "'no mail'" in output
    assert "denied" in output


def test_explain_asks_the_name_servers_of_the_file(file, capsys):
    pytest.importorskip("dns")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{server.getsockname()[1]}"
        rule = '[[rule]]\nname = "inside"\naction = "deny"\ndestinations = ["private"]\n'
        server.close()
        path = file(f'[proxy]\nname_servers = ["{where}"]\n{LISTENER}{rule}')
        assert main(["proxy", "explain", path, "--client", "::1", "--dest", "name.test:80"]) == 0
        assert "name.test cannot be looked up here" in capsys.readouterr().out


def test_hash_password_from_standard_input():
    code, output, errors = command("proxy", "hash-password", given="secret\nnot this\n")
    assert (code, errors) == (0, "")
    assert verify(output.strip(), "secret")
    assert not verify(output.strip(), "not this")


@pytest.mark.parametrize(("second", "status"), [("secret", 0), ("other", 1)])
def test_hash_password_asks_twice_on_a_terminal(second, status, monkeypatch, capsys):
    answers = iter(["secret", second])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["proxy", "hash-password"]) == status
    output, errors = capsys.readouterr()
    assert bool(output) is (status == 0)
    assert errors == ("" if status == 0 else "netnet proxy: the two are not the same\n")


# -- as a service of systemd


@pytest.mark.client("systemd-socket-activate")
@pytest.mark.parametrize("name", ["systemd", "systemd:socks"])
def test_sockets_of_systemd(name, file, tmp_path):
    """It serves on what it was handed, tells that it is ready, and reloads with the same socket."""
    path = tmp_path / "s"
    text = f'[proxy]\nworkers = 2\n[[listener]]\naddress = "{name}"\n'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.create_server(("127.0.0.1", 0)) as target:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(
            [
                *(shutil.which("systemd-socket-activate"), "--listen", str(path), "--fdname=socks"),
                *(f"--setenv=NOTIFY_SOCKET={tmp_path}/notify", "--setenv=PYTHONPATH"),
                *(sys.executable, "-m", "netnet", "proxy", "--config", file(text)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            await_listener(path, process)
            served_on(str(path), target)
            assert manager.recv(1000) == b"READY=1"
            assert process.stdout.readline().startswith(f"SOCKS4/4a/5 and HTTP proxy on unix:{path}, 2 workers")
            process.send_signal(signal.SIGHUP)
            assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(1000) == b"READY=1"
            served_on(str(path), target)
            process.send_signal(signal.SIGTERM)
            assert manager.recv(1000) == b"STOPPING=1"
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0
            assert "error" not in errors
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def await_listener(path, process):
    """Until *process* listens there: the path is there before."""
    while True:
        assert process.poll() is None
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(path)) == 0:
                return


def served_on(path, target):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(path)
        client.sendall(request(*target.getsockname()))
        assert client.recv(8)[1] == GRANTED
    target.accept()[0].close()
