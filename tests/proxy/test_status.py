"""Asking the workers: answers, workers that are stuck or gone, the document, and the UNIX socket that gives it away."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat

import pytest

import netnet
from netnet.proxy import document, status
from netnet.proxy.status import (
    FAILURES_KEPT,
    TOP_CONNECTIONS,
    Link,
    Overview,
    Recent,
    StatusReader,
    answer,
    ask_all,
    describe,
    listen_status,
    serve_status,
)
from netnet.proxy.tally import ACCEPT_ERRORS, CONNECTIONS, SENT, Tallies, Tally
from netnet.socks.session import Ending
from netnet.testing import wait_all_parked
from tests.proxy.sessions import WatchedServer, ended_session, open_session


class Worker:
    """A worker in the same process: its server, its tally's seat, and a link to it."""

    def __init__(self, tally, *sessions, answers=True, draining=False):
        self.server = WatchedServer(*sessions, draining=draining)
        self.tally = tally
        self.recent = Recent()
        ours, self.theirs = netnet.socketpair()
        self.link = Link(ours, seat=0, pid=os.getpid())
        self.task = netnet.spawn(answer, self.theirs, self.server, tally, self.recent) if answers else None

    def close(self):
        if self.task is not None:
            self.task.cancel()
        self.link.close()
        self.theirs.close()


@contextlib.contextmanager
def workers(*made):
    try:
        yield made
    finally:
        for one in made:
            one.close()


@pytest.fixture
def tally():
    one = Tally(2, users=["alice", "bob"])
    yield one
    one.close()


def overview_of(tally, *made, bans=()):
    tallies = Tallies()
    tallies.add(tally)
    overview = Overview(tallies, bans=lambda: bans)
    for one in made:
        overview.add(one.link)
    return overview


# -- a worker


def test_what_a_worker_says(run, backend, tally):
    def main():
        sessions = [open_session(10, 20, user="alice"), open_session(1, 2, user="alice"), open_session()]
        with workers(Worker(tally, *sessions)) as (worker,):
            worker.server.statistics.accept_errors = 4
            said = worker.link.ask()
            assert said["connections"] == 3
            assert said["users"] == {"alice": 2}
            assert [row["sent"] for row in said["top"]] == [10, 1, 0]
            assert [row["moved"] for row in said["top"]] == [30, 3, 0]
            assert said["top"][0]["target"] == "example.com:443"
            assert said["process"]["pid"] == os.getpid()
            assert 0 < said["process"]["descriptors"] <= said["process"]["descriptors_max"]
            assert said["process"]["rss_bytes"] > 1 << 20
            assert not said["draining"]
            assert set(said["loop"]) == set(document.LoopStatus.__annotations__)
            totals = tally.totals()
            assert (totals[SENT], totals[CONNECTIONS], totals[ACCEPT_ERRORS]) == (11, 3, 4)
            sessions[1].relay.received += 1000
            assert [row["moved"] for row in worker.link.ask()["top"]] == [1000, 0, 0]

    run(main)


def test_the_members_are_those_of_the_types(run, tally):
    def main():
        recent = Recent()
        recent.note(ended_session(Ending.REFUSED))
        said = describe(WatchedServer(open_session()), tally, recent, 0.0)
        assert set(said) == set(document.Answer.__annotations__)
        assert set(said["top"][0]) == set(document.ConnectionStatus.__annotations__)
        assert set(said["failures"][0]) == {*document.ConnectionStatus.__annotations__, "time"}
        assert set(said["process"]) == set(document.ProcessFigures.__annotations__)

    run(main)


def test_of_many_connections_those_that_move_now_and_those_that_have_moved_most(run, tally):
    def main():
        big = [open_session(10**9 + number) for number in range(TOP_CONNECTIONS * 2)]
        small = [open_session(number % 7) for number in range(1000)]
        server = WatchedServer(*big, *small)
        describe(server, tally, Recent(), 0.0)
        small[500].relay.sent += 1
        others = netnet.spawn(netnet.sleep, 0)
        said = describe(server, tally, Recent(), 0.0)
        assert others.done
        assert len(said["top"]) == TOP_CONNECTIONS
        assert said["top"][0]["moved"] == 1
        assert sum(row["sent"] >= 10**9 for row in said["top"]) == TOP_CONNECTIONS - 1
        assert said["connections"] == 1100

    run(main)


def test_a_connection_that_ends_while_they_are_looked_at_counts_once(run, tally):
    def main():
        sessions = [open_session(1, 1) for _ in range(1000)]
        server = WatchedServer(*sessions)

        def end_all():
            for session in sessions:
                tally.count(server.end(session))

        netnet.spawn(end_all)
        said = describe(server, tally, Recent(), 0.0)
        assert tally.totals()[SENT] == 1000
        assert said["top"] == []
        assert tally._settled == {}

    run(main)


