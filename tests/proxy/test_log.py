"""The log: whole lines that nobody can forge, to a reader that may be slow, stuck or gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import pty
import re
import select
import signal
import socket
import threading
import tty

import pytest

import netnet
from netnet.proxy import log as module
from netnet.proxy.log import CONTINUED, LINE_BYTES_MAX, Log, is_journal, logging_to, printable
from netnet.socks.requests import Command, Request
from netnet.socks.session import Ending, Session
from netnet.testing import VirtualClock
from tests.runtime.test_fork import CHILD_SECONDS_MAX, in_child

WALL = 1_700_000_000.25  # 2023-11-14T22:13:20.250Z


@contextlib.contextmanager
def pipe_log(**options):
    """A log that writes to a pipe, and the pipe's other end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        with contextlib.closing(Log(descriptor=writer, wall=lambda: WALL, **options)) as log:
            yield log, reader
    finally:
        os.close(writer)
        with contextlib.suppress(OSError):
            os.close(reader)


def read(reader):
    """All that can be read now."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 20):
            data += piece
    return data


def lines(reader):
    return read(reader).decode().splitlines()


def session(host="example.com", **more):
    return Session(
        "192.0.2.1:99", 1.0, request=Request(Command.CONNECT, host, 80), ended=2.5, ending=Ending.CLOSED, **more
    )


FORGED = [
    ("plain text, ünïcödé 漢字", "plain text, ünïcödé 漢字"),
    ("two\nlines", "two\\nlines"),
    ("\r\n", "\\r\\n"),
    ("\x1b[2J", "\\x1b[2J"),
    ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
    ("\x85\x9b", "\\x85\\x9b"),
    ("\u2028\u2029", "\\u2028\\u2029"),
    ("\u202egpj.exe", "\\u202egpj.exe"),
    ("\u00a0", "\\xa0"),
    ("\udcff", "\\udcff"),
    ("\U000e0001", "\\U000e0001"),
]


@pytest.mark.parametrize(("sent", "shown"), FORGED)
def test_what_is_not_printable_is_escaped(sent, shown):
    assert printable(sent) == shown
    with pipe_log(stamp=False) as (log, reader):
        log.line(sent)
        assert read(reader) == shown.encode() + b"\n"
    with pipe_log(form="json") as (log, reader):
        log.line(sent)
        data = read(reader)
        assert data.count(b"\n") == 1
        assert data[:-1].decode("ascii").isprintable()
        assert json.loads(data)["message"] == sent


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "evil", ["x\n2026-01-01 00:00:00.000 forged", "x\rforged", "x\u2028forged", "x\x1b[1A\x1b[2Kforged"]
)
def test_a_name_of_the_network_forges_no_line(form, evil):
    with pipe_log(form=form) as (log, reader):
        log.session(session(evil, detail=evil))
        log.line("message", detail=evil)
        with logging_to(log):
            logging.getLogger("netnet.socks").warning("peer said %s", evil)
            try:
                raise ValueError(evil)
            except ValueError:
                logging.getLogger("netnet.socks").exception("failed")
        data = read(reader).decode()
    assert "\r" not in data
    assert "\x1b" not in data
    assert "\u2028" not in data
    for line in data.splitlines():
        assert not line.startswith(("2026", "forged"))
        if form == "json":
            assert json.loads(line)["time"] == "2023-11-14T22:13:20.250Z"
        else:
            assert re.match(r"2023-11-1\d \d\d:\d\d:20\.250 (\S|  \| )", line)


def test_the_forms_of_a_line():
    with pipe_log() as (log, reader):
        log.line("hello", more=1)
        assert re.fullmatch(r"2023-11-1\d \d\d:\d\d:20\.250 hello", lines(reader)[0])
    with pipe_log(stamp=False) as (log, reader):
        log.line("hello")
        log.line("oh", level=logging.WARNING)
        log.line("no", level=logging.ERROR)
        log.line("details", level=logging.DEBUG)
        assert lines(reader) == ["hello", "warning: oh", "error: no", "debug: details"]
    with pipe_log(form="json") as (log, reader):
        log.line("hello", more=1)
        assert json.loads(read(reader)) == {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "message": "hello",
            "more": 1,
        }
    with pytest.raises(ValueError, match="xml"):
        Log(form="xml")


def test_a_session():
    with pipe_log(stamp=False) as (log, reader):
        log.session(session(user="alice", sent=1, received=2))
        assert lines(reader) == ["alice@192.0.2.1:99 -> example.com:80 1/2 bytes 1.500 s closed"]
    with pipe_log(form="json") as (log, reader):
        log.session(session(user="alice", sent=1, received=2))
        said = json.loads(read(reader))
        assert said["event"] == "session"
        assert said["level"] == "info"
        assert (said["user"], said["sent"], said["received"], said["ending"]) == ("alice", 1, 2, "closed")


def test_the_second_of_the_stamp_moves_on():
    times = iter([10.0, 10.9994, 11.0, 3600.5])
    reader, writer = os.pipe()
    log = Log(descriptor=writer, form="json", wall=lambda: next(times))
    for _ in range(4):
        log.line("x")
    log.close()
    os.close(writer)
    told = [json.loads(line)["time"][11:] for line in os.read(reader, 65536).splitlines()]
    os.close(reader)
    assert told == ["00:00:10.000Z", "00:00:10.999Z", "00:00:11.000Z", "01:00:00.500Z"]


def test_long_lines_are_cut_and_stay_lines():
    with pipe_log(stamp=False) as (log, reader):
        log.line("ü" * 5000)
        log.line("next")
        first, second = read(reader).splitlines()
        assert LINE_BYTES_MAX - 3 <= len(first) < LINE_BYTES_MAX
        assert set(first.decode().removesuffix(" [cut]")) == {"ü"}
        assert second == b"next"
    with pipe_log(form="json") as (log, reader):
        log.line("\x00" * 5000, detail="y" * 5000, traceback="z" * 5000 + "the end")
        data = read(reader)
        assert len(data) <= LINE_BYTES_MAX
        said = json.loads(data)
        assert said["message"].endswith(" [cut]")
        assert said["traceback"].endswith("the end")


# -- readers that are slow, stuck or gone


def test_a_full_pipe_delays_nobody_and_the_dropped_are_counted():
    with pipe_log(stamp=False, held_bytes_max=1000) as (log, reader):
        for number in range(20_000):  # far more than a pipe and the log hold; it would hang here
            log.line(f"line {number}")
        assert log.dropped > 0
        assert not log.flush()
        found = lines(reader)
        while not log.flush():
            found += lines(reader)
        log.line("goes on")
        found += lines(reader)
    told = [line for line in found if "dropped" in line]
    assert told == [f"warning: {log.dropped} log lines were dropped: their reader did not keep up"]
    assert len(found) == 20_000 - log.dropped + 2
    before, after = found[: found.index(told[0])], found[found.index(told[0]) + 1 :]
    assert before == [f"line {number}" for number in range(len(before))]
    assert after == ["goes on"]


def test_the_count_of_the_dropped_in_json():
    with pipe_log(form="json", held_bytes_max=4000) as (log, reader):
        while log.flush():
            log.line("x" * 900)
        for _ in range(8):
            log.line("y" * 900)
        dropped = log.dropped
        found = []
        while not log.flush() or not found:
            found += [json.loads(line) for line in read(reader).splitlines()]
        found += [json.loads(line) for line in read(reader).splitlines()]
        assert dropped > 0
        assert [one["dropped"] for one in found if "dropped" in one] == [dropped]


def test_the_shared_description_stays_blocking():
    with pipe_log() as (log, reader):
        log.line("x")
        inherited = [int(name) for name in os.listdir("/proc/self/fd") if name.isdigit()]
        ours = os.fstat(reader).st_ino
        modes = set()
        for number in inherited:
            with contextlib.suppress(OSError):
                if os.fstat(number).st_ino == ours and number != reader:
                    modes.add(bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_NONBLOCK))
        assert modes == {False, True}, "the one that was given, and our own"


def test_a_pipe_that_cannot_be_opened_again(monkeypatch):
    def refused(path, flags):
        raise PermissionError(path)

    monkeypatch.setattr(module.os, "open", refused)
    with pipe_log(stamp=False, held_bytes_max=1000) as (log, reader):
        monkeypatch.undo()
        for number in range(20_000):
            log.line(f"line {number}")
        assert log.dropped > 0
        assert lines(reader)[:2] == ["line 0", "line 1"]


def test_a_reader_that_is_gone():
    with pipe_log() as (log, reader):
        os.close(reader)
        log.line("one")
        log.line("two")
        assert log.dropped == 2
        assert log.flush()


def test_in_a_loop_the_lines_of_a_turn_go_out_together():
    with pipe_log(stamp=False) as (log, reader):

        def main():
            log.line("one")
            log.line("two")
            assert read(reader) == b""
            netnet.sleep(0)
            netnet.sleep(0)
            assert lines(reader) == ["one", "two"]
            log.line("three")

        netnet.run(main)
        log.flush()
        assert lines(reader) == ["three"]


def test_in_a_loop_it_is_tried_again_by_a_timer():
    with pipe_log(stamp=False, held_bytes_max=100_000) as (log, reader):

        def main():
            for number in range(2000):
                log.line(f"line {number} " + "x" * 60)
            netnet.sleep(module.RETRY_SECONDS / 2)
            found = lines(reader)
            assert 0 < len(found) < 1600
            log.line("between")
            netnet.sleep(module.RETRY_SECONDS)
            found += lines(reader)
            netnet.sleep(module.RETRY_SECONDS * 2)
            return found + lines(reader)

        found = netnet.run(main, clock=VirtualClock())
    kept = [line for line in found if line.startswith("line")]
    assert kept == [f"line {number} " + "x" * 60 for number in range(len(kept))]
    assert found[-1] == "between"
    assert len(kept) + log.dropped == 2000


def test_closing_waits_for_the_reader_for_a_while():
    with pipe_log(stamp=False) as (log, reader):
        for number in range(10_000):
            log.line(f"line {number}")
        assert not log.flush()
        found = []

        def take():
            while select.select([reader], [], [], 5)[0]:
                found.extend(read(reader).splitlines())
                if found[-1] == b"line 9999":
                    return

        thread = threading.Thread(target=take)
        thread.start()
        log.close(5.0)
        thread.join()
        assert len(found) == 10_000
        log.line("nobody")
        assert log.dropped == 1


def test_closing_gives_up():
    with pipe_log(held_bytes_max=1000) as (log, _):
        for number in range(20_000):
            log.line(f"line {number}")
        log.close(0.01)


# -- what else standard error can be


def test_several_processes_do_not_mix_their_lines():
    reader, writer = os.pipe()

    def write(letter):
        log = Log(descriptor=writer, stamp=False)
        for _ in range(300):
            log.line(letter * 900)
            while not log.flush():
                select.select([], [writer], [])
        log.close(3.0)

    children = [started(lambda letter=letter: write(letter)) for letter in "ab"]
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        found = stream.read().splitlines()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    assert sorted(found) == [b"a" * 900] * 300 + [b"b" * 900] * 300


def started(function):
    """A child process that runs *function*; it is limited by an alarm."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHILD_SECONDS_MAX)
            function()
            status = 0
        finally:
            os._exit(status)
    return pid


