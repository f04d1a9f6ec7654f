"""Being a service of systemd: descriptors that are really inherited by a program that is really executed, notices to a
real datagram socket, and every way in which the environment can make no sense."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time

import pytest

import netnet
from netnet.errors import UsageError
from netnet.net import systemd
from netnet.net.systemd import inherited_sockets, notify, watchdog_seconds
from netnet.testing import VirtualClock

VARIABLES = [*systemd._LISTEN, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]


@pytest.fixture(autouse=True)
def no_manager(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(systemd, "_warned", set())


# -- sockets


def executed(code, sockets, *, pid="$$", **variables):
    """Runs *code* in a new interpreter that finds *sockets* at 3, 4 ...; returns what it prints, as JSON."""
    copies = [os.dup(one.fileno()) for one in sockets]
    high = [os.dup2(fd, 100 + index) for index, fd in enumerate(copies)]
    wrapper = "".join(f" {3 + index}<&{fd} {fd}<&-" for index, fd in enumerate(high))
    try:
        done = subprocess.run(
            [
                "bash",
                "-c",
                f'export LISTEN_PID={pid}; exec "$0" -c "$1"{wrapper}',
                sys.executable,
                textwrap.dedent(code),
            ],
            env={**os.environ, "LISTEN_FDS": str(len(sockets)), **variables},
            pass_fds=high,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    finally:
        for fd in (*copies, *high):
            os.close(fd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TELL = """
    import fcntl, json, os, socket, netnet
    from netnet.net.systemd import inherited_sockets
    found = inherited_sockets({})
    print(json.dumps([
        {{name: [[one.fileno(), one.family.name, one.type.name, one.cloexec, os.get_blocking(one.fileno()), one.gettimeout(),
                one.acceptconn] for one in some] for name, some in found.items()}},
        sorted(name for name in os.environ if name.startswith("LISTEN_")),
        [len(some) for some in inherited_sockets().values()] if {!r} == "" else None,
    ]))
