"""Supervised workers, with real processes and real signals: who serves, who is replaced and when, what SIGHUP, SIGTERM,
Ctrl-C and the death of the supervisor do, and that nothing is left of anybody.

Each supervisor is a program in a session of its own. It tells what it does line by line on its standard output, log
records among them, and the tests wait for those lines, or connect. What a worker is made to do, a client asks it for.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import netnet
from netnet.net import workers
from netnet.net.serving import serve
from netnet.net.workers import Supervisor
from netnet.testing import VirtualClock

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs fork and /proc")

SECONDS_MAX = 6

COMMON = """
    import errno, gc, logging, os, select, signal, socket, sys, threading, time
    import netnet
    from netnet.net import serving, workers

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    class Lines(logging.Handler):
        def emit(self, record):
            say("log", record.levelname, self.format(record).replace("\\n", " | "))

    logging.getLogger("netnet").addHandler(Lines())
    logging.getLogger("netnet").setLevel(logging.INFO)

    def listen(address, real_listen=workers.listen, **options):
        sock = real_listen(address, **options)
        say("listens on", sock.getsockname()[1] if sock.family == socket.AF_INET else sock.getsockname())
        return sock

    workers.listen = listen

    def handler(conn):
        '''Answers one command after the other.'''
        try:
            while command := conn.recv(100).decode():
                word, _, rest = command.partition(" ")
                if word == "slow":
                    conn.sendall(b"begun %d" % os.getpid())
                    netnet.sleep(float(rest))
                    answer = "done"
                elif word == "block":  # the whole process, until the client says something
                    conn.sendall(b"blocked %d" % os.getpid())
                    select.select([conn.fileno()], [], [])
                    conn.recv(100)
                    answer = "free"
                elif word == "raise":
                    raise eval(rest)
                elif word == "fork":  # a child that stays, with everything that it has inherited
                    answer = os.fork()
                    if not answer:
                        while True:
                            signal.pause()
                else:
                    answer = eval(command)
                conn.sendall(str(answer).encode())
        except netnet.Cancelled:
            say("cut in", os.getpid())
            raise
"""

USUAL = """
    netnet.run(lambda: netnet.serve(source, handler, **options))
"""

#: with ``run_supervised``, for servers that are not made as ``serve`` makes them
OWN = """
    def run_supervised(new_server, count=2, drain_seconds=5.0):
        supervisor = workers.Supervisor(["127.0.0.1:0"], new_server, count, drain_seconds)
        netnet.run(supervisor.run)

    def usual():
        return serving.Server(handler, drain_seconds=5.0)
"""


def processes(session):
    """The processes of a session, dead ones that nobody has asked about among them: number → state."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    found[int(name)] = fields[0]
    return found