def test_a_forked_child_does_not_write_what_its_parent_holds():
    with pipe_log(stamp=False) as (log, reader):

        def main():
            log.line("parent")

            def child():
                log.line("child")
                log.after_fork()  # a second time takes nothing away
                log.close()

            assert in_child(child) == 0
            assert lines(reader) == ["child"]

        netnet.run(main)
        log.flush()
        assert lines(reader) == ["parent"]


def test_a_regular_file_keeps_its_shared_offset(tmp_path):
    path = tmp_path / "log"
    with open(path, "wb", buffering=0) as file:
        file.write(b"before\n")
        log = Log(descriptor=file.fileno(), stamp=False)
        log.line("ours")
        file.write(b"after\n")
        log.close()
    assert path.read_bytes() == b"before\nours\nafter\n"


def test_a_terminal():
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    log = Log(descriptor=theirs, stamp=False)
    log.line("hello")
    assert os.read(ours, 100) == b"hello\n"
    log.close()
    os.close(ours)
    os.close(theirs)


def test_the_journal(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(theirs.fileno())
        assert not is_journal(ours.fileno())
        log = Log(descriptor=theirs.fileno())
        log.line("hello")
        log.line("<0>oh", level=logging.WARNING)
        assert ours.recv(9) + ours.recv(1000) == b"<6>hello\n<4>warning: <0>oh\n"
        for _ in range(30_000):  # a journal that stands still
            log.line("x" * 100)
        log.close(0.0)
        assert log.dropped > 0
        assert theirs.getblocking()


@pytest.mark.parametrize("value", ["", "1", "a:b", "1:2:3", "0:0"])
def test_what_is_no_journal(monkeypatch, value):
    monkeypatch.setenv("JOURNAL_STREAM", value)
    assert not is_journal(2)
    assert not is_journal(-1)


def test_a_descriptor_that_is_closed():
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)
    log = Log(descriptor=writer)
    log.line("x")
    assert log.dropped == 1
    log.close()