"""

needs_bash = pytest.mark.client("bash")


@pytest.fixture
def sockets(tmp_path):
    """A TCP listener, a UDP socket, a UNIX listener and a connection."""
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        one, other = socket.socketpair()
        stack.enter_context(one)
        stack.enter_context(other)
        yield [tcp, udp, unix, one]


@needs_bash
def test_what_is_handed_over(sockets):
    found, left, again = executed(TELL.format("", ""), sockets, LISTEN_FDNAMES="web:names:web:one")
    assert found == {
        "web": [
            [3, "AF_INET", "SOCK_STREAM", True, False, None, True],
            [5, "AF_UNIX", "SOCK_STREAM", True, False, None, True],
        ],
        "names": [[4, "AF_INET", "SOCK_DGRAM", True, False, None, False]],
        "one": [[6, "AF_UNIX", "SOCK_STREAM", True, False, None, False]],
    }
    assert left == []
    assert again == []


@needs_bash
def test_without_names(sockets):
    found, _, _ = executed(TELL.format("", ""), sockets)
    assert [one[0] for one in found["unknown"]] == [3, 4, 5, 6]


@needs_bash
def test_the_variables_may_stay(sockets):
    found, left, _ = executed(TELL.format("unset=False", "unset=False"), sockets[:1], LISTEN_FDNAMES="a")
    assert list(found) == ["a"]
    assert left == ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID"]


@needs_bash
@pytest.mark.parametrize("pid", ["1", "$PPID", "''"])
def test_they_are_for_another_process(sockets, pid):
    found, left, _ = executed(TELL.format("", ""), sockets, pid=pid)
    assert found == {}
    assert left == []


@needs_bash
def test_a_listener_serves(sockets):
    code = """
        import json, netnet
        from netnet.net.systemd import inherited_sockets
        def main():
            [[listener]] = inherited_sockets().values()
            conn, _ = listener.accept()
            with listener, conn:
                conn.sendall(conn.recv(100))
            return "served"
        print(json.dumps(netnet.run(main)))
    """
    with socket.create_connection(sockets[0].getsockname()) as client:
        client.sendall(b"hello")
        assert executed(code, sockets[:1]) == "served"
        assert client.recv(100) == b"hello"


def test_nothing_is_handed_over():
    assert inherited_sockets() == {}


@pytest.mark.parametrize("count", ["", "0"])
def test_none_is_handed_over(monkeypatch, count):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setenv("LISTEN_FDNAMES", "")
    assert inherited_sockets() == {}
    assert "LISTEN_PID" not in os.environ


@pytest.mark.parametrize(
    ("pid", "count", "names", "message"),
    [
        ("me", "many", None, "LISTEN_FDS is 'many', which is not a number from 0"),
        ("me", "-1", None, "LISTEN_FDS is '-1'"),
        ("me", "1.0", None, "LISTEN_FDS is '1.0'"),
        ("me", " 1", None, "LISTEN_FDS is ' 1'"),
        ("me", "٣", None, "LISTEN_FDS is '٣'"),
        ("me", "99999999999999999999", None, "not a number from 0 to 65536"),
        ("me", "2", "one", "LISTEN_FDS is 2, but LISTEN_FDNAMES has 1 names: 'one'"),
        ("me", "1", "one:two", "LISTEN_FDNAMES has 2 names"),
        ("me", "0", "one", "LISTEN_FDNAMES has 1 names"),
        ("us", "1", None, "LISTEN_PID is 'us', which is not a number from 1"),
        ("0", "1", None, "LISTEN_PID is '0'"),
    ],
)
def test_variables_that_make_no_sense(monkeypatch, pid, count, names, message):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "me" else pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    if names is not None:
        monkeypatch.setenv("LISTEN_FDNAMES", names)
    with pytest.raises(UsageError, match=re.escape(message)):
        inherited_sockets()
    assert "LISTEN_PID" in os.environ


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("closed", "which cannot be used: Bad file descriptor"),
        ("pipe", "is no socket; of ListenFIFO="),
        ("bound", "is neither listening nor connected"),
    ],
)
def test_descriptors_that_make_no_sense(monkeypatch, kind, message):
    """The first is fine, the second is not: both stay as they are."""
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        if kind == "pipe":
            bad, end = os.pipe()
            stack.callback(os.close, end)
        else:
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                bad = one.detach()
        stack.callback(os.close, bad)
        first = 200
        os.dup2(good.fileno(), first)
        stack.callback(os.close, first)
        if kind != "closed":
            os.dup2(bad, first + 1)
            stack.callback(os.close, first + 1)
        monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", first)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "2")
        monkeypatch.setenv("LISTEN_FDNAMES", "good:bad")
        with pytest.raises(UsageError, match=f"descriptor {first + 1} \\('bad' of LISTEN_FDNAMES\\).*{message}"):
            inherited_sockets()
        os.fstat(first)
        assert os.get_blocking(first)
        assert os.environ["LISTEN_FDS"] == "2"


def test_detaching_leaves_it_non_blocking_for_the_manager(monkeypatch):
    """The manager has the same socket, and so have other workers."""
    with socket.create_server(("127.0.0.1", 0)) as good:
        os.dup2(good.fileno(), 200)
        monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", 200)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        ((sock,),) = inherited_sockets().values()
        fd = sock.detach()
        assert not os.get_blocking(fd)
        os.close(fd)


@pytest.mark.client("systemd-socket-activate")
def test_with_systemds_own_tool(tmp_path):
    path = tmp_path / "socket"
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import netnet
        from netnet.net.systemd import inherited_sockets
        def echo(conn):
            for chunk in conn:
                conn.sendall(chunk)
        def main():
            with inherited_sockets()["echo"][0] as listener:
                netnet.serve(listener, echo)
        netnet.run(main)
        """)
    )
    command = [shutil.which("systemd-socket-activate"), "--listen", str(path), "--fdname=echo", sys.executable, program]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert b"Listening" in process.stderr.readline()
            for _ in range(2):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(20)
                    client.connect(str(path))
                    client.sendall(b"hello")
                    assert client.recv(100) == b"hello"
        finally:
            process.terminate()


# -- notices


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The service manager's socket, which ``NOTIFY_SOCKET`` names."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@netnet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind("\0" + name[1:] if name.startswith("@") else name)
        one.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield one


@pytest.mark.parametrize(
    ("state", "notice"),
    [
        ({"ready": True}, "READY=1"),
        ({"ready": True, "status": "serving"}, "READY=1\nSTATUS=serving"),
        ({"stopping": True, "ready": False}, "STOPPING=1"),
        ({"status": "§ 5 = \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")}, "STATUS=§ 5 = 😀"),
        ({"status": ""}, "STATUS="),
        ({"errno": 2, "exit_status": 0}, "ERRNO=2\nEXIT_STATUS=0"),
        ({"mainpid": 4711}, "MAINPID=4711"),
        ({"watchdog": True}, "WATCHDOG=1"),
        ({"watchdog": "trigger"}, "WATCHDOG=trigger"),
        ({"watchdog_usec": 20_000_000}, "WATCHDOG_USEC=20000000"),
        ({"extend_timeout_usec": 1, "status": "x"}, "STATUS=x\nEXTEND_TIMEOUT_USEC=1"),
    ],
)
def test_notices(manager, state, notice):
    assert notify(**state) is True
    assert manager.recv(5000).decode() == notice