def until(condition, what, seconds=SECONDS_MAX):
    """Looks until *condition* holds; returns what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        select.select([], [], [], 0.005)
    raise AssertionError(f"{what}: not within {seconds} s")


class Program:
    """A program with a supervisor in it. What is left of its session at the end is killed, and an error."""

    def __init__(self, *code, environment=None, command=(), pass_fds=(), **variables):
        lines = [textwrap.dedent(COMMON), *(f"{name} = {value!r}" for name, value in variables.items())]
        lines += [textwrap.dedent(part) for part in code or (USUAL,)]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", "\n".join(lines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
            env={**os.environ, "PYTHONUNBUFFERED": "", **(environment or {})},
        )
        self.pid = self.process.pid
        self.lines: list[str] = []
        self.errors = b""
        self._buffer = b""
        self._collector = threading.Thread(target=self._collect)

    def _collect(self):
        self.errors = self.process.stderr.read()

    def __enter__(self):
        self._collector.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
        ended = self.process.returncode is not None
        left = {pid for pid, state in processes(self.pid).items() if state != "Z"} if ended else set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._collector.join(5)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        if kind is not None:
            sys.stderr.write("\n".join(self.lines) + "\n" + self.errors.decode())
        else:
            assert left == set(), "processes are left"

    def _read(self, seconds):
        if not select.select([self.process.stdout], [], [], max(0, seconds))[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self.lines += [line.decode() for line in lines]
        return bool(data)

    def expect(self, pattern, seconds=SECONDS_MAX, *, count=1, start=0):
        """Waits until so many lines match; returns the matches."""
        end = time.monotonic() + seconds
        while True:
            found = [match for line in self.lines[start:] if (match := re.search(pattern, line))]
            if len(found) >= count:
                return found
            assert self._read(end - time.monotonic()), f"{pattern!r}: {len(found)} of {count} lines"

    def says(self, pattern):
        """Whether it has said so until now."""
        while self._read(0):
            pass
        return any(re.search(pattern, line) for line in self.lines)

    def pids(self, count, start=0):
        """Of the workers that were started, in this order."""
        return [int(match[1]) for match in self.expect(r"started as process (\d+)", count=count, start=start)]

    def mark(self):
        """How many lines it has said until now."""
        self.says("")
        return len(self.lines)

    def address(self):
        return ("127.0.0.1", int(self.expect(r"^listens on (\d+)")[0][1]))

    def catches(self, number):
        """Whether it has a handler for the signal, see proc(5)."""
        caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{self.pid}/status").read_text())[1]
        return int(caught, 16) >> (number - 1) & 1

    def send(self, number):
        """Sends a signal, once it is listened to."""
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            until(lambda: self.catches(number), f"{number!r} is listened to")
        self.process.send_signal(number)

    def serving(self, count):
        """The workers that were started first, when each has served somebody."""
        pids = self.pids(count)
        waiting = set(pids)
        until(lambda: waiting.discard(pid_at(self.address())) or not waiting, f"{waiting} serve")
        return pids

    def status(self, seconds=SECONDS_MAX):
        """Reads on until it has ended."""
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass
        status = self.process.wait(max(0.01, end - time.monotonic()))
        self._collector.join(1)  # its last words may still be on their way
        return status

    def stop(self):
        """SIGTERM, and nothing is to be left."""
        self.send(signal.SIGTERM)
        assert self.status() == 143
        assert processes(self.pid) == {}
        assert self.errors == b""


def connect(address, seconds=10):
    if isinstance(address, str):
        conn = socket.socket(socket.AF_UNIX)
        conn.settimeout(seconds)
        conn.connect(address)
        return conn
    return socket.create_connection(address, timeout=seconds)


def asked(conn, command):
    conn.sendall(command.encode())
    return conn.recv(1000).decode()


def ask(address, command):
    with connect(address) as conn:
        return asked(conn, command)


def pid_at(address):
    return int(ask(address, "os.getpid()"))


def refused(address):
    with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return False


@contextlib.contextmanager
def connected_to(address, pid):
    """A connection that this worker has: of those that come by, the first."""
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            conn = stack.enter_context(connect(address))
            if asked(conn, "os.getpid()") == str(pid):
                yield conn
                return
        raise AssertionError(f"process {pid} takes no connection")


# -- who serves


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_address(count):
    """Each has a listener of its own on it, so that the kernel spreads the connections; the supervisor serves nobody."""
    with Program(source="127.0.0.1:0", options={"workers": count}) as program:
        listeners = program.expect("^listens on", count=count)
        assert len({match.string for match in listeners}) == 1
        pids = set(program.pids(count))
        assert program.pid not in pids
        seen = set()
        until(lambda: seen.add(pid_at(program.address())) or seen == pids, f"{pids} all serve")
        program.stop()


@pytest.mark.parametrize("kind", ["address", "listener"])
def test_unix_sockets(tmp_path, kind):
    path = str(tmp_path / "socket")
    code = USUAL if kind == "address" else USUAL.replace("source", "netnet.listen(source)")
    with Program(code, source=f"unix:{path}", options={"workers": 2}) as program:
        pids = set(program.pids(2))
        assert blocked_one_after_the_other(path, 2) == pids
        program.stop()
        assert refused(path)


def blocked_one_after_the_other(address, count):
    """Which processes serve, seen by blocking each that has answered."""
    with contextlib.ExitStack() as stack:
        conns, pids = [], set()
        for _ in range(count):
            conns.append(stack.enter_context(until(lambda: try_to_connect(address), "it listens")))
            word, _, pid = asked(conns[-1], "block").partition(" ")
            assert word == "blocked"
            pids.add(int(pid))
        for conn in conns:
            assert asked(conn, "go on") == "free"
        return pids


def try_to_connect(address):
    try:
        return connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        return None


def test_a_listener_is_shared():
    """The kernel wakes one of those that are not busy."""
    with netnet.listen("127.0.0.1:0") as listener:
        code = """
            source = netnet.Socket(fileno=fd)
            netnet.run(lambda: netnet.serve(source, handler, workers=3))
        """
        with Program(code, fd=listener.fileno(), pass_fds=[listener.fileno()]) as program:
            pids = set(program.pids(3))
            assert blocked_one_after_the_other(listener.getsockname(), 3) == pids
            program.stop()


def test_several_sources(tmp_path):
    path = str(tmp_path / "socket")
    code = """
        source = ["127.0.0.1:0", netnet.listen("127.0.0.2:0"), path]
        say("shared", source[1].getsockname()[1])
        netnet.run(lambda: netnet.serve(source, handler, workers=2))
    """
    with Program(code, path=f"unix:{path}") as program:
        pids = set(program.pids(2))
        shared = ("127.0.0.2", int(program.expect(r"^shared (\d+)")[0][1]))
        for address in (program.address(), shared, path):
            assert pid_at(address) in pids
        program.stop()


def test_the_limit_on_connections_is_for_each():
    with Program(source="127.0.0.1:0", options={"workers": 1, "max_connections": 2}) as program:
        with connect(program.address()) as one, connect(program.address()) as other:
            assert asked(one, "1") == asked(other, "1") == "1"
            with connect(program.address()) as third:
                third.sendall(b"3")
                third.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    third.recv(10)
                one.close()
                third.settimeout(10)
                assert third.recv(10) == b"3"
        program.stop()


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2"])
def test_counts_that_make_no_sense(run, count):
    with pytest.raises(ValueError, match="workers must be a whole number from 1 on"):
        run(lambda: serve("127.0.0.1:0", print, workers=count))


@pytest.mark.parametrize(
    "options", [{"max_connections": 0}, {"drain_seconds": "soon"}], ids=lambda options: next(iter(options))
)
def test_other_options_that_make_no_sense_are_said_to_the_caller(options):
    """As they are without workers; not to each worker again and again, which can only crash of it."""
    with Program(source="127.0.0.1:0", options={"workers": 2, **options}) as program:
        assert program.status(3) == 1
        assert not program.says("started as process")
        assert re.search(rb"(ValueError|TypeError): ", program.errors)


def test_an_address_in_use_is_said_to_the_caller():
    with netnet.listen("127.0.0.1:0") as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with Program(source=where, options={"workers": 2}) as program:
            assert program.status() == 1
            assert f"listen on {where}: Address already in use".encode() in program.errors
            assert not program.says("started as process")


def test_outside_a_run():
    with pytest.raises(netnet.UsageError):
        serve("127.0.0.1:0", print, workers=2)


def test_cancelled_it_ends_them_and_the_address_is_free():
    code = """
        def main():
            task = netnet.spawn(lambda: netnet.serve("127.0.0.1:0", handler, workers=2, drain_seconds=60))
            netnet.wait_readable(0)
            task.cancel()
            task.join()
            say("goes on")
        netnet.run(main)
    """
    with Program(code) as program:
        pids = program.pids(2)
        with connected_to(program.address(), pids[0]) as conn:
            program.process.stdin.write(b"x")
            program.process.stdin.flush()
            assert conn.recv(1) == b""
        assert program.status() == 0
        assert program.says("^goes on$")
        assert processes(program.pid) == {}
        assert program.says(f"^cut in {pids[0]}")
        assert refused(program.address())


# -- who is replaced

CRASHES = {
    "killed": (None, r"was killed by signal 9, Killed"),
    "exit status": ("os._exit(7)", r"ended with status 7"),
    "sys.exit": ("raise SystemExit(3)", r"ended with status 3"),
    "abort": ("os.abort()", r"was killed by signal 6, Aborted"),
    "SIGTERM": ("os.kill(os.getpid(), 15)", r"ended with status 143"),
    "an odd error": ("raise type('Odd', (BaseException,), {})('mine')", r"ended with status 1"),
}


@pytest.mark.parametrize("how", CRASHES)
def test_one_that_crashes_is_replaced_and_the_others_go_on(how):
    command, told = CRASHES[how]
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": 0.1}) as program:
        first, second = program.pids(2)
        with connected_to(program.address(), second) as steady, connected_to(program.address(), first) as conn:
            begun = time.monotonic()
            if command is None:
                os.kill(first, signal.SIGKILL)
            else:
                conn.sendall(command.encode())
            third = program.pids(3)[2]
            assert time.monotonic() - begun < 3
            program.expect(rf"log ERROR worker 0, process {first}, {told} after \d+\.\d s; a new one starts in 0 s")
            with contextlib.suppress(ConnectionResetError):
                assert conn.recv(100).decode() in ("", "None")
            with connected_to(program.address(), third):
                pass
            assert asked(steady, "os.getpid()") == str(second)
        assert set(processes(program.pid)) == {program.pid, second, third}
        assert "Z" not in processes(program.pid).values()
        program.send(signal.SIGTERM)
        assert program.status() == 143


def test_what_waits_in_the_queue_of_one_that_crashes_is_served_by_its_successor():
    with Program(source="127.0.0.1:0", options={"workers": 1}) as program:
        (pid,) = program.pids(1)
        address = program.address()
        with contextlib.ExitStack() as stack:
            busy = stack.enter_context(connect(address))
            assert asked(busy, "block") == f"blocked {pid}"
            waiting = [stack.enter_context(connect(address)) for _ in range(20)]
            for conn in waiting:
                conn.sendall(b"os.getpid()")
            os.kill(pid, signal.SIGKILL)
            assert {conn.recv(100).decode() for conn in waiting} == {str(program.pids(2)[1])}
        program.stop()


def test_one_that_cannot_start_is_tried_again_ever_more_rarely_and_the_others_go_on():
    code = """
        def new_server():
            if "worker 0" in failing:
                raise RuntimeError("no database")
            return usual()

        class First(workers.Supervisor):
            def _be_worker(self, slot, control):
                failing.append(f"worker {slot.number}")
                super()._be_worker(slot, control)

        failing = []
        netnet.run(First(["127.0.0.1:0"], new_server, 2, 5.0).run)
    """
    with Program(OWN, code) as program:
        pattern = r"log ERROR worker 0, process \d+, ended with status 1 after .* s; a new one starts in (\S+) s"
        pauses = [float(match[1]) for match in program.expect(pattern, count=5)]
        assert pauses[:5] == [0, 0.1, 0.2, 0.4, 0.8]
        assert program.says(r"log ERROR worker 0, process \d+, failed .*RuntimeError: no database")
        (other,) = [int(match[1]) for match in program.expect(r"worker 1 started as process (\d+)")]
        with contextlib.ExitStack() as stack:
            conns = [stack.enter_context(connect(program.address())) for _ in range(40)]
            for conn in conns:
                conn.sendall(b"os.getpid()")
            answered = select.select(conns, [], [], 5)[0]
            assert {conn.recv(100).decode() for conn in answered} == {str(other)}
        program.stop()


def test_sigterm_does_not_wait_for_a_pause_before_the_next_try():
    code = """
        workers.PAUSE_SECONDS = 30
        run_supervised(usual, 1)
    """
    with Program(OWN, code) as program:
        for count in (1, 2):
            os.kill(program.pids(count)[-1], signal.SIGKILL)
        program.expect("a new one starts in 30 s")
        program.send(signal.SIGTERM)
        assert program.status(2) == 143


class Slow(Supervisor):
    """Notes when it would start a worker."""

    def __init__(self):
        super().__init__([], list, 1, 0.0)
        self.starts = []

    def _start(self, slot):
        self.starts.append(netnet.now())
        raise LookupError("started")


@pytest.mark.parametrize(
    ("crashes", "lived", "pause"),
    [
        (0, 0, 0),
        (1, 0, 0.1),
        (2, 0, 0.2),
        (5, 9.9, 1.6),
        (9, 0, 25.6),
        (10, 0, 30),
        (100, 0, 30),
        (2000, 0, 30),  # a day of it
        (100_000, 0, 30),
        (2000, 10, 0),
        (100, 1e6, 0),
    ],
)
def test_how_long_the_pause_is(crashes, lived, pause):
    def main():
        supervisor = Slow()
        slot = workers._Slot(0, [], crashes=crashes)
        begun = netnet.now()
        slot.worker = workers._Worker(os.getpid(), None, begun)
        netnet.sleep(lived)
        before = netnet.now()
        with pytest.raises(LookupError):
            supervisor._replace_crashed(slot, slot.worker, 0)
        assert supervisor.starts == [pytest.approx(before + pause)]

    netnet.run(main, clock=VirtualClock())


def test_one_that_has_left_a_child_behind_is_replaced_all_the_same():
    """The child has inherited every descriptor, so that the end of the worker is not the end of any stream."""
    with Program(source="127.0.0.1:0", options={"workers": 1}) as program:
        (pid,) = program.pids(1)
        child = int(ask(program.address(), "fork"))
        os.kill(pid, signal.SIGKILL)
        try:
            program.expect("started as process", 3, count=2)
        finally:
            os.kill(child, signal.SIGKILL)
        program.send(signal.SIGTERM)
        assert program.status() == 143


@pytest.mark.parametrize("when", ["a crash", "SIGHUP"])
def test_where_no_process_can_be_made_for_a_moment_the_others_go_on(when):
    """EAGAIN of fork(2): too many processes, too little memory. It passes, and is tried again."""
    code = """
        def fork(real_fork=os.fork):
            if failures and os.getpid() == supervisor and started:
                failures.pop()
                say("fork fails")
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return real_fork()

        os.fork, supervisor, failures, started = fork, os.getpid(), [1], []
        def main():
            task = netnet.spawn(lambda: netnet.serve("127.0.0.1:0", handler, workers=2, drain_seconds=5))
            netnet.wait_readable(0)
            started.append(1)
            say("from now on")
            task.result()
        netnet.run(main)
    """
    with Program(code) as program:
        first, second = program.pids(2)
        program.process.stdin.write(b"x")
        program.process.stdin.flush()
        program.expect("^from now on")
        with connected_to(program.address(), second) as steady:
            if when == "SIGHUP":
                program.send(signal.SIGHUP)
            else:
                os.kill(first, signal.SIGKILL)
            program.expect("^fork fails")
            if when == "SIGHUP":
                program.send(signal.SIGHUP)
            program.pids(3)
            assert asked(steady, "os.getpid()") == str(second)
        program.send(signal.SIGTERM)
        assert program.status() == 143


# -- SIGHUP


class Load:
    """Clients that ask all the time, each question over a connection of its own, and note what goes wrong."""

    def __init__(self, address, clients=6, command="slow 0.02"):
        self.address = address
        self.command = command
        self.answers: list[str] = []
        self.errors: list[BaseException | str] = []
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self):
        while not self._enough.is_set():
            try:
                with connect(self.address) as conn:
                    conn.sendall(self.command.encode())
                    data = b""
                    while not data.endswith(b"done"):
                        chunk = conn.recv(100)
                        if not chunk:
                            raise EOFError(f"after {data!r}")
                        data += chunk
                self.answers.append(data.decode())
            except (OSError, EOFError) as error:
                self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def more(self, count=20):
        """Waits for so many more answers."""
        goal = len(self.answers) + count
        until(lambda: len(self.answers) >= goal or self.errors, f"{goal} answers")


@pytest.mark.parametrize("shared", [False, True], ids=["address", "listener"])
def test_sighup_under_load_refuses_nobody_and_loses_nothing(shared):
    """Three times, and twice in a row."""
    code = """
        source = netnet.listen("127.0.0.1:0") if shared else "127.0.0.1:0"
        if shared:
            say("listens on", source.getsockname()[1])
        netnet.run(lambda: netnet.serve(source, handler, workers=2, drain_seconds=10))
    """
    with Program(code, shared=shared) as program:
        old = program.pids(2)
        with Load(program.address()) as load:
            for _ in range(3):
                load.more()
                start = program.mark()
                program.send(signal.SIGHUP)
                new = program.pids(2, start)
                for pid in old:
                    program.expect(rf"log INFO worker \d, process {pid}, ended with status 0", start=start)
                old = new
            load.more()
            start = program.mark()
            program.send(signal.SIGHUP)
            program.pids(1, start)
            program.send(signal.SIGHUP)  # while the first is under way: once more, then
            new = program.pids(4, start)
            for pid in old + new[:2]:
                program.expect(rf"log INFO worker \d, process {pid}, ended with status 0", start=start)
            load.more()
        assert load.errors == []
        assert {int(answer.split("done")[0].split()[1]) for answer in load.answers[-6:]} <= set(new[2:])
        assert set(processes(program.pid)) == {program.pid, *new[2:]}
        assert not program.says("log ERROR")
        program.stop()


def test_sighup_right_after_the_start():
    """From the moment that there are workers it is no longer what ends the supervisor, and them with it or not."""
    code = """
        class Early(workers.Supervisor):
            def _start(self, slot):
                worker = super()._start(slot)
                if slot.number == 0 and not done:
                    done.append(1)
                    signal.raise_signal(signal.SIGHUP)
                return worker

        done = []
        netnet.run(Early(["127.0.0.1:0"], usual, 2, 5.0).run)
    """
    with Program(OWN, code) as program:
        program.pids(4)
        program.stop()


def test_sighup_lets_those_that_stand_finish_and_cuts_the_idle_ones_at_the_deadline():
    with Program(source="127.0.0.1:0", options={"workers": 1, "drain_seconds": 0.7}) as program:
        (old,) = program.pids(1)
        with connect(program.address()) as conn, connect(program.address()) as idle:
            assert asked(idle, "1") == "1"
            assert asked(conn, "slow 0.2") == f"begun {old}"
            program.send(signal.SIGHUP)
            new = program.pids(2)[1]
            until(lambda: pid_at(program.address()) == new, "new ones go to the successor")
            assert conn.recv(100) == b"done"
            assert asked(idle, "os.getpid()") == str(old)
            assert idle.recv(1) == b""
            program.expect(f"^cut in {old}")
        program.expect(f"process {old}, ended with status 0")
        program.stop()


FAILING_SUCCESSORS = """
    def new_server():
        if os.path.exists(broken):
            say("begins", os.getpid())
            while os.path.exists(slow):
                time.sleep(0.005)
            raise RuntimeError("bad configuration")
        return usual()

    workers.GRACE_SECONDS = 0.3
    run_supervised(new_server)
