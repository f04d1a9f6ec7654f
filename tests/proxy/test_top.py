"""``netnet proxy top``: rates of two documents, the picture as text, and the command with and without a terminal."""

from __future__ import annotations

import argparse
import builtins
import contextlib
import copy
import fcntl
import io
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

import pytest
from rich.console import Console

from netnet.proxy.document import NOTHING, STILL
from netnet.proxy.top import Changes, add_arguments, age, changes, key, picture, run, screen, size, state

PATIENCE_SECONDS = 20

ROW = {
    "pid": 10,
    "began": 5.0,
    "client": "192.0.2.1:99",
    "listener": "main",
    "protocol": "socks5",
    "user": "alice",
    "command": "connect",
    "target": "example.com:443",
    "address": "",
    "rule": "work",
    "route": "",
    "sent": 1000,
    "received": 2000,
    "moved": 0,
    "seconds": 65.0,
    "ending": None,
    "detail": "",
}


def worker(seat, pid, **more):
    return {
        "seat": seat,
        "pid": pid,
        "silent_seconds": 0.0,
        "answer_seconds": 0.001,
        "uptime_seconds": 100.0,
        "draining": False,
        "connections": 3,
        "process": NOTHING | {"pid": pid, "cpu_seconds": 1.0, "rss_bytes": 30_000_000},
        "loop": dict(STILL),
        **more,
    }


def sample():
    return {
        "version": "1.2.3",
        "time": 1e9,
        "instant": 50.0,
        "uptime_seconds": 100.0,
        "draining": False,
        "connections": 6,
        "totals": {
            "sessions": 100,
            "failed": 10,
            "endings": {"closed": 90, "refused": 10},
            "sent": 1000,
            "received": 2000,
            "logins_good": 5,
            "logins_failed": 6,
            "accept_errors": 0,
        },
        "supervisor": dict(NOTHING),
        "workers": [worker(0, 10), worker(1, 11)],
        "users": [{"user": "alice", "connections": 6, "sessions": 90, "sent": 1000, "received": 2000}],
        "top": [dict(ROW), ROW | {"began": 6.0, "client": "192.0.2.2:99", "user": None, "target": "quiet.example:22"}],
        "failures": [ROW | {"time": 1e9, "ending": "refused", "detail": "nobody listens"}],
        "bans": [{"client": "192.0.2.9", "seconds_left": 60.0}],
        "banned": 1,
    }


def later():
    """Two seconds after the sample."""
    status = copy.deepcopy(sample())
    status["instant"] += 2
    status["uptime_seconds"] += 2
    status["connections"] = 4
    status["totals"] |= {"sessions": 110, "failed": 11, "sent": 3000, "received": 8_002_000}
    status["top"][0] |= {"sent": 3000, "received": 8_002_000}
    status["users"][0] |= {"sent": 3000, "received": 8_002_000}
    status["workers"][0]["process"]["cpu_seconds"] = 2.0
    return status


def drawn(renderable, width=120, height=40):
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    console.print(renderable)
    return console.export_text()


# -- rates


def test_rates():
    seen = changes(sample(), later())
    assert (seen.sent, seen.received, seen.failed) == (1000, 4_000_000, 0.5)
    assert seen.new == (10 - 2) / 2
    assert seen.connections[key(ROW)] == (1000, 4_000_000)
    assert seen.users == {"alice": (1000, 4_000_000)}
    assert seen.busy == {10: 0.5, 11: 0.0}


def test_what_is_new_or_gone_has_no_rate():
    before, after = sample(), later()
    before["top"], before["users"], before["workers"] = [], [], []
    seen = changes(before, after)
    assert (seen.connections, seen.users, seen.busy) == ({}, {}, {})
    before, after = sample(), later()
    after["top"], after["users"], after["workers"] = [], [], []
    assert changes(before, after).connections == {}


@pytest.mark.parametrize(
    "before", [None, later(), sample() | {"uptime_seconds": 5000.0}, sample() | {"instant": 900.0}]
)
def test_documents_that_cannot_be_compared(before):
    assert changes(before, later()) == Changes(later())