def test_reloading_tells_when(manager):
    before = time.monotonic_ns() // 1000
    notify(reloading=True)
    words = dict(line.split("=") for line in manager.recv(5000).decode().split("\n"))
    assert words["RELOADING"] == "1"
    assert before <= int(words["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "without anything to say"),
        ({"ready": False, "status": None}, "without anything to say"),
        ({"status": "one\nREADY=1"}, "STATUS is one line"),
        ({"status": "\0"}, "STATUS is one line"),
        ({"mainpid": -1}, "MAINPID=-1: it cannot be negative"),
        ({"watchdog": "tigger"}, "watchdog is True, False or 'trigger'"),
        ({"status": "x" * 5000}, "a notice of 5007 bytes; the service manager reads 4096"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_what_cannot_be_said(request, there, state, message):
    """Whether there is a manager or not, so that it is found before it matters."""
    if there:
        os.environ["NOTIFY_SOCKET"] = "/nowhere"
    try:
        with pytest.raises(ValueError, match=re.escape(message)):
            notify(**state)
    finally:
        os.environ.pop("NOTIFY_SOCKET", None)


@pytest.mark.parametrize("name", [None, ""])
def test_no_manager(monkeypatch, name, caplog):
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert notify(ready=True) is False
    assert caplog.records == []


@pytest.mark.parametrize("name", ["vsock:2:1234", "vsock-stream:2:1", "relative/path", "@"])
def test_managers_that_netnet_cannot_tell(monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with pytest.raises(UsageError, match=f"NOTIFY_SOCKET is '{name}'; netnet tells UNIX sockets only"):
        notify(ready=True)


@pytest.mark.parametrize("away", ["gone", "closed", "too long", "no permission to be a stream"])
def test_the_manager_is_away(monkeypatch, tmp_path, away, caplog):
    path = str(tmp_path / "notify")
    if away != "gone":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if "stream" in away else socket.SOCK_DGRAM) as one:
            one.bind(path)
    monkeypatch.setenv("NOTIFY_SOCKET", "/" + "x" * 200 if away == "too long" else path)
    with caplog.at_level(logging.WARNING, "netnet"):
        for _ in range(3):
            assert notify(watchdog=True) is False
    assert len(caplog.records) == 1
    assert "cannot be told" in caplog.text


def fill(manager):
    """Sends until the manager's queue is full; returns how many notices it has."""
    count = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        one.connect(manager.getsockname())
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(b"x")
                count += 1
    return count


def test_a_full_queue_in_a_task(manager):
    """The others run meanwhile; a cancelled task says it, too."""

    def main():
        count = fill(manager)

        def say():
            try:
                netnet.sleep(1000)
            finally:
                assert notify(stopping=True)

        task = netnet.spawn(say)
        netnet.sleep(0)
        task.cancel()
        netnet.sleep(0.02)
        for _ in range(count):
            assert manager.recv(10) == b"x"
        task.join()
        assert manager.recv(100) == b"STOPPING=1"

    netnet.run(main, clock=VirtualClock())


def test_a_queue_that_stays_full(manager, caplog):
    def main():
        fill(manager)
        begun = netnet.now()
        assert notify(ready=True) is False
        assert netnet.now() - begun == pytest.approx(sum(systemd.PAUSES))

    netnet.run(main, clock=VirtualClock())
    assert "cannot be told" in caplog.text


def test_a_full_queue_outside_a_loop(manager, monkeypatch):
    count = fill(manager)

    def read(seconds):
        for _ in range(count):
            manager.recv(10)

    monkeypatch.setattr(systemd.time, "sleep", read)
    assert notify(ready=True)
    assert manager.recv(100) == b"READY=1"


def test_a_full_queue_in_a_callback_of_the_loop(manager):
    """It must not wait, so it says that it could not."""

    def main():
        fill(manager)
        told = []
        netnet.runtime.worker.current_worker().loop.call_soon(lambda: told.append(notify(ready=True)))
        netnet.sleep(0)
        netnet.sleep(0)
        assert told == [False]

    netnet.run(main)


def test_saying_it_is_no_point_where_a_task_is_cancelled(manager):
    def main():
        with netnet.CancelScope() as scope:
            scope.cancel()
            assert notify(stopping=True)
        assert manager.recv(100) == b"STOPPING=1"

    netnet.run(main)


# -- the watchdog


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        (None, None, None),
        ("", "", None),
        ("30000000", None, 30.0),
        ("1500000", "me", 1.5),
        ("1", "", 1e-6),
        ("30000000", "1", None),
        (None, "me", None),
    ],
)
def test_the_watchdog(monkeypatch, usec, pid, seconds):
    if usec is not None:
        monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "me" else pid)
    assert watchdog_seconds() == seconds


@pytest.mark.parametrize(("usec", "pid"), [("0", None), ("-5", None), ("soon", None), ("1", "me"), ("1e6", None)])
def test_a_watchdog_that_makes_no_sense(monkeypatch, usec, pid):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    with pytest.raises(UsageError, match="WATCHDOG_"):
        watchdog_seconds()
