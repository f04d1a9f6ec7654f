"""Programs to be sampled, as processes of their own, and what the tests ask of stacks."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import pytest

SECONDS_MAX = 20

#: a task that computes beside one that waits, and tells its process when it has begun
BURNING = """
    import os, sys, time
    import netnet
    from netnet import flame

    def burn():
        until = time.monotonic() + float(sys.argv[1])
        while time.monotonic() < until:
            sum(range(5000))
            netnet.sleep(0)

    def main():
        with netnet.TaskGroup() as group:
            group.spawn(netnet.Event().wait, name="idle one")
            group.spawn(burn).join()
            group.cancel()

    flame.allow()
    print(os.getpid(), flush=True)
    netnet.run(main)
"""

#: a server with two workers that computes for each message, and says its port
SERVING = """
    import netnet
    from netnet import flame

    def answer(data):
        return sum(range(5000)) and data

    def handle(conn):
        while data := conn.recv(1000):
            conn.sendall(answer(data))

    def main():
        listener = netnet.listen(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        netnet.serve(listener, handle, workers=2)

    flame.allow()
    netnet.run(main)
"""

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")


def environment():
    """Without what measures this very test."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV", "NETNET", "PYTHONPATH"))}


@contextlib.contextmanager
def started(command):
    """A program in a session of its own, which is ended at last, with all its children."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores it
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS_MAX)
        for stream in (process.stdout, process.stderr):
            stream.close()


def python(*arguments):
    return [sys.executable, *map(str, arguments)]


def first_line(process):
    """What it says first, which must come soon."""
    assert select.select([process.stdout], [], [], SECONDS_MAX)[0]
    line = process.stdout.readline().decode()
    assert line, process.stderr.read().decode()
    return line.strip()


def finished(process):
    """Its exit status, and what it has said since, errors apart."""
    out, errors = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out.decode(), errors.decode()


def share(stacks, name):
    """The share of samples that have a frame which begins with *name*."""
    return sum(samples for stack, samples in stacks.items() if any(frame.startswith(name) for frame in stack)) / max(
        1, stacks.total
    )


def wait_until(done):
    limit = time.monotonic() + SECONDS_MAX
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.01)