# -- the picture


def test_the_picture():
    text = drawn(picture(changes(sample(), later()), rows=20))
    found = [line.split() for line in text.splitlines()]
    assert "netnet proxy 1.2.3" in text
    assert "in 4.0 MB/s   out 1.0 kB/s   4.0 new/s   0.5 failed/s" in text
    assert "1 banned" in text
    assert [
        "192.0.2.1:99",
        "alice",
        "example.com:443",
        "work",
        "1:05",
        "8.0",
        "MB",
        "3.0",
        "kB",
        "4.0",
        "MB",
        "1.0",
        "kB",
    ] in found
    assert any(line[:2] == ["192.0.2.2:99", "-"] for line in found)
    assert any("refused: nobody listens" in line for line in text.splitlines())
    assert any(line[:4] == ["0", "10", "3", "50%"] for line in found)


@pytest.mark.parametrize("width", [20, 60, 120, 250])
@pytest.mark.parametrize("height", [5, 10, 24, 80])
def test_a_screen_of_any_size_is_filled_and_no_more(width, height):
    status = later()
    status["top"] *= 100
    status["workers"] *= 20
    text = drawn(screen(changes(sample(), status), rows=height, columns=width), width, height)
    assert len(text.splitlines()) == height
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_narrow_screen_keeps_the_rates():
    seen = changes(sample(), later())
    narrow, wide = (drawn(screen(seen, rows=24, columns=columns), columns, 24) for columns in (80, 120))
    for text in (narrow, wide):
        row = next(line for line in text.splitlines() if line.startswith("192.0.2.1:99"))
        assert row.split()[-4:] == ["4.0", "MB", "1.0", "kB"]
        assert "example.com:443" in row
    assert "RULE" in wide
    assert "RULE" not in narrow


def test_the_fastest_stand_first():
    text = drawn(picture(changes(sample(), later()), rows=1))
    assert "example.com:443" in text.split("FAILED")[0]
    assert "quiet.example:22" not in text


EVIL = ["\x1b[2J\x1b]0;title\x07", "[bold red]x[/]", "[/]", "a\nb", "\u202etxt", "\x9b2J"]


