"""A running ``netnet proxy`` with a configuration that can be changed, the clients that use it, and what the kernel tells
of its processes. It tells a socket of the test when it is ready and when it has reloaded, as it tells systemd."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import select
import shlex
import signal
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path

from netnet.proxy.status import StatusReader
from tests.cli.process import PATIENCE_SECONDS, ProxyProcess
from tests.socks.wire import choice, greeting, login, login_status, request5

#: the passwords of test users are their names; the cheapest hash that is accepted
LOG_N = 10


def cheap_hash(password):
    """A hash that takes a millisecond."""
    salt = b"0123456789abcdef"
    digest = hashlib.scrypt(password.encode(), salt=salt, n=1 << LOG_N, r=8, p=1, dklen=32)
    text = (base64.b64encode(one).decode().rstrip("=") for one in (salt, digest))
    return f"$scrypt$ln={LOG_N},r=8,p=1$" + "$".join(text)


def until(condition, what, seconds=PATIENCE_SECONDS):
    """Looks until *condition* holds; returns what it gave."""
    end = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        select.select([], [], [], 0.005)


def children(pid):
    """The living children of a process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(name))
    return sorted(found)


def free_address():
    """An address for a listener that nobody has: on loopback, of a network that only this test has picked."""
    host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}"
    with socket.create_server((host, 0)) as probe:
        return host, probe.getsockname()[1]


def text_of(address):
    return "{}:{}".format(*address)


class RunningProxy:
    """The service of a file. ``ready`` has what it has told the service manager."""

    def __init__(self, directory, monkeypatch, text, *arguments, listeners=1):
        self.file = directory / "netnet.toml"
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.settimeout(PATIENCE_SECONDS)
        path = directory / "notify"
        self.notices.bind(str(path))
        try:
            self.write(text)
            with monkeypatch.context() as patch:
                patch.setenv("NOTIFY_SOCKET", str(path))
                self.proxy = ProxyProcess("--config", str(self.file), *arguments, listeners=listeners)
        except BaseException:
            self.notices.close()
            raise
        self.pid = self.proxy.process.pid
        self.line = self.proxy.line
        self.stopped = False

    def __enter__(self):
        try:
            assert self.notice() == "READY=1"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """What is left is killed."""
        left = [] if self.stopped else children(self.pid)
        self.proxy.close()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.notices.close()

    @property
    def address(self):
        """That of the first listener."""
        host, _, port = self.proxy.addresses[0].rpartition(":")
        return host, int(port)

    def write(self, text):
        self.file.write_text(text)
        self.file.chmod(0o600)

    def notice(self):
        return self.notices.recv(4096).decode().partition("\n")[0]

    def begin_reload(self, text=None):
        """SIGHUP, and it has taken notice."""
        if text is not None:
            self.write(text)
        self.proxy.process.send_signal(signal.SIGHUP)
        assert self.notice() == "RELOADING=1"

    def reload(self, text=None):
        """SIGHUP, until it is through."""
        self.begin_reload(text)
        assert self.notice() == "READY=1"

    def workers(self, count=None):
        """The processes that serve; with *count*, when there are so many."""
        if count is not None:
            until(lambda: len(children(self.pid)) == count, f"{count} workers")
        return children(self.pid)

    def stop(self, number=signal.SIGTERM):
        """Stops it; nothing may be left. Returns the exit status and the lines that nobody has read."""
        left = children(self.pid)
        code, lines = self.proxy.stop(number)
        self.stopped = True
        assert [pid for pid in left if Path(f"/proc/{pid}").exists()] == []
        assert not any("Traceback" in line or "internal error" in line for line in lines), lines
        return code, lines

    def end(self):
        """The usual end. Returns the lines that nobody has read."""
        code, lines = self.stop()
        assert code == 0
        assert lines.pop() == "netnet proxy: stopped by SIGTERM"
        return lines


class Refused(Exception):
    """The proxy has said no: the code of its reply, or ``None`` where it only closed."""


def exactly(sock, count):
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise Refused(None, data)
        data += chunk
    return data


def reply_of(client):
    """Reads a SOCKS5 reply of success. Raises ``Refused``."""
    head = exactly(client, 4)
    exactly(client, {1: 4, 4: 16}[head[3]] + 2)
    if head[1]:
        raise Refused(head[1])


def negotiate(client, host, port, user=None):
    """Asks a proxy by SOCKS5, as a user whose password is the name, to connect. Raises ``Refused``."""
    method = 0 if user is None else 2
    client.sendall(greeting(method))
    if exactly(client, 2) != choice(method):
        raise Refused(0xFF)
    if user is not None:
        name, password = user if isinstance(user, tuple) else (user, user)
        client.sendall(login(name, password))
        if exactly(client, 2) != login_status(0):
            raise Refused("login")
    client.sendall(request5(host, port))
    reply_of(client)