"""


@pytest.fixture
def flags(tmp_path):
    """Files that tell a program what to do: while they are there, successors fail, or are slow."""
    return {"broken": str(tmp_path / "broken"), "slow": str(tmp_path / "slow")}


def test_sighup_where_the_successor_fails_leaves_the_old_ones(flags):
    with Program(OWN, FAILING_SUCCESSORS, **flags) as program:
        old = program.serving(2)
        with connected_to(program.address(), old[0]) as conn:
            Path(flags["broken"]).touch()
            program.send(signal.SIGHUP)
            failed = program.pids(3)[2]
            program.expect(rf"log ERROR worker 0: its successor, process {failed}, is not ready; the old one stays")
            assert asked(conn, "os.getpid()") == str(old[0])
            assert {pid_at(program.address()) for _ in range(30)} <= set(old)
            until(lambda: set(processes(program.pid)) == {program.pid, *old}, "only the old ones are there")
            assert not program.says(f"{failed}, .*a new one starts"), "it told of a start that it does not make"

            Path(flags["broken"]).unlink()
            start = program.mark()
            program.send(signal.SIGHUP)
            new = program.pids(2, start)
            program.expect(f"process {old[1]}, ended with status 0")
            conn.close()
            program.expect(f"process {old[0]}, ended with status 0")
        assert set(processes(program.pid)) == {program.pid, *new}
        program.stop()


def test_the_number_of_a_successor_that_has_failed_is_not_killed_later(flags):
    """It may be somebody else's by then."""
    code = FAILING_SUCCESSORS.replace(
        "run_supervised", "workers.kill = lambda pid: say('kills', pid)\n    run_supervised"
    )
    with Program(OWN, code, **flags) as program:
        program.serving(2)
        Path(flags["broken"]).touch()
        program.send(signal.SIGHUP)
        program.expect("is not ready; the old one stays")
        with pytest.raises(AssertionError, match="0 of 1"):
            program.expect("^kills", 0.6)
        program.stop()


