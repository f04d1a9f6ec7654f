"""Sampling a running program by task: who answers, who is left alone, and what is not trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import netnet
from netnet.errors import UsageError
from netnet.flame import attach, inside, private
from netnet.flame.frames import NO_GROUP
from netnet.flame.results import Results
from tests.flame.programs import (
    BURNING,
    SERVING,
    environment,
    first_line,
    needs_proc,
    python,
    share,
    started,
    wait_until,
)

pytestmark = needs_proc

#: a user that nobody is, and no other test run at the same time
OTHER_USER = 70_000 + 2 * os.getpid()


def program(tmp_path, code):
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    return tmp_path / "program.py"


def left_behind():
    """Files in this user's folder."""
    folder = os.path.join(private.PLACE, private.folder_of(os.geteuid()))
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def test_a_running_program(tmp_path):
    with started(python(program(tmp_path, BURNING), 60)) as process:
        pid = int(first_line(process))
        for _ in range(2):  # and again
            stacks = attach.sample(pid, 0.5)
            assert share(stacks, "task: burn") > 0.8
            assert share(stacks, "group: main") > 0.8
            assert share(stacks, "task: idle one") == 0
        assert process.poll() is None
        assert not {name for name in left_behind() if str(pid) in name}


def test_it_ends_with_the_program(tmp_path):
    with started(python(program(tmp_path, BURNING), 0.7)) as process:
        stacks = attach.sample(int(first_line(process)), 60)
        assert share(stacks, "task: burn") > 0.5


def test_the_workers_of_a_supervisor(tmp_path):
    with started(python(program(tmp_path, SERVING))) as process:
        port = int(first_line(process))
        stop = threading.Event()
        thread = threading.Thread(target=keep_busy, args=(port, stop))
        thread.start()
        try:
            stacks = attach.sample(process.pid, 0.8)
        finally:
            stop.set()
            thread.join()
        assert share(stacks, "task: Server._handle") > 0.5
        assert share(stacks, "answer (program.py") > 0.5


def keep_busy(port, stop):
    """A client of both workers, by their chance."""
    import socket

    connections = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(8)]
    try:
        while not stop.is_set():
            for conn in connections:
                conn.sendall(b"x")
            for conn in connections:
                conn.recv(1000)
    finally:
        for conn in connections:
            conn.close()


def test_children_that_do_not_allow_it_are_left_alone(tmp_path):
    code = """
    import subprocess, sys
    from netnet import flame
    flame.allow()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    print("ready", flush=True)
    while child.poll() is None:
        sum(range(1000))
    """
    with started(python(program(tmp_path, code))) as process:
        first_line(process)
        with attach.Attached(process.pid) as attached:
            assert attached.left_out == 1
            attached.finish()
        assert process.poll() is None  # so the child lives


def test_a_program_that_does_not_allow_it_is_not_touched():
    with started(["sleep", "60"]) as process:
        with pytest.raises(UsageError, match=r"netnet\.flame\.allow\(\).*netnet flame --by-task --"):
            attach.sample(process.pid, 0.1)
        assert process.poll() is None


def test_one_that_handles_the_signal_otherwise_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(attach, "ANSWER_SECONDS", 0.3)
    code = """
    import signal
    signal.signal(signal.SIGPROF, lambda *_: None)
    print("ready", flush=True)
    while True:
        signal.pause()
    """
    with started(python(program(tmp_path, code))) as process:
        first_line(process)
        with pytest.raises(UsageError, match="did not answer"):
            attach.sample(process.pid, 0.1)
        assert not {name for name in left_behind() if str(process.pid) in name}


def test_there_is_no_such_process():
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(UsageError, match=f"there is no process {ended.pid}"):
        attach.sample(ended.pid, 0.1)


def test_the_signal_alone_does_nothing(tmp_path):
    with started(python(program(tmp_path, BURNING), 60)) as process:
        pid = int(first_line(process))
        for _ in range(20):
            os.kill(pid, signal.SIGPROF)
        assert attach.sample(pid, 0.2).total > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")