# -- logging


def test_logging_goes_the_same_way():
    logger = logging.getLogger("netnet.x")
    with pipe_log(stamp=False) as (log, reader):
        with logging_to(log):
            logger.info("worker %d", 3)
            logger.debug("not told")
            logger.warning("does not fit %d", "x")
            try:
                raise OSError("bad\nthing")
            except OSError:
                logger.exception("it failed")
        found = lines(reader)
    assert found[0] == "worker 3"
    assert found[1].startswith("warning: 'does not fit %d' with arguments that do not fit")
    assert found[2] == "error: it failed"
    assert found[3].startswith(CONTINUED + "Traceback")
    assert found[-2:] == [CONTINUED + "OSError: bad", CONTINUED + "thing"]
    root = logging.getLogger("netnet")
    assert root.handlers == []
    assert root.propagate


def test_logging_in_json():
    with pipe_log(form="json") as (log, reader), logging_to(log, logging.DEBUG):
        try:
            raise OSError("bad thing")
        except OSError:
            logging.getLogger("netnet.x").exception("it failed")
        said = json.loads(read(reader))
    assert (said["level"], said["logger"], said["message"]) == ("error", "netnet.x", "it failed")
    assert said["traceback"].rstrip().endswith("OSError: bad thing")


def test_other_threads_log_while_a_loop_runs():
    with pipe_log(stamp=False) as (log, reader):

        def main():
            for number in range(50):
                log.line(f"task {number}")
                netnet.to_thread(log.line, f"thread {number}")

        netnet.run(main)
        log.flush()
        found = lines(reader)
    assert sorted(found) == sorted([f"{who} {n}" for who in ("task", "thread") for n in range(50)])