def test_an_old_one_that_crashes_while_its_successor_fails_is_replaced(flags):
    with Program(OWN, FAILING_SUCCESSORS, **flags) as program:
        old = program.serving(2)
        Path(flags["slow"]).touch()
        Path(flags["broken"]).touch()
        program.send(signal.SIGHUP)
        failing = int(program.expect(r"^begins (\d+)")[0][1])
        start = program.mark()
        os.kill(old[0], signal.SIGKILL)
        program.expect(f"process {old[0]}, was killed by signal 9")
        Path(flags["broken"]).unlink()
        Path(flags["slow"]).unlink()
        program.expect(f"process {failing}, ended with status")
        program.expect("worker 0 started as process", 3, start=start)
        program.stop()


def test_sighup_during_a_pause_before_a_worker_is_replaced():
    """The successor takes the place, once."""
    code = """
        workers.PAUSE_SECONDS = 0.4
        run_supervised(usual)
    """
    with Program(OWN, code) as program:
        first, second = program.pids(2)
        os.kill(first, signal.SIGKILL)
        third = program.pids(3)[2]
        os.kill(third, signal.SIGKILL)
        program.expect(rf"process {third}, .* a new one starts in 0.4 s")
        start = program.mark()
        program.send(signal.SIGHUP)
        new = program.pids(2, start)
        program.expect(f"process {second}, ended with status 0")
        with pytest.raises(AssertionError, match="2 of 3"):
            program.expect("started as process", 0.6, count=3, start=start)
        assert set(processes(program.pid)) == {program.pid, *new}
        program.stop()


