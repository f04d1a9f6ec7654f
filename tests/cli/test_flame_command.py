"""``netnet flame`` as it is used: real programs, real signals; exit statuses, streams, files and messages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from netnet.errors import UsageError
from netnet.flame import outside
from netnet.flame.stacks import parse
from tests.flame.programs import (
    BURNING,
    SECONDS_MAX,
    SERVING,
    environment,
    finished,
    first_line,
    needs_proc,
    python,
    share,
    started,
    wait_until,
)

pytestmark = needs_proc


@pytest.fixture
def spy():
    """Skips where py-spy is missing, or may not look at a child of ours."""
    try:
        outside.py_spy()
        with started(["sleep", "60"]) as process:
            outside.check_rights(process.pid)
    except UsageError as error:
        pytest.skip(str(error))


def flame(*arguments):
    return python("-m", "netnet", "flame", *arguments)


def run(*arguments, stdin=""):
    return subprocess.run(
        flame(*arguments),
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


@pytest.fixture
def program(tmp_path):
    def write(code):
        (tmp_path / "program.py").write_text(textwrap.dedent(code))
        return str(tmp_path / "program.py")

    return write


BOTH = pytest.mark.parametrize("by_task", [False, True], ids=["py-spy", "by task"])


def options(by_task, request):
    """The option, once it is sure that it can be had."""
    if not by_task:
        request.getfixturevalue("spy")
    return ["--by-task"] if by_task else []


def busy(port, seconds):
    """Clients that keep a server busy."""
    clients = [socket.create_connection(("127.0.0.1", port), SECONDS_MAX) for _ in range(8)]
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            for conn in clients:
                conn.sendall(b"x")
            for conn in clients:
                assert conn.recv(1000)
    finally:
        for conn in clients:
            conn.close()


def processor_seconds(pid):
    """What a process has used so far."""
    with open(f"/proc/{pid}/stat") as file:
        user, system = file.read().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_server_with_workers_by_task(program, tmp_path):
    """Sampled until SIGTERM, which ends it in good order and is no end for the one who samples."""
    out = tmp_path / "out.folded"
    with started(flame("--by-task", "-o", out, "--top", "5", "--", *python(program(SERVING)))) as process:
        busy(int(first_line(process)), 0.8)
        process.send_signal(signal.SIGTERM)
        status, told, errors = finished(process)
    assert status in (0, 128 + signal.SIGTERM), errors
    assert "self   total  frame" in told
    stacks = parse(out.read_text())
    assert share(stacks, "task: Server._handle") > 0.5
    assert any(stack[:2] == ("group: main", "task: Server._handle") for stack in stacks)
    assert share(stacks, "answer (program.py") > 0.5


@BOTH
def test_seconds_end_a_server(program, tmp_path, by_task, request):
    out = tmp_path / "out.folded"
    more = options(by_task, request)
    with started(flame(*more, "-o", out, "--seconds", "1.5", "--", *python(program(SERVING)))) as process:
        busy(int(first_line(process)), 0.7)
        status, _, errors = finished(process)
    assert status == 0, errors
    assert share(parse(out.read_text()), "answer (program.py") > 0


@BOTH
@pytest.mark.parametrize("form", ["svg", "html", "folded", "json"])
def test_a_command_with_its_streams_and_its_status(program, tmp_path, by_task, form, request):
    code = """
        import sys, time
        until = time.process_time() + 0.8
        while time.process_time() < until:
            sum(range(1000))
        print("read", sys.stdin.read(), sys.argv[1:])
        sys.exit(7)
    """
    out = tmp_path / f"out.{form}"
    command = python(program(code), "--", "-o")
    done = run(*options(by_task, request), "-o", str(out), "--top", "3", "--", *command, stdin="its input")
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("read its input ['--', '-o']\n")
    assert "<module> (program.py:1)" in done.stdout
    assert f"samples: {out}" in done.stdout
    assert done.stderr == ""
    text = out.read_text()
    assert "program.py" in text
    if form == "json":
        assert json.loads(text)["profiles"][0]["type"] == "sampled"
    assert str(tmp_path) not in text.replace(f"{command[0]} {command[1]}", "")


@BOTH
def test_a_command_that_a_signal_kills(program, tmp_path, by_task, request):
    code = """
        import os, signal, time
        until = time.process_time() + 0.8
        while time.process_time() < until:
            sum(range(1000))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(*options(by_task, request), "-o", str(tmp_path / "out.svg"), "--", *python(program(code)))
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert (tmp_path / "out.svg").exists()  # without the last second, which nobody could write


