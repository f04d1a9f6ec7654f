"""Proxies that other people wrote, as processes: microsocks, ncat, dante. Each on a port that was free a moment ago."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import time

import pytest

from tests.cli.process import PATIENCE_SECONDS, end_session, plain_environment


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(process, port):
    """Waits until *process* takes connections; false when it has ended instead, since the port was taken."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        assert time.monotonic() < deadline, f"{process.args} does not listen"
        time.sleep(0.01)  # a program of somebody else: there is nothing to wait for
    return False


@contextlib.contextmanager
def program(*arguments):
    """A proxy on a free port, which stands for PORT in *arguments*; gives ``127.0.0.1:port``."""
    for _ in range(10):
        port = free_port()
        command = [argument.replace("PORT", str(port)) for argument in arguments]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=plain_environment(),
        ) as process:
            try:
                if listens(process, port):
                    yield f"127.0.0.1:{port}"
                    return
            finally:
                process.terminate()
    raise AssertionError(f"{arguments} did not start")


def microsocks(*arguments):
    return program("microsocks", "-i", "127.0.0.1", "-p", "PORT", *arguments)


def ncat(*arguments):
    """As a proxy, ncat speaks HTTP only."""
    return program("ncat", "-lk", "--proxy-type", "http", *arguments, "127.0.0.1", "PORT")


DANTE = """
logoutput: /dev/null
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.privileged: {privileged}
user.unprivileged: {unprivileged}
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: bind connect udpassociate }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: bindreply udpreply }}
"""


@contextlib.contextmanager
def dante(directory):
    """dante with all the processes that it needs, none of which is left at the end."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    unprivileged = "nobody" if os.geteuid() == 0 else user
    for number in range(10):
        port = free_port()
        file = directory / f"danted{number}.conf"
        file.write_text(DANTE.format(port=port, privileged=user, unprivileged=unprivileged))
        with (directory / "danted.log").open("w") as output:
            process = subprocess.Popen(
                ["danted", "-f", str(file), "-p", str(directory / "danted.pid")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            if listens(process, port):
                yield f"127.0.0.1:{port}"
                return
        finally:
            end_session(process)
    pytest.skip(f"danted does not run here: {(directory / 'danted.log').read_text()[-500:]}")
