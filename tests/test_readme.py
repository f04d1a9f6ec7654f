"""What the README promises: its example runs as it stands, its commands exist, and CI installs every program that a test
talks to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import netnet

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

#: program → the Debian package that brings it
PACKAGES = {
    "bash": "bash",
    "chromium": "chromium",
    "curl": "curl",
    "danted": "dante-server",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "ncat": "ncat",
    "nc": "netcat-openbsd",
    "socat": "socat",
    "prlimit": "util-linux",
    "proxychains4": "proxychains4",
    "microsocks": "microsocks",
    "openssl": "openssl",
    "redis-server": "redis-server",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
    "torsocks": "torsocks",
    "wget": "wget",
}


def test_the_echo_server(run, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(code.strip().splitlines()) <= 12
    namespace: dict = {}
    exec(code.replace("netnet.run(main)", "").replace("127.0.0.1:7000", "127.0.0.1:0"), namespace)
    listeners = []
    listen = netnet.listen
    monkeypatch.setattr(netnet, "listen", lambda address: listeners.append(listen(address)) or listeners[0])

    def main():
        server = netnet.spawn(namespace["main"])
        netnet.sleep(0)
        with netnet.connect(listeners[0].getsockname()) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
        server.cancel()
        server.join()

    run(main)


def test_the_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
    told = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in told.splitlines() if line.startswith("  make")} == targets


def test_public_names_of_the_table_exist():
    names = set(re.findall(r"`([a-zA-Z_]+)`", README.split("## What works")[1].split("##")[0]))
    missing = {name for name in names if not hasattr(netnet, name)}
    # of a socket, of netnet.testing, of a task, of a loop, of a poll
    assert missing == {"settimeout", "wait_all_parked", "join", "result", "poll", "start", "stop", "select"} - {
        *dir(netnet)
    }


def clients() -> set[str]:
    found: set[str] = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        for names in re.findall(r"mark\.client\(([^)]*)\)", path.read_text()):
            found |= set(re.findall(r'"([^"]+)"', names))
    return found


@pytest.mark.parametrize("client", sorted(PACKAGES))
def test_ci_installs(client):
    assert re.search(rf"packages=\([^)]*\b{PACKAGES[client]}\b", (ROOT / ".ci" / "run").read_text())


def test_no_client_is_unknown():
    assert clients() <= set(PACKAGES)