@pytest.mark.parametrize(
    "what", ["folder of another user", "folder that others can read", "file of another user", "link"]
)
def test_requests_that_are_not_trusted(tmp_path, what):
    """The program runs as another user than root, and looks into the folder of that user."""
    user = OTHER_USER
    code = f"""
    import os, signal, sys
    from netnet.flame import inside
    os.setgid({user}); os.setuid({user})
    inside.allow()
    print("ready", flush=True)
    for line in sys.stdin:
        print(inside._recorder is not None, flush=True)
    """
    place = os.path.join(private.PLACE, private.folder_of(user))
    subprocess.run(["rm", "-rf", place], check=True)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        os.mkdir(place, 0o700)
        os.chown(place, user if "folder" not in what or "others" in what else 0, -1)
        request = {"token": "1", "rate": 200, "seconds": 60}
        folder = os.open(place, os.O_RDONLY)
        private.write_json(folder, str(process.pid), request, user)
        os.close(folder)
        name = os.path.join(place, str(process.pid))
        if what == "folder that others can read":
            os.chmod(place, 0o755)
        elif what == "file of another user":
            os.chown(name, 0, -1)
        elif what == "link":
            os.rename(name, f"{name}.real")
            os.symlink(f"{name}.real", name)
        os.kill(process.pid, signal.SIGPROF)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "False\n"
        if what == "link":  # and so that it was not for another reason
            os.rename(f"{name}.real", name)
            os.kill(process.pid, signal.SIGPROF)
            wait_until(lambda: any(one.startswith("1-") for one in os.listdir(place)))
    finally:
        process.kill()
        process.communicate()
        subprocess.run(["rm", "-rf", place], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a program of another user")
def test_root_samples_a_program_of_another_user():
    user = OTHER_USER + 1
    code = f"""
    import os
    import netnet
    from netnet.flame.inside import allow
    os.setgid({user}); os.setuid({user})
    allow()
    def burn():
        while True:
            sum(range(1000))
    print("ready", flush=True)
    netnet.run(burn)
    """
    place = os.path.join(private.PLACE, private.folder_of(user))
    try:
        with started(python("-c", textwrap.dedent(code))) as process:
            first_line(process)
            stacks = attach.sample(process.pid, 0.3)
            assert share(stacks, "task: main") == 1
            assert {stack[0] for stack in stacks} == {NO_GROUP}
    finally:
        subprocess.run(["rm", "-rf", place], check=True)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"pid": 1, "done": True},
        {"pid": "1", "done": True, "stacks": []},
        {"pid": 1, "done": True, "stacks": [[1]]},
        {"pid": 1, "done": True, "stacks": [["1", ["a"]]]},
        {"pid": 1, "done": True, "stacks": [[1, [2]]]},
        {"pid": 1, "done": True, "stacks": {"a": 1}},
    ],
)
def test_results_that_are_none(tmp_path, value):
    folder = private.open_folder(str(folder_in(tmp_path)), os.geteuid())
    try:
        private.write_json(folder, "t-1-1.json", value)
        private.write_json(folder, "t-2-1.json", {"pid": 2, "done": False, "stacks": [[3, ["a", "b"]]]})
        private.write_json(folder, "other-1-1.json", {"pid": 3, "done": True, "stacks": [[3, ["c"]]]})
        results = Results(folder, "t", os.geteuid())
        assert results.stacks() == {("a", "b"): 3}
        assert results.pids() == {2}
        assert results.pids(done=True) == set()
        results.remove()
        assert os.listdir(folder) == ["other-1-1.json"]
    finally:
        os.close(folder)


def folder_in(path):
    folder = path / "private"
    folder.mkdir(mode=0o700)
    return folder


def test_a_folder_that_others_can_enter_is_refused(tmp_path):
    folder = folder_in(tmp_path)
    folder.chmod(0o750)
    with pytest.raises(UsageError, match="alone"):
        private.open_folder(str(folder), os.geteuid())
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(OSError):
        private.open_folder(str(link), os.geteuid())


def test_a_folder_is_made_once(tmp_path):
    path = str(tmp_path / "made")
    for _ in range(2):
        os.close(private.make_folder(path, os.geteuid()))
    assert os.stat(path).st_mode & 0o777 == 0o700


def test_allowing_is_for_the_main_thread():
    errors = []

    def work():
        with pytest.raises(UsageError, match="main thread") as told:
            inside.allow()
        errors.append(told.value)

    netnet.run(lambda: netnet.to_thread(work))
    assert errors


@pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="sys.remote_exec came with Python 3.14")
def test_a_program_that_has_not_allowed_it_but_can_be_told_to(tmp_path):
    code = """
    import netnet
    def burn():
        while True:
            sum(range(1000))
    print("ready", flush=True)
    netnet.run(burn)
    """
    with started(python(program(tmp_path, code))) as process:
        first_line(process)
        try:
            stacks = attach.sample(process.pid, 0.3)
        except UsageError as error:
            pytest.skip(f"this machine does not let it: {error}")
        assert share(stacks, "task: main") > 0.8