def test_failures_are_remembered(tally):
    recent = Recent(3)
    for ending in (Ending.REFUSED, Ending.CLOSED, Ending.DENIED, Ending.IDLE, Ending.LIMIT, Ending.BANNED):
        recent.note(ended_session(ending))
    rows = recent.rows()
    assert [row["ending"] for row in rows] == ["banned", "limit", "denied"]
    assert rows[0]["time"] >= rows[-1]["time"] > 1e9
    for _ in range(100):
        (many := Recent()).note(ended_session(Ending.ERROR))
    assert len(many.rows()) <= FAILURES_KEPT


GARBAGE = [b"\n", b"{}\n", b"[1]\n", b'{"number": "x"}\n', b"\xff\xfe\n", b"[" * 3000 + b"\n", b"GET / HTTP/1.1\n"]


@pytest.mark.parametrize("question", GARBAGE)
def test_a_question_that_makes_no_sense_is_answered_without_a_number(run, tally, question):
    def main():
        with workers(Worker(tally)) as (worker,):
            worker.link.control.sendall(question)
            said = json.loads(worker.link._answers.readline())
            assert said["number"] == -1
            assert worker.link.ask() is not None, "and it goes on"

    run(main)


@pytest.mark.parametrize("end", [b"", b"half a question", b"x" * 10_000])
def test_the_end_of_the_supervisor_ends_the_answers(run, tally, end):
    def main():
        with workers(Worker(tally)) as (worker,):
            worker.link.control.sendall(end)
            worker.link.control.shutdown(socket.SHUT_WR)
            worker.task.result()

    run(main)


def test_questions_that_were_left_lying_are_answered_once(run, tally):
    def main():
        with workers(Worker(tally, answers=False)) as (worker,):
            for _ in range(5):
                assert worker.link.ask(0.001) is None
            task = netnet.spawn(answer, worker.theirs, worker.server, tally, worker.recent)
            assert worker.link.ask()["number"] == 6
            wait_all_parked()
            assert worker.link._answers.buffered == 0
            task.cancel()

    run(main)


# -- the supervisor


def test_a_stuck_worker_holds_nobody_up(run, backend, tally):
    def main():
        with workers(Worker(tally), Worker(tally, answers=False), Worker(tally)) as made:
            answers = ask_all([one.link for one in made], seconds=0.05)
            assert [one is not None for one in answers] == [True, False, True]
            overview = overview_of(tally, *made)
            made[1].link.heard -= 60
            told = overview.status()
            assert [worker["silent_seconds"] > 0 for worker in told["workers"]] == [False, True, False]
            assert told["workers"][1]["silent_seconds"] > 60
            assert told["workers"][1]["process"]["rss_bytes"] == -1

    run(main)


def test_a_late_answer_is_not_taken_for_the_next(run, tally):
    def main():
        with workers(Worker(tally, open_session(), answers=False)) as (worker,):
            assert worker.link.ask(0.001) is None
            worker.theirs.recv(100)
            worker.theirs.sendall(b'{"number": 1, "connections": 77}\nnonsense\n')
            netnet.spawn(answer, worker.theirs, worker.server, tally, worker.recent)
            assert worker.link.ask()["connections"] == 1
            worker.theirs.shutdown(socket.SHUT_RDWR)

    run(main)


def test_a_worker_that_never_reads_fills_nothing_up(run, tally):
    def main():
        with workers(Worker(tally, answers=False)) as (worker,):
            for _ in range(2000):
                assert worker.link.ask(0.0) is None

    run(main)


@pytest.mark.parametrize("last", [b"", b'{"number": 1, "conn', b'{"number": 1,\n'])
def test_a_worker_that_dies_while_it_is_asked(run, tally, last):
    def main():
        with workers(Worker(tally, answers=False)) as (worker,):
            asking = netnet.spawn(worker.link.ask)
            wait_all_parked()
            worker.theirs.sendall(last)
            worker.theirs.close()
            assert asking.result() is None
            assert worker.link.ask() is None

    run(main)


def test_asking_can_be_cancelled(run, tally):
    def main():
        with workers(Worker(tally, answers=False)) as (worker,):
            overview = overview_of(tally, worker)
            asking = netnet.spawn(overview.status)
            wait_all_parked()
            asking.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                asking.result()
            netnet.spawn(answer, worker.theirs, worker.server, tally, worker.recent)
            assert overview.status()["workers"][0]["silent_seconds"] == 0
            worker.theirs.shutdown(socket.SHUT_RDWR)

    run(main)


