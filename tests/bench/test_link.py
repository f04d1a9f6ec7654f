"""The link between two network namespaces: it delays, limits and drops, loses nothing for TCP, and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netnet.bench.families.proxies import listening
from netnet.bench.link import LinkMissing, link
from netnet.bench.native import program
from netnet.bench.processes import Process
from netnet.errors import UsageError
from tests.bench.test_files import SEED, expected_hash, files, told

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the link needs a C compiler"),
]

PROXY_PORT = 1080


@contextlib.contextmanager
def a_link(delay_ms=0, mbit_s=1000, queue_kb=1000):
    """A link, where one can be made; else the test is skipped."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(link(delay_ms, mbit_s, queue_kb))
        except LinkMissing as missing:
            pytest.skip(str(missing))
        yield made


@contextlib.contextmanager
def a_server(made):
    """A server of files behind the link: its process, and its port."""
    with Process(made.far(files("serve", SEED))) as process:
        yield process, process.port()


def fetch(made, port, size, via=(0, 0)):
    """What a download from the near side through a proxy there tells; by its version of SOCKS and its port."""
    version, proxy_port = via
    command = files("fetch", version, "127.0.0.1", proxy_port, made.far_address, port, size)
    with Process(made.near(command), keep_errors=True) as client:
        return told(client)


def sent_again(server):
    """How many segments TCP has sent twice in the server's namespace (proc(5), ``/proc/net/snmp``)."""
    names, values = [
        line.split()
        for line in Path(f"/proc/{server.pid}/net/snmp").read_text().splitlines()
        if line.startswith("Tcp:")
    ]
    return int(dict(zip(names, values, strict=True))["RetransSegs"])


# -- what it does to packets


def test_the_round_trip():
    with a_link(delay_ms=20) as made, a_server(made) as (_, port):
        best = 1.0
        for _ in range(20):  # where others use the processors, one alone may take longer
            seconds = float(fetch(made, port, 0)["seconds"]) / 2  # one to connect, one for the request
            assert seconds >= 0.020
            best = min(best, seconds)
            if best < 0.050:
                break
        assert best < 0.050


def test_the_bandwidth():
    with a_link(mbit_s=80) as made, a_server(made) as (_, port):
        result = fetch(made, port, 2_000_000)
        assert float(result["seconds"]) >= 0.2
        assert result["hash"] == expected_hash(2_000_000)


@pytest.mark.parametrize("size", [0, 1, 4095, 5_000_000])
def test_downloads_over_it(size):
    with a_link(delay_ms=5, mbit_s=400, queue_kb=1450) as made, a_server(made) as (_, port):
        assert fetch(made, port, size)["hash"] == expected_hash(size)


def test_a_full_queue_drops():
    with a_link(delay_ms=4, mbit_s=200, queue_kb=30) as made, a_server(made) as (server, port):
        assert fetch(made, port, 3_000_000)["hash"] == expected_hash(3_000_000)
        assert sent_again(server) > 0


def test_the_other_way_round():
    with a_link(delay_ms=10) as made, Process(made.near(files("serve", SEED))) as server:
        port = server.port()
        with Process(made.far(files("fetch", 0, "-", 0, made.near_address, port, 500_000)), keep_errors=True) as client:
            result = told(client)
        assert result["hash"] == expected_hash(500_000)
        assert float(result["connect"]) >= 0.020


# -- the proxies in the near namespace


@pytest.mark.client("microsocks")
def test_through_microsocks():
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(PROXY_PORT)]
    with a_link(delay_ms=5) as made, a_server(made) as (_, port), listening(made.near(command), PROXY_PORT):
        assert fetch(made, port, 1_000_000, (5, PROXY_PORT))["hash"] == expected_hash(1_000_000)


def test_through_the_plain_proxy():
    with a_link(delay_ms=5) as made, a_server(made) as (_, port):
        with Process(made.near([str(program("fork_proxy"))])) as proxy:
            assert fetch(made, port, 1_000_000, (4, proxy.port()))["hash"] == expected_hash(1_000_000)


# -- the namespaces


def test_what_is_in_them():
    code = "import json, socket; print(*(name for _, name in socket.if_nameindex()))"
    outside = socket.if_nameindex()
    with a_link() as made:
        for place in (made.near, made.far):
            with Process(place([sys.executable, "-c", code])) as process:
                assert set(process.line()) >= {"lo", "link"}
        assert socket.if_nameindex() == outside


def test_commands_keep_their_process():
    with a_link() as made:
        for place in (made.near, made.far):
            with Process(place(["sh", "-c", "echo $$; read end"])) as process:
                assert int(process.line()[0]) == process.pid == os.getpgid(process.pid)


def test_nothing_is_left():
    with a_link() as made:
        command = made.near(["true"])
        subprocess.run(command, check=True)
    assert not Path(made.near_network).exists()
    assert not Path(made.far_network).exists()
    assert subprocess.run(command, capture_output=True).returncode


@pytest.mark.parametrize(
    ("end", "status"),
    [(lambda one: one.stdin.close(), 0), (lambda one: one.terminate(), -signal.SIGTERM)],
    ids=["end of input", "SIGTERM"],
)
def test_it_ends_when_told(end, status):
    with a_link():  # it is possible here
        pass
    command = [program("link"), "1", "100", "100"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as one:
        one.stdin.write(b"anything, which is ignored\n")
        assert one.stdout.readline().startswith(b"near /proc/")
        end(one)
        assert one.wait(20) == status


# -- where it cannot be made


WITHOUT_RIGHTS = """
from tests.bench.test_link import a_server, fetch, link, expected_hash
from netnet.bench.link import LinkMissing
try:
    with link(5, 400, 500) as made, a_server(made) as (_, port):
        print(made.user_namespace is not None, fetch(made, port, 100_000)["hash"] == expected_hash(100_000))
except LinkMissing as missing:
    print(missing)
"""


def without_rights(root, *kept):
    """What a program tells that makes a link with none of root's rights but those *kept*."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can do without its rights, and with setpriv(1)")
    bounds = ",".join(["-all", *(f"+{name}" for name in kept)])
    dropping = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", sys.executable, "-c", WITHOUT_RIGHTS]
    done = subprocess.run(dropping, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_in_a_user_namespace(pytestconfig):
    said = without_rights(pytestconfig.rootpath, "setfcap")  # without it root may not map itself (user_namespaces(7))
    if said.startswith("no link can be made"):
        pytest.skip(said)
    assert said == "True True"


def test_the_reason_is_told(pytestconfig):
    said = without_rights(pytestconfig.rootpath)
    assert said.startswith("no link can be made: ")
    assert said.endswith("; it takes root's rights or user namespaces, and /dev/net/tun")


def test_without_nsenter(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LinkMissing, match="install util-linux"), link(1, 1, 1):
        pass


@pytest.mark.parametrize("numbers", [(-1, 1, 1), (1, 0, 1), (1, 1, -1), (float("nan"), 1, 1), (1, float("inf"), 1)])
def test_numbers_that_make_none(numbers):
    with pytest.raises(UsageError, match="no link has "), link(*numbers):
        pass


@pytest.mark.parametrize(
    "arguments", [[], ["1", "1"], ["-1", "1", "1"], ["1", "0", "1"], ["1", "1", "nothing", "more"]]
)
def test_usage(arguments):
    done = subprocess.run([program("link"), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: link DELAY_MS MBIT_S QUEUE_KB")
