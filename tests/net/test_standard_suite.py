"""``netnet.socket`` stands the interpreter's own tests of its ``socket`` module, outside a loop and in a task. Where an
interpreter comes without its tests this is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import netnet.socket

PROGRAM = Path(__file__).with_name("standard_suite.py")

#: what differs, and why
DIFFERENT = {
    "GeneralModuleTests.testRefCountGetNameInfo": "counts references inside an except block; a frame more holds one",
    "NonBlockingTCPTests.testInitNonBlocking": "the descriptor never blocks, whatever the time-out",
    "NonBlockingTCPTests.testSetBlocking": "the descriptor never blocks, whatever the time-out",
    "NonBlockingTCPTests.testSetBlocking_overflow": "the descriptor never blocks, whatever the time-out",
    "NonblockConstantTest.test_SOCK_NONBLOCK": "the descriptor never blocks, whatever the time-out",
    "TestExceptions.test_setblocking_invalidfd": "a time-out is no system call, so it does not find what was closed behind",
}


@pytest.fixture(scope="module")
def outcomes():
    """How each test ended, outside a loop and in a task; the two run side by side."""
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_socket") is None:
        pytest.skip("this interpreter comes without its own tests")
    arguments = {"outside": [], "task": ["task"]}
    running = {
        where: subprocess.Popen(
            [sys.executable, "-W", "ignore", PROGRAM, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for where, more in arguments.items()
    }
    try:
        return {where: (*process.communicate(timeout=200), process.returncode) for where, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("where", ["outside", "task"])
def test_the_standard_library_s_own_tests(outcomes, where):
    out, errors, status = outcomes[where]
    assert status == 0, errors
    ended = json.loads(out.splitlines()[-1])
    failed = {name: how for name, how in ended.items() if how not in ("ok", "skipped")}
    assert {name: how for name, how in failed.items() if name not in DIFFERENT} == {}
    assert set(failed) <= set(DIFFERENT)
    assert sum(how == "ok" for how in ended.values()) > 500


def test_every_name_of_the_standard_module_is_there():
    import socket as standard

    assert {name for name in dir(standard) if name not in dir(netnet.socket)} == set()
    for name, value in vars(standard).items():
        if name.isupper() and not name.startswith("_"):
            assert getattr(netnet.socket, name) is value
    assert netnet.socket.__all__ == standard.__all__
    assert netnet.socket.socket is netnet.Socket
    assert netnet.socket.create_connection is not standard.create_connection