def test_the_document(run, tally):
    def main():
        first = Worker(tally, open_session(10, 20, user="alice"))
        second = Worker(Tally(1, users=["alice"]), open_session(1000, 0, user="alice"), draining=True)
        with workers(first, second):
            second.recent.note(ended_session(Ending.REFUSED))
            tally.count(ended_session(Ending.REFUSED, user="bob", sent=5))
            overview = overview_of(tally, first, second, bans=[("192.0.2.9", 60.0)])
            overview.tallies.add(second.tally)
            told = overview.status()
            assert set(told) == set(document.Status.__annotations__)
            assert set(told["totals"]) == set(document.TotalsStatus.__annotations__)
            assert set(told["workers"][0]) == set(document.WorkerStatus.__annotations__)
            assert told["connections"] == 2
            assert told["totals"]["sessions"] == told["totals"]["failed"] == 1
            assert told["totals"]["endings"] == {"refused": 1}
            assert (told["totals"]["sent"], told["totals"]["received"]) == (1015, 20)
            assert told["users"] == [
                {"user": "alice", "connections": 2, "sessions": 0, "sent": 1010, "received": 20},
                {"user": "bob", "connections": 0, "sessions": 1, "sent": 5, "received": 0},
            ]
            assert [row["sent"] for row in told["top"]] == [1000, 10]
            assert [row["ending"] for row in told["failures"]] == ["refused"]
            assert told["bans"] == [{"client": "192.0.2.9", "seconds_left": 60.0}]
            assert [worker["draining"] for worker in told["workers"]] == [False, True]
            assert json.loads(json.dumps(told)) == told
            overview.remove(second.link)
            overview.remove(second.link)
            overview._status = None
            assert len(overview.status()["workers"]) == 1
        second.tally.close()

    run(main)


def test_many_askers_are_one(run, tally, monkeypatch):
    def main():
        asked = []
        monkeypatch.setattr(status, "ask_all", lambda links: asked.append(1) or ask_all(links))
        with workers(Worker(tally)) as (worker,):
            overview = overview_of(tally, worker)
            with netnet.TaskGroup() as group:
                tasks = [group.spawn(overview.status) for _ in range(20)]
            assert len({id(task.result()) for task in tasks}) == 1
            assert len(asked) == 1

    run(main)


# -- the socket


@contextlib.contextmanager
def serving(tally, path):
    with workers(Worker(tally, open_session(3, 4, host="host\x1b[2J"))) as (worker,):
        with listen_status(str(path)) as listener:
            task = netnet.spawn(serve_status, listener, overview_of(tally, worker))
            yield worker
            task.cancel()
            wait_all_parked()


def test_only_the_owner_may_open_it(run, tmp_path):
    def main():
        path = tmp_path / "status.sock"
        before = os.umask(0o022)
        try:
            with listen_status(str(path)):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with listen_status(str(path)):  # the file of one that is gone is replaced
                pass
            assert os.umask(0o022) == 0o022
        finally:
            os.umask(before)

    run(main)


def test_a_program_gets_documents(run, tally, tmp_path):
    def main():
        path = tmp_path / "status.sock"

        def look():
            with contextlib.closing(StatusReader(str(path))) as reader:
                return reader.read(), reader.read()

        with serving(tally, path):
            first, second = netnet.to_thread(look)
            assert first["connections"] == second["connections"] == 1
            assert first["totals"]["received"] == 4
            assert set(first) == set(document.Status.__annotations__)

    run(main)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"anything\r\n", True), (b"\n", True), (b"half", False), (b"x" * 100_000, False), (b"", False)],
)
def test_whatever_a_reader_sends(run, tally, tmp_path, sent, answered):
    def main():
        path = tmp_path / "status.sock"
        with serving(tally, path):
            with netnet.connect(netnet.UnixAddress(str(path))) as reader:
                with contextlib.suppress(OSError):
                    reader.sendall(sent)
                    reader.shutdown(socket.SHUT_WR)
                got = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := reader.recv(65536):
                        got += piece
                assert got.endswith(b"}\n") is answered
                assert b"\x1b" not in got
            with netnet.connect(netnet.UnixAddress(str(path))) as reader:
                reader.sendall(b"?\n")
                assert reader.recv(1) == b"{"

    run(main)


def test_nobody_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        StatusReader(str(tmp_path / "nothing"))


def test_a_proxy_that_goes_away(tmp_path):
    path = str(tmp_path / "status.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        reader = StatusReader(path)
        listener.accept()[0].close()
        with contextlib.closing(reader), pytest.raises(OSError):
            reader.read()


# -- a process


def test_figures_of_a_process():
    before = document.process_figures()
    opened = [os.dup(0) for _ in range(50)]
    after = document.process_figures()
    for number in opened:
        os.close(number)
    assert after["descriptors"] - before["descriptors"] == 50
    assert after["cpu_seconds"] >= before["cpu_seconds"] > 0


def test_figures_where_the_system_does_not_tell(monkeypatch):
    def nothing(*arguments):
        raise FileNotFoundError

    with monkeypatch.context() as patched:
        patched.setattr(document.os, "stat", nothing)
        patched.setattr("builtins.open", nothing)
        figures = document.process_figures()
    assert (figures["descriptors"], figures["rss_bytes"]) == (-1, -1)