def test_a_worker_ignores_sighup_and_ctrl_c():
    with Program(source="127.0.0.1:0", options={"workers": 1}) as program:
        (pid,) = program.pids(1)
        with connect(program.address()) as conn:
            assert asked(conn, "1") == "1"
            for number in (signal.SIGHUP, signal.SIGINT):
                os.kill(pid, number)
                assert asked(conn, "os.getpid()") == str(pid)
        program.stop()


# -- SIGTERM and Ctrl-C


def test_sigterm_under_load_finishes_what_was_begun():
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": 10}) as program:
        address = program.address()
        program.pids(2)
        with contextlib.ExitStack() as stack:
            conns = [stack.enter_context(connect(address)) for _ in range(40)]
            for conn in conns:
                assert asked(conn, "slow 0.5").startswith("begun")
            begun = time.monotonic()
            program.send(signal.SIGTERM)
            for conn in conns:
                assert conn.recv(100) == b"done"
                conn.close()
            assert program.status() == 143
            assert time.monotonic() - begun < 3
        assert processes(program.pid) == {}
        assert not program.says("log ERROR|cut in")
        assert program.errors == b""


@pytest.mark.parametrize("shared", [False, True], ids=["address", "listener"])
def test_while_they_drain_new_connections_are_refused(shared):
    """As in one process. Nobody would serve them; so nobody may leave them waiting until the end."""
    code = """
        source = netnet.listen("127.0.0.1:0") if shared else "127.0.0.1:0"
        if shared:
            say("listens on", source.getsockname()[1])
        netnet.run(lambda: netnet.serve(source, handler, workers=2, drain_seconds=20))
    """
    with Program(code, shared=shared) as program:
        program.pids(2)
        with connect(program.address()) as conn:
            assert asked(conn, "1") == "1"
            program.send(signal.SIGTERM)
            until(lambda: refused(program.address()), "new connections are refused", 2)
            assert asked(conn, "slow 0.1").startswith("begun")
            assert conn.recv(100) == b"done"
            conn.close()
            assert program.status() == 143