def dial(proxy, host, port, *, user=None, seconds=PATIENCE_SECONDS):
    """A connection through the proxy at an address or path. Raises ``Refused``, ``OSError``."""
    client = socket.socket(socket.AF_UNIX if isinstance(proxy, str) else socket.AF_INET)
    client.settimeout(seconds)
    try:
        client.connect(proxy)
        negotiate(client, host, port, user)
    except BaseException:
        client.close()
        raise
    return client


class Pair:
    """A connection through the proxy: both ends, and what each has got is what the other has sent."""

    def __init__(self, proxy, target, **options):
        self.client = dial(proxy, *target.getsockname(), **options)
        self.server, _ = target.accept()
        self.server.settimeout(PATIENCE_SECONDS)

    def move(self, count=200_000):
        """Moves data each way, and compares it. Raises what goes wrong."""
        for one, other in ((self.client, self.server), (self.server, self.client)):
            data = random.randbytes(count)
            left, got = memoryview(data), b""
            while len(got) < count:
                ready, writable, _ = select.select([other], [one] if left else [], [], PATIENCE_SECONDS)
                assert ready or writable, f"{len(got)} of {count} bytes came"
                if writable:
                    left = left[one.send(left, socket.MSG_DONTWAIT) :]
                if ready:
                    chunk = other.recv(65536)
                    if not chunk:
                        raise ConnectionError(f"the end after {len(got)} of {count} bytes")
                    got += chunk
            assert got == data

    def close(self):
        self.client.close()
        self.server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Storm:
    """Clients that connect one after the other, each in a thread; *errors* has what went wrong, *good* counts."""

    def __init__(self, proxy, target, *, clients=4, **options):
        self.good = 0
        self.errors = []
        self._proxy, self._target, self._options = proxy, target, options
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self):
        while not self._enough.is_set():
            try:
                dial(self._proxy, *self._target, **self._options).close()
            except (OSError, Refused) as error:
                self.errors.append(error)
                if len(self.errors) > 100:
                    return
            with self._lock:
                self.good += 1

    def more(self, count=50):
        """Waits for so many more."""
        goal = self.good + count
        until(lambda: self.good >= goal or self.errors, "the storm goes on")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        for thread in self._threads:
            thread.join()


def status_at(path):
    """The status document."""
    with contextlib.closing(StatusReader(str(path), seconds=PATIENCE_SECONDS)) as reader:
        return reader.read()


def fetch(address, path="/metrics"):
    """The body at an address, straight, without a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{text_of(address)}{path}", timeout=PATIENCE_SECONDS) as answer:
        return answer.read().decode()


def figures(address):
    """The samples of the metrics page: name with labels → value."""
    return {
        match[1]: float(match[2])
        for match in re.finditer(r"^([a-z_]+(?:\{.*\})?) (\S+)$", fetch(address), re.MULTILINE)
    }


def refuses(address):
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.settimeout(PATIENCE_SECONDS)
        return probe.connect_ex(address) != 0


def sessions_of(lines):
    """Those of a log of JSON lines that tell of a connection."""
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [one for one in found if one.get("event") == "session"]


def at_once(count, call):
    """What *count* threads that make the call at the same time get, and the errors of the others."""
    good, bad = [], []
    together = threading.Barrier(count)

    def run():
        together.wait()
        try:
            good.append(call())
        except (OSError, Refused) as error:
            bad.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return good, bad


def asking(proxy, target):
    """A client that has sent its whole request by SOCKS5, and has read no answer."""
    client = socket.create_connection(proxy, timeout=PATIENCE_SECONDS)
    client.sendall(greeting(0) + request5(*target.getsockname()))
    client.setblocking(False)
    return client


def enough(clients, count):
    """Those that have been answered that they are connected, if there are *count* of them; else ``None``."""
    found = []
    for client in clients:
        with contextlib.suppress(BlockingIOError):
            data = client.recv(100, socket.MSG_PEEK)
            assert data[:4] in (b"\5\0", b"\5\0\5\0"), data
            if len(data) == 12:
                found.append(client)
    return found if len(found) >= count else None


def pump(pairs, seconds):
    """Moves data from the servers to the clients of *pairs* for so long; how many bytes came, and in what time."""
    data = bytes(65536)
    moved, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        ready, writable, _ = select.select([one.client for one in pairs], [one.server for one in pairs], [], 0.05)
        for one in writable:
            with contextlib.suppress(BlockingIOError):
                one.send(data, socket.MSG_DONTWAIT)
        for one in ready:
            moved += len(one.recv(1 << 18))
    return moved, passed


def prefixed(monkeypatch, directory, *command):
    """From now on the proxy is started by *command*, which gets the program and its arguments."""
    script = directory / "python"
    script.write_text(f'#!/bin/sh\nexec {shlex.join([*command, sys.executable])} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
