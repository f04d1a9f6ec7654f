"""``netnet proxy`` as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys

#: a process that takes longer to start or to stop than this hangs
PATIENCE_SECONDS = 20


class ProxyProcess:
    """A running ``netnet proxy``: its greeting, its port, and after ``stop`` its lines and exit status."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "netnet", "proxy", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a test run in the background ignores Ctrl-C, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.greeting = self.process.stdout.readline()
        found = re.search(r":(\d+),", self.greeting)
        self.port = int(found[1]) if found else 0
        self.address = f"127.0.0.1:{self.port}"

    def stop(self, number=signal.SIGTERM):
        """Sends the signal and waits for the end; returns the exit status and the lines on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, errors.splitlines()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


@contextlib.contextmanager
def proxy_process(*arguments):
    with contextlib.closing(ProxyProcess(*(arguments or ("--listen", "127.0.0.1:0")))) as process:
        yield process


def plain_environment():
    """The environment without what would send a client to another proxy, or to none."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