def test_at_the_deadline_the_idle_ones_are_cut_and_one_that_does_not_hear_is_killed():
    code = """
        workers.GRACE_SECONDS = 0.5
        netnet.run(lambda: netnet.serve("127.0.0.1:0", handler, workers=2, drain_seconds=0.3))
    """
    with Program(code) as program:
        deaf, other = program.pids(2)
        with connected_to(program.address(), deaf) as busy, connected_to(program.address(), other) as idle:
            assert asked(busy, "block") == f"blocked {deaf}"
            program.send(signal.SIGTERM)
            assert idle.recv(1) == b""
            assert program.status(5) == 143
        program.expect(f"process {other}, ended with status 0")
        program.expect(f"process {deaf}, was killed by signal 9")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_them_at_once(number):
    """A second SIGTERM does not wait for draining; nor do those that are asked to end now. Handlers still clean up."""
    with Program(source="127.0.0.1:0", options={"workers": 1, "drain_seconds": 60}) as program:
        (pid,) = program.pids(1)
        with connect(program.address()) as conn:
            assert asked(conn, "1") == "1"
            program.send(signal.SIGTERM)
            assert asked(conn, "slow 0.1").startswith("begun")
            assert conn.recv(100) == b"done"
            program.send(number)
            assert program.status(3) in (143, -signal.SIGINT)
            assert program.says(f"^cut in {pid}")
        assert processes(program.pid) == {}


@pytest.mark.parametrize("seconds", [0, 30])
def test_ctrl_c_in_a_terminal(seconds):
    """Everybody in it gets the signal; the workers leave it to their supervisor. Handlers clean up."""
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": seconds}) as program:
        pids = program.pids(2)
        with connected_to(program.address(), pids[0]) as conn:
            os.killpg(program.pid, signal.SIGINT)
            assert conn.recv(1) == b""
            assert program.status(4) == -signal.SIGINT
        assert processes(program.pid) == {}
        assert program.says(f"^cut in {pids[0]}")
        assert not program.says("log ERROR|a new one starts")
        assert program.errors.count(b"Traceback") == 1, "of the supervisor's own KeyboardInterrupt"


@pytest.mark.parametrize("seconds", [0, 10])
def test_sigterm_to_all_of_them(seconds):
    """As systemd sends it: to the supervisor and to each worker. What was begun finishes."""
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": seconds}) as program:
        program.serving(2)
        with connect(program.address()) as conn:
            assert asked(conn, "slow 0.3").startswith("begun")
            os.killpg(program.pid, signal.SIGTERM)
            assert conn.recv(100) == (b"done" if seconds else b"")
        assert program.status(5) == 143
        assert processes(program.pid) == {}


def test_sigterm_to_all_of_them_is_no_crash_of_the_workers():
    """Also where the supervisor hears of their end in the same moment as of its own: it starts nobody."""
    with Program(source="127.0.0.1:0", options={"workers": 2}) as program:
        pids = program.serving(2)
        program.send(signal.SIGSTOP)
        os.killpg(program.pid, signal.SIGTERM)
        until(lambda: [processes(program.pid)[pid] for pid in pids] == ["Z", "Z"], "the workers end")
        os.kill(program.pid, signal.SIGCONT)
        assert program.status() == 143
        assert len(program.pids(2)) == 2


def test_sigterm_right_after_the_start():
    """Workers that have hardly begun, with several listeners, end in good order, too."""
    code = """
        class Early(workers.Supervisor):
            def _start(self, slot):
                worker = super()._start(slot)
                if slot.number == 1:
                    self._drain()
                return worker

        netnet.run(Early(["127.0.0.1:0", "127.0.0.2:0"], usual, 2, 5.0).run)
        say("through")
    """
    with Program(OWN, code) as program:
        pids = program.pids(2)
        assert program.status() == 0
        for pid in pids:
            assert program.says(f"log INFO worker ., process {pid}, ended with status 0")
        assert program.says("^through")
        assert not program.says("log ERROR")


