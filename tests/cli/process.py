"""``netnet proxy`` as a process of its own, as a user starts it; and the end of programs that have forked others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

#: a process that takes longer to start, to log or to stop than this hangs
PATIENCE_SECONDS = 20


class ProxyProcess:
    """A running ``netnet proxy``: its greeting, its ports, its log while it runs and when it was stopped.

    *listeners*: how many lines of the greeting tell an address; the first one's are ``greeting``, ``port`` and
    ``address``, and ``addresses`` has them all, as they were told.
    """

    def __init__(self, *arguments, listeners=1):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "netnet", "proxy", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a test run in the background ignores Ctrl-C, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            start_new_session=True,
        )
        greetings = [self.process.stdout.readline() for _ in range(listeners)]
        self.greeting = greetings[0]
        self.addresses = [found[1] for one in greetings if (found := re.search(r" on (.+), \d+ worker", one))]
        found = re.search(r":(\d+),", self.greeting)
        self.port = int(found[1]) if found else 0
        self.address = f"127.0.0.1:{self.port}"
        self._unread = b""

    def line(self, pattern):
        """The next line on standard error in which *pattern* is found; those before it are passed over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            line, end, rest = self._unread.partition(b"\n")
            if not end:
                self._read(deadline, pattern)
                continue
            self._unread = rest
            if re.search(pattern, line.decode()):
                return line.decode()

    def _read(self, deadline, pattern):
        errors = self.process.stderr.fileno()
        ready, _, _ = select.select([errors], [], [], max(0, deadline - time.monotonic()))
        data = os.read(errors, 65536) if ready else b""
        assert data, f"no line with {pattern!r} came; after the last one: {self._unread!r}"
        self._unread += data

    def session(self, target):
        """The fields of the next connection to *target* that has ended. The log has to be JSON."""
        return json.loads(self.line(re.escape(f'"target": {json.dumps(target)},')))

    def stop(self, number=signal.SIGTERM):
        """Sends the signal and waits for the end; returns the exit status and the lines that nobody has read."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, (self._unread.decode() + errors).splitlines()

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its workers, too: else they would wait for their connections
        self.process.wait(PATIENCE_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


@contextlib.contextmanager
def proxy_process(*arguments, listeners=1):
    arguments = arguments or ("--listen", "127.0.0.1:0")
    with contextlib.closing(ProxyProcess(*arguments, listeners=listeners)) as process:
        yield process


@contextlib.contextmanager
def configured_proxy(directory, text, *arguments, listeners=1):
    """A proxy with *text* as its configuration, which is written to a file in *directory*. Stops it at the end, and sees
    that it has stopped well."""
    file = directory / "netnet.toml"
    file.write_text(text)
    file.chmod(0o600)
    with proxy_process("--config", str(file), *arguments, listeners=listeners) as process:
        yield process
        code, lines = process.stop()
        bugs = [line for line in lines if re.search("Traceback|internal error", line)]
        assert (code, bugs) == (0, [])


def members(session):
    """The processes of a session (setsid(2))."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat") as file:
            state, _, _, of = file.read().rpartition(") ")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(number))
    return found


def end_session(process):
    """Ends *process* and all that it has forked."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + PATIENCE_SECONDS / 4
        while members(process.pid) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.01)  # they are not our children: there is nothing to wait for
    process.wait(PATIENCE_SECONDS)
    assert members(process.pid) == []


def plain_environment():
    """The environment without what would send a client to another proxy, or to none."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