@pytest.mark.parametrize("evil", EVIL)
def test_what_clients_send_writes_nothing_to_the_terminal(evil):
    status = later()
    for row in (*status["top"], *status["failures"]):
        row |= {"client": evil, "user": evil, "target": evil, "rule": evil, "detail": evil, "ending": evil}
    status["users"][0]["user"] = evil
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(picture(changes(sample(), status), rows=9))
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    if evil.startswith("["):
        assert evil in out.getvalue()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (worker(0, 1), "well"),
        (worker(0, 1, silent_seconds=70.0), "silent for 1:10"),
        (worker(0, 1, draining=True), "draining"),
        (worker(0, 1, answer_seconds=0.5), "slow"),
        (worker(0, 1, loop=STILL | {"lag_seconds": 0.2}), "slow"),
    ],
)
def test_states_of_a_worker(row, expected):
    assert state(row) == expected
    assert expected in drawn(picture(Changes(sample() | {"workers": [row]}), rows=3))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (-1, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (1_234_567, "1.2 MB"),
        (5e15, "5.0 PB"),
        (5e19, "50000 PB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90_061, "1 d 01:01")],
)
def test_ages(seconds, text):
    assert age(seconds) == text


# -- the command


@contextlib.contextmanager
def proxy(path, *documents):
    """Something that gives *documents* one after the other, the last one again and again."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        readers = []

        def serve():
            given = list(documents)
            with contextlib.suppress(OSError):
                while True:
                    reader = listener.accept()[0]
                    readers.append(reader)
                    with reader, reader.makefile("rb") as lines:
                        for _ in lines:
                            status = given.pop(0) if len(given) > 1 else given[0]
                            reader.sendall(json.dumps(status).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            for one in (listener, *readers):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            thread.join()


def options(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_once(tmp_path):
    path = tmp_path / "s"
    out = io.StringIO()
    with proxy(path, sample(), later()):
        assert run(options("--status", str(path), "--once", "--interval", "0.25"), output=out) == 0
    assert "4.0 MB/s" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_json(tmp_path):
    path = tmp_path / "s"
    out = io.StringIO()
    with proxy(path, sample()):
        assert run(options("--status", str(path), "--json", "--once"), output=out) == 0
    assert json.loads(out.getvalue()) == sample()


def test_json_again_and_again(tmp_path):
    path = tmp_path / "s"

    class Reader(io.StringIO):
        def flush(self):
            if self.getvalue().count("\n") == 2:
                raise KeyboardInterrupt

    out = Reader()
    with proxy(path, sample(), later()):
        assert run(options("--status", str(path), "--json", "--interval", "0.25"), output=out) == 0
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [sample(), later()]


def test_nobody_answers(tmp_path, capsys):
    assert run(options("--status", str(tmp_path / "nothing"), "--once")) == 1
    assert "no proxy answers at" in capsys.readouterr().err


def test_without_rich(tmp_path, monkeypatch, capsys):
    path = tmp_path / "s"
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("rich"):
            raise ImportError("no such thing")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with proxy(path, sample()):
        assert run(options("--status", str(path), "--once")) == 1
        assert "pip install 'netnet[proxy]'" in capsys.readouterr().err
        assert run(options("--status", str(path), "--once", "--json"), output=io.StringIO()) == 0


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x", "0.1", "99999"])
def test_intervals_that_make_no_sense(value, capsys):
    with pytest.raises(SystemExit):
        options("--interval", value)
    assert "seconds, from 0.25 to 3600" in capsys.readouterr().err


PROGRAM = """
import argparse, sys
from netnet.proxy.top import add_arguments, run
parser = argparse.ArgumentParser()
add_arguments(parser)
sys.exit(run(parser.parse_args()))
"""


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments):
        self.ours, theirs = pty.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text):
        """Reads until *text* has come."""
        while text not in self.seen:
            assert select.select([self.ours], [], [], PATIENCE_SECONDS)[0], self.seen
            self.seen += os.read(self.ours, 65536)

    def end(self):
        """Reads to the end; the exit status."""
        reader = threading.Thread(target=self._drain)
        reader.start()
        try:
            status = self.process.wait(PATIENCE_SECONDS)
            assert termios.tcgetattr(self.theirs) == self.before
            return status
        finally:
            self.process.kill()
            os.close(self.theirs)
            self.theirs = -1
            reader.join()

    def _drain(self):
        with contextlib.suppress(OSError):
            while data := os.read(self.ours, 65536):
                self.seen += data

    def close(self):
        if self.theirs >= 0:
            os.close(self.theirs)
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        os.close(self.ours)


@pytest.mark.parametrize("goodbye", [b"q", b"xyq", "Ctrl-C"])
def test_on_a_terminal(tmp_path, goodbye):
    path = tmp_path / "s"
    arguments = ("--status", str(path), "--interval", "0.25")
    with proxy(path, sample(), later()), contextlib.closing(Terminal(*arguments)) as terminal:
        terminal.wait_for(b"4.0 MB/s")
        terminal.seen = b""
        terminal.resize(20, 70)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for(b"example.com")
        if goodbye == "Ctrl-C":
            terminal.process.send_signal(signal.SIGINT)
        else:
            os.write(terminal.ours, goodbye)
        assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.seen, "the other screen was left"
    assert b"Traceback" not in terminal.seen


def test_a_proxy_that_is_started_again(tmp_path):
    path = tmp_path / "s"
    with contextlib.ExitStack() as stack:
        with proxy(path, sample()):
            terminal = Terminal("--status", str(path), "--interval", "0.25")
            stack.callback(terminal.close)
            terminal.wait_for(b"example.com")
            os.rename(path, tmp_path / "gone")
        terminal.wait_for(b"no proxy answers")
        terminal.seen = b""
        with proxy(path, sample()):
            terminal.wait_for(b"netnet proxy 1.2.3")
            os.write(terminal.ours, b"q")
            assert terminal.end() == 0