def test_sighup_while_they_drain_starts_nobody():
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": 20}) as program:
        program.pids(2)
        with connect(program.address()) as conn:
            assert asked(conn, "1") == "1"
            program.send(signal.SIGTERM)
            program.expect(r"ended with status 0")  # the worker that had nothing to do
            program.send(signal.SIGHUP)
            assert asked(conn, "slow 0.2").startswith("begun")
            assert conn.recv(100) == b"done"
        assert program.status() == 143
        assert len(program.expect("started as process", count=2)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_sighup_leaves_nobody_behind(flags, number):
    """The first successor is on its way, the second worker's turn has yet to come."""
    code = """
        def new_server():
            if os.path.exists(slow):
                say("begins", os.getpid())
                while os.path.exists(slow):
                    time.sleep(0.005)
            return usual()

        run_supervised(new_server, 3)
    """
    with Program(OWN, code, **flags) as program:
        program.serving(3)
        Path(flags["slow"]).touch()
        program.send(signal.SIGHUP)
        program.expect(r"^begins")
        program.send(number)
        until(lambda: len(processes(program.pid)) <= 2, "the old ones end")
        Path(flags["slow"]).unlink()
        assert program.status() == (143 if number == signal.SIGTERM else -signal.SIGINT)
        assert processes(program.pid) == {}
        assert len(program.expect("started as process")) == 4


# -- what they share, and what they do not


def test_when_the_supervisor_is_killed_its_workers_end():
    """They finish what was begun, and take nobody else."""
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": 10}) as program:
        program.pids(2)
        with connect(program.address()) as conn:
            assert asked(conn, "slow 0.3").startswith("begun")
            program.send(signal.SIGKILL)
            program.process.wait(5)
            until(lambda: refused(program.address()), "new connections are refused", 3)
            assert conn.recv(100) == b"done"
        until(lambda: not [pid for pid, state in processes(program.pid).items() if state != "Z"], "all end", 3)


def test_other_threads_of_the_supervisor_do_not_matter():
    """They are not in the workers, whatever lock they may hold at that moment."""
    code = """
        def busy():
            event = threading.Event()
            while True:
                log.debug("x")
                netnet.Semaphore(1).acquire()
                event.wait(0.0001)

        log = logging.getLogger("netnet.test")
        log.setLevel(logging.INFO)
        for _ in range(3):
            threading.Thread(target=busy, daemon=True).start()
        def main():
            assert netnet.to_thread(int, "7") == 7
            netnet.serve("127.0.0.1:0", handler, workers=3, drain_seconds=5)
        netnet.run(main)
    """
    with Program(code) as program:
        pids = program.pids(3)
        for _ in range(2):
            start = program.mark()
            program.send(signal.SIGHUP)
            pids = program.pids(3, start)
        until(lambda: set(processes(program.pid)) == {program.pid, *pids}, "the old ones end")
        for pid in pids:
            with connected_to(program.address(), pid) as conn:
                assert asked(conn, "threading.active_count()") == "1"
                assert asked(conn, "netnet.to_thread(int, '7')") == "7"
        program.send(signal.SIGTERM)
        assert program.status() == 143


def test_what_was_printed_before_is_printed_once():
    code = """
        sys.stdout.write("once;")
        sys.stderr.write("")
        def new_server():
            print("worker")
            return usual()
        def main():
            sys.stdout.write("then;\\n")
            run_supervised_here(new_server)
        def run_supervised_here(new_server):
            workers.Supervisor(["127.0.0.1:0"], new_server, 2, 1.0).run()
        netnet.run(main)
    """
    with Program(OWN, code) as program:
        pids = program.pids(2)
        for pid in pids:
            with connected_to(program.address(), pid) as conn:
                conn.sendall(b"sys.stdout.write(f'last words of {os.getpid()};\\n')")
                assert conn.recv(100)
        program.send(signal.SIGTERM)
        assert program.status() == 143
        text = "\n".join(program.lines)
        assert text.count("once;") == text.count("then;") == 1
        assert len(re.findall("^worker$", text, re.MULTILINE)) == 2
        for pid in pids:
            assert text.count(f"last words of {pid};") == 1


@pytest.mark.parametrize("how", ["closed", "None", "broken"])
def test_a_standard_output_that_cannot_be_written_to_is_no_reason_to_end(how):
    """Closed at the start, as daemons have it, or a pipe whose reader has gone."""
    code = """
        if how == "closed":
            assert sys.stdout is None
        elif how == "None":
            sys.stdout = None
        else:
            reader, writer = os.pipe()
            sys.stdout = os.fdopen(writer, "w")
            os.close(reader)
        quiet, say = os.dup(2), lambda *words: os.write(2, (" ".join(map(str, words)) + "\\n").encode())
        def main():
            task = netnet.spawn(lambda: netnet.serve("127.0.0.1:0", handler, workers=1))
            netnet.sleep(0)
            if how == "broken":
                sys.stdout.write("nobody reads this")
            task.result()
        netnet.run(main)
    """
    command = ("sh", "-c", 'exec "$@" 1>&-', "sh") if how == "closed" else ()
    with Program(code, how=how, command=command) as program:
        try:
            first = until(lambda: workers_of(program), "a worker starts", 3)
            os.kill(first[0], signal.SIGKILL)
            until(lambda: (workers_of(program) or first) != first, "it is replaced", 3)
            program.send(signal.SIGTERM)
            assert program.process.wait(5) in (
                143,
                120,
            )  # Python's own, for an output that it could not flush at its end
        finally:
            program.process.kill()


def workers_of(program):
    assert program.process.poll() is None, "the supervisor has ended"
    return sorted(pid for pid, state in processes(program.pid).items() if pid != program.pid and state != "Z")


def test_a_worker_has_no_descriptor_of_another():
    """Not its listener, not the stream to its supervisor; nor the supervisor's end of its own. Also not those of workers
    that came and went."""
    with Program(source="127.0.0.1:0", options={"workers": 3, "drain_seconds": 5}) as program:
        pids = program.pids(3)
        start = program.mark()
        program.send(signal.SIGHUP)
        old, pids = pids, program.pids(3, start)
        until(lambda: set(processes(program.pid)) == {program.pid, *pids}, "the old ones end")
        assert old
        supervisors = sockets(program.pid)
        for pid in pids:
            own, others = sockets(pid), [sockets(other) for other in pids if other != pid]
            assert len(own & supervisors) == 1, "its listener is all that they share"
            assert not own & set.union(*others)
        program.stop()


def sockets(pid):
    """Which sockets a process has, besides its loop's own pair."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            name = os.readlink(link)
            if name.startswith("socket:"):
                found.add(name)
    return found


def test_connections_of_the_supervisor_itself_are_not_disturbed():
    """It has clients and tasks of its own, which go on, while workers come and go."""
    code = """
        def main():
            client = netnet.connect(peer)
            def talk():
                for chunk in client:
                    client.sendall(chunk + b" from the supervisor")
            netnet.spawn(talk)
            netnet.serve("127.0.0.1:0", handler, workers=2, drain_seconds=1)
        netnet.run(main)
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with Program(code, peer=listener.getsockname()) as program:
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(10)
                pids = program.pids(2)
                assert asked(conn, "one") == "one from the supervisor"
                os.kill(pids[0], signal.SIGKILL)
                program.pids(3)
                program.send(signal.SIGHUP)
                program.pids(5)
                assert asked(conn, "two") == "two from the supervisor"
                assert pid_at(program.address()) != program.pid
                program.send(signal.SIGTERM)
                assert conn.recv(100) == b""
            assert program.status() == 143


def test_the_options_of_the_run_hold_in_the_workers_too():
    code = """
        netnet.run(lambda: netnet.serve("127.0.0.1:0", handler, workers=1), threads=False, poller="select")
    """
    with Program(code) as program:
        assert ask(program.address(), "netnet.current_loop().poller.name") == "select"
        assert ask(program.address(), "netnet.current_loop().threads") == "False"
        program.stop()


def test_in_an_os_thread_that_is_not_the_main_one():
    """Signals do not come there, so it has to be cancelled. Else all is as usual."""
    code = """
        def main():
            task = netnet.spawn(lambda: netnet.serve("127.0.0.1:0", handler, workers=2, drain_seconds=5))
            try:
                netnet.wait_readable(0)
                task.cancel()
                task.join()
                say("through")
            finally:
                if task.done:
                    task.result()
        thread = threading.Thread(target=netnet.run, args=(main,))
        thread.start()
        thread.join()
    """
    with Program(code) as program:
        if not program.expect("started as process|UsageError")[0][0].startswith("started"):
            return
        pids = program.pids(2)
        os.kill(pids[0], signal.SIGKILL)
        third = program.pids(3)[2]
        with connected_to(program.address(), third) as conn:
            assert asked(conn, "threading.current_thread() is threading.main_thread()") == "True"
        program.process.stdin.write(b"x")
        program.process.stdin.flush()
        program.expect("^through")
        assert program.status() == 0
        assert processes(program.pid) == {}


# -- the service manager


@pytest.fixture
def manager(tmp_path):
    """The service manager's socket, which ``NOTIFY_SOCKET`` names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(5)
        yield one


def notices(manager, count):
    return [manager.recv(1000).decode().partition("\n")[0] for _ in range(count)]


def nothing_more(manager):
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_the_manager_is_told_by_the_supervisor_alone(manager):
    environment = {"NOTIFY_SOCKET": manager.getsockname()}
    with Program(source="127.0.0.1:0", options={"workers": 2, "drain_seconds": 1}, environment=environment) as program:
        assert notices(manager, 1) == ["READY=1"]
        pids = program.pids(2)
        os.kill(pids[0], signal.SIGKILL)
        program.pids(3)
        program.send(signal.SIGHUP)
        assert notices(manager, 2) == ["RELOADING=1", "READY=1"]
        program.send(signal.SIGTERM)
        assert program.status() == 143
        assert notices(manager, 1) == ["STOPPING=1"]
        nothing_more(manager)


def test_ready_means_all_of_them(manager, flags):
    """Not before the last one is, also where it has failed at first."""
    code = """
        def new_server():
            say("begins", os.getpid())
            while os.path.exists(slow):
                time.sleep(0.005)
            if os.path.exists(broken):
                os.unlink(broken)
                raise RuntimeError("not yet")
            return usual()
        run_supervised(new_server)
    """
    Path(flags["slow"]).touch()
    Path(flags["broken"]).touch()
    with Program(OWN, code, environment={"NOTIFY_SOCKET": manager.getsockname()}, **flags) as program:
        program.expect("^begins", count=2)
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(1000)
        manager.settimeout(4)
        Path(flags["slow"]).unlink()
        program.expect("a new one starts in 0 s")
        program.pids(3)
        assert notices(manager, 1) == ["READY=1"]
        program.stop()


def test_ctrl_c_tells_the_manager_too(manager):
    environment = {"NOTIFY_SOCKET": manager.getsockname()}
    with Program(source="127.0.0.1:0", options={"workers": 1}, environment=environment) as program:
        assert notices(manager, 1) == ["READY=1"]
        program.send(signal.SIGINT)
        assert program.status() == -signal.SIGINT
        manager.settimeout(0.5)
        assert notices(manager, 1) == ["STOPPING=1"]


# -- listeners


class Accepts:
    """A server that serves nobody."""

    def serve_all(self, listeners):
        netnet.sleep(1000)

    def begin_draining(self, seconds=None):
        pass


def opened(sources, count=2):
    """The listeners that a supervisor opens, by worker; and what it does with them at its end."""
    supervisor = Supervisor(sources, Accepts, count, 0)
    wanted = supervisor._open(workers.Plan(sources, count, 0))
    return supervisor, wanted


def test_the_same_text_twice_is_two_listeners(run):
    def main():
        supervisor, wanted = opened(["127.0.0.1:0", "127.0.0.1:0"])
        ports = [[listener.getsockname()[1] for listener in own] for own in wanted]
        supervisor._close_all()
        assert ports[0] == ports[1]
        assert ports[0][0] != ports[0][1]

    run(main)


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_that_somebody_else_has_is_an_error(run, reuse_port):
    """With SO_REUSEPORT both would have it, and share the connections, without anybody noticing."""

    def main():
        with netnet.listen("127.0.0.1:0", reuse_port=reuse_port) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                opened([f"127.0.0.1:{port}"])

    run(main)