@BOTH
def test_ctrl_c_is_the_commands(program, tmp_path, by_task, request):
    """A terminal sends it to both: the command decides what it means, and what was sampled is written."""
    code = """
        import sys, time
        try:
            while time.process_time() < 1:  # there is something to tell
                sum(range(1000))
            print("ready", flush=True)
            while True:
                sum(range(1000))
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(5)
    """
    out = tmp_path / "out.svg"
    with started(flame(*options(by_task, request), "-o", out, "--", *python(program(code)))) as process:
        first_line(process)
        os.killpg(process.pid, signal.SIGINT)
        status, told, errors = finished(process)
    assert status == 5, errors
    assert told.startswith("interrupted\n")
    assert out.exists()


@BOTH
def test_a_running_program(program, tmp_path, by_task, request):
    more = options(by_task, request)
    with started(python(program(BURNING), 60)) as process:
        pid = first_line(process)
        done = run(*more, "--pid", pid, "-o", str(tmp_path / "out.folded"), "--seconds", "0.5", "--rate", "100")
        assert done.returncode == 0, done.stderr
        assert process.poll() is None
    stacks = parse((tmp_path / "out.folded").read_text())
    assert share(stacks, "burn (program.py") > 0.8
    assert share(stacks, "task: burn") > 0.8 or not by_task


@BOTH
def test_ctrl_c_ends_the_sampling_of_a_running_program(program, tmp_path, by_task, request):
    more = options(by_task, request)
    out = tmp_path / "out.folded"
    with started(python(program(BURNING), 60)) as process:
        pid = first_line(process)
        with started(flame(*more, "--pid", pid, "-o", out, "--seconds", "300")) as sampling:
            assert b"sampling for 300 s" in sampling.stderr.readline()
            used = processor_seconds(pid)
            wait_until(lambda: processor_seconds(pid) > used + 0.5)
            sampling.send_signal(signal.SIGINT)
            status, told, errors = finished(sampling)
        assert status == 0, errors
        assert "samples:" in told
        assert process.poll() is None
    assert parse(out.read_text()).total > 0


@BOTH
def test_no_samples(tmp_path, by_task, request):
    done = run(*options(by_task, request), "-o", str(tmp_path / "out.svg"), "--", "true")
    assert done.returncode == 1
    assert "no samples: " in done.stderr
    assert not (tmp_path / "out.svg").exists()
    done = run(*options(by_task, request), "-o", str(tmp_path / "out.svg"), "--", "sh", "-c", "exit 9")
    assert done.returncode == 9


def test_another_sitecustomize_runs_as_well(program, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys; sys.from_site = __name__\n")
    code = """
        import sys, sitecustomize
        print(sys.from_site, sitecustomize.__file__, flush=True)
        sum(range(10000000))
    """
    done = subprocess.run(
        flame("--by-task", "-o", tmp_path / "out.svg", "--", *python(program(code))),
        env=environment() | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.stdout.startswith(f"sitecustomize {tmp_path / 'site' / 'sitecustomize.py'}\n"), done.stderr
    assert done.returncode == 0


OUT = ("-o", "out.svg")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "-o/--out"),
        (OUT, 1, "give either --pid PID, or -- and a command"),
        ((*OUT, "--pid", "1", "--", "true"), 1, "give either --pid PID, or -- and a command"),
        ((*OUT, "--native", "--by-task", "--", "true"), 1, "--native and --by-task do not go together"),
        (("-o", "out", "--", "true"), 1, "out: the name says no format"),
        (("-o", "out.xml", "--", "true"), 1, "out.xml: the name says no format"),
        (("-o", "/no/such/out.svg", "--", "true"), 1, "there is no folder /no/such"),
        ((*OUT, "--format", "pdf", "--", "true"), 2, "invalid choice"),
        ((*OUT, "--pid", "x"), 2, "'x' is no process number"),
        ((*OUT, "--seconds", "0", "--", "true"), 2, "'0' is no number between"),
        ((*OUT, "--seconds", "nan", "--", "true"), 2, "'nan' is no number between"),
        ((*OUT, "--rate", "-3", "--", "true"), 2, "--rate"),
        ((*OUT, "--rate", "20000", "--", "true"), 2, "between 0 and 10000"),
        ((*OUT, "--top", "-1", "--", "true"), 2, "--top"),
        ((*OUT, "--by-task", "--", "/no/such/program"), 127, "/no/such/program: No such file"),
        ((*OUT, "--by-task", "--", "/"), 126, "/: Permission denied"),
        ((*OUT, "--by-task", "--pid", str(os.getpid())), 1, "does not allow sampling by task"),
        ((*OUT, "--by-task", "--pid", "2147483647"), 1, "there is no process 2147483647"),
    ],
)
def test_messages(tmp_path, arguments, status, message):
    done = subprocess.run(
        flame(*arguments),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_py_spy_is_missing(tmp_path):
    """A Python in whose folder there is none, and a PATH without it."""
    code = "import sys; sys.executable = '/no/python'; from netnet.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "flame", "-o", str(tmp_path / "out.svg"), "--", "/bin/true"],
        env=environment() | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "netnet: py-spy is not installed, which samples whole processes: pip install 'netnet[bench]'\n",
    )
