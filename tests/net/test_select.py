"""``netnet.select``: the shape of the standard module, parking in a task. The interpreter's own tests of the modules
``select`` and ``selectors`` run on ours, outside a loop and in a task; where it comes without them they are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import select as standard
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import netnet
from netnet import Cancelled, UsageError, select
from netnet.poller import ENVIRONMENT
from netnet.testing import VirtualClock, wait_all_parked

#: what is tested may block the OS thread, where no limit but one from another thread helps: it ends the test program
pytestmark = pytest.mark.timeout(30, method="thread")

PROGRAM = Path(__file__).with_name("standard_select_suite.py")
PARTS = 5

#: what differs, and why
_OURS = "replaces the facility of the standard class by one that fails; our class has one of its own"
DIFFERENT = {
    "SelectTestCase.test_disallow_instantiation": "select.poll is the class of its objects",
    "DefaultSelectorTestCase.test_modify_unregister": _OURS,
    "EpollSelectorTestCase.test_modify_unregister": _OURS,
    "PollSelectorTestCase.test_modify_unregister": _OURS,
}


@pytest.fixture(scope="module")
def outcomes():
    """How each test ended, outside a loop and in a task. Most of their time they wait, so several programs run at once."""
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_select") is None:
        pytest.skip("this interpreter comes without its own tests")
    running = [
        (
            where,
            subprocess.Popen(
                [sys.executable, "-W", "ignore", PROGRAM, where, str(part), str(PARTS)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ),
        )
        for where in ("outside", "task")
        for part in range(PARTS)
    ]
    limit = time.monotonic() + 60
    try:
        ended = {"outside": {}, "task": {}}
        for where, process in running:
            out, errors = process.communicate(timeout=max(1, limit - time.monotonic()))
            assert process.returncode == 0, errors
            ended[where] |= json.loads(out.splitlines()[-1])
        return ended
    finally:
        for _, process in running:
            process.kill()
            with process:  # closes the pipes, too, which a child of the child may have
                pass


@pytest.mark.timeout(90, method="thread")
@pytest.mark.parametrize("where", ["outside", "task"])
def test_the_standard_library_s_own_tests(outcomes, where):
    ended = outcomes[where]
    failed = {name: how for name, how in ended.items() if how not in ("ok", "skipped")}
    assert {name: how for name, how in failed.items() if name not in DIFFERENT} == {}
    assert sum(how == "ok" for how in ended.values()) > 60


def test_every_name_of_the_standard_module_is_there():
    ours = {"select", "poll", "epoll"}
    for name, value in vars(standard).items():
        if not name.startswith("__"):
            assert (getattr(select, name) is value) == (name not in ours), name


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        if fd is not None:
            os.close(fd)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.fixture(params=["epoll", "intervals"])
def facility(request, monkeypatch):
    if request.param == "intervals":
        monkeypatch.delenv(ENVIRONMENT, raising=False)  # the loop cannot have what is not there, either
        monkeypatch.delattr(standard, "epoll")


def by_select(source, side, timeout=None):
    sets = [[], [], []]
    sets[side].append(source)
    return any(select.select(*sets, timeout))


def by_poll(source, side, timeout=None):
    polling = select.poll()
    polling.register(source, (select.POLLIN, select.POLLOUT, select.POLLPRI)[side])
    return bool(polling.poll(timeout if timeout is None else timeout * 1000))


def by_epoll(source, side, timeout=None):
    with select.epoll() as epoll:
        epoll.register(source, (select.EPOLLIN, select.EPOLLOUT, select.EPOLLPRI)[side])
        return bool(epoll.poll(timeout))


CALLS = [by_select, by_poll, by_epoll]
calls = pytest.mark.parametrize("call", CALLS)


@calls
def test_it_parks(run, backend, pair, call):
    one, other = pair

    def main():
        for _ in range(3):
            task = netnet.spawn(call, one, 0)
            wait_all_parked()
            assert not task.done
            other.send(b"x")
            assert task.result() is True
            one.recv(1)

    run(main)


@pytest.mark.parametrize("call", [by_select, by_poll])
def test_it_waits_without_epoll(run, facility, pair, call):
    one, other = pair

    def main():
        task = netnet.spawn(call, one, 0)
        netnet.sleep(0.01)
        other.send(b"x")
        assert task.result() is True
        one.recv(1)
        assert call(one, 0, 0.02) is False

    run(main)


@calls
def test_the_time_out_is_of_the_loop_s_clock(run, pair, call):
    def main():
        assert call(pair[0], 0, 3600) is False
        assert netnet.now() == 3600
        netnet.spawn(lambda: (netnet.sleep(5), pair[1].send(b"x")))
        assert call(pair[0], 0, 3600) is True
        assert netnet.now() == 3605

    run(main, clock=VirtualClock())


@calls
@pytest.mark.parametrize("inside", [True, False])
def test_only_looking(run, pair, call, inside):
    def main():
        assert call(pair[0], 0, 0) is False
        assert call(pair[0], 1, 0) is True

    run(main) if inside else main()


@calls
def test_cancelled(run, backend, pair, call):
    def main():
        loop = netnet.current_task().loop
        before = len(loop.descriptors)
        task = netnet.spawn(call, pair[0], 0)
        wait_all_parked()
        task.cancel()
        task.join()
        assert isinstance(task.error, Cancelled)
        assert len(loop.descriptors) == before
        with pytest.raises(TimeoutError), netnet.timeout(0.001):
            call(pair[0], 0)

    run(main)


@calls
def test_others_get_their_turn_although_it_never_waits(run, pair, call):
    def main():
        ran = []
        netnet.spawn(ran.append, 1)
        for _ in range(1000):
            call(pair[0], 1)
            if ran:
                return
        raise AssertionError

    run(main)


@calls
def test_a_callback_of_the_loop_must_not_wait(run, pair, call):
    def main():
        seen = []

        def callback():
            assert call(pair[0], 0, 0) is False
            with pytest.raises(UsageError, match="callback"):
                call(pair[0], 0)
            seen.append(True)

        netnet.current_task().loop.call_soon(callback)
        netnet.sleep(0)
        return seen

    assert run(main) == [True]


@calls
@pytest.mark.parametrize("kind", ["pipe", "terminal", "eventfd", "udp", "listener"])
def test_kinds(run, call, kind):
    """Becomes readable while it is waited for."""

    def main():
        if kind == "pipe":
            reader, writer = os.pipe()
            act = partial(os.write, writer, b"x")
            ends = [reader, writer]
        elif kind == "terminal":
            writer, reader = pty.openpty()
            act = partial(os.write, writer, b"x\n")
            ends = [writer, reader]
        elif kind == "eventfd":
            reader = os.eventfd(0)
            act = partial(os.eventfd_write, reader, 1)
            ends = [reader]
        elif kind == "udp":
            sock = netnet.Socket(type=socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            reader, ends = sock, []
            act = partial(sock.sendto, b"", sock.getsockname())
        else:
            sock = netnet.listen("127.0.0.1:0")
            client = socket.socket()
            reader, ends = sock, []
            act = partial(client.connect, sock.getsockname())
        task = netnet.spawn(call, reader, 0)
        wait_all_parked()
        assert not task.done
        act()
        assert task.result() is True
        for end in ends:
            os.close(end)
        if not ends:
            sock.close()
        if kind == "listener":
            client.close()

    run(main)


@pytest.mark.parametrize("call", [by_select, by_poll])
def test_a_hang_up_that_nobody_asked_about_burns_no_time(run, call):
    """epoll would tell of it at every look; these two calls do not count it, or tell at once."""

    def main():
        master, slave = pty.openpty()
        os.close(slave)
        assert call(master, 2, 100) == standard_answer(call, master)
        os.close(master)

    def standard_answer(call, fd):
        return call is by_poll  # poll(2) tells of hang-ups always

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("call", [by_select, by_poll])
def test_files_are_always_ready_and_never_urgent(run, call, tmp_path):
    def main():
        with open(tmp_path / "file", "w+b") as file:
            assert call(file, 0, 5) is True
            assert call(file, 1, 5) is True
            start = netnet.now()
            assert call(file, 2, 5) is False
            assert netnet.now() - start == 5

    run(main, clock=VirtualClock())


def test_urgent_data(run):
    def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        with client, server:
            task = netnet.spawn(by_select, server, 2)
            wait_all_parked()
            client.send(b"a")
            wait_all_parked()
            assert not task.done
            client.send(b"!", socket.MSG_OOB)
            assert task.result() is True

    run(main)


# -- the same arguments, results and errors


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 2, 3),
        ([], [], [], 0),
        ([], [], [], 0.001),
        ([object()], [], []),
        (["1"], [], []),
        ([], [], [], "soon"),
        ([], [], [], -1),
        ([], [], [], float("nan")),
        ([], [], [], 1e300),
        ([], 1, [], -1),
        ([-1], [], [], 5),
        ([], [], [999_999], 5),
        ([], [], [100_000], 5),
        ({1}, range(2, 3), (), 5),
        (None, None, None, 0),
        ([], [2], [], True),
        ([], [2], [], 0),
        ([], [2], [], 0.0),
    ],
)
def test_select_answers_as_the_standard_call(run, arguments):
    def outcome(call):
        try:
            return call(*arguments)
        except (TypeError, ValueError, OSError, OverflowError) as error:
            return type(error), str(error)

    assert run(outcome, select.select) == outcome(standard.select) == outcome(select.select)


@pytest.mark.parametrize("timeout", ["soon", 1 << 64, float("nan"), 2**31, float("inf"), object(), [], 1j])
@pytest.mark.parametrize("kind", ["poll", "epoll"])
def test_wrong_time_outs_are_refused_as_by_the_standard_ones(run, kind, timeout):
    def outcome(module):
        polling = getattr(module, kind)()
        polling.register(pair[0])
        try:
            return polling.poll(timeout)
        except (TypeError, ValueError, OverflowError) as error:
            return type(error), str(error)
        finally:
            if kind == "epoll":
                polling.close()

    pair = socket.socketpair()
    with pair[0], pair[1]:
        assert run(outcome, select) == outcome(standard)


@pytest.mark.parametrize("maxevents", [0, -2, "many"])
def test_wrong_numbers_of_events(run, maxevents):
    def main():
        with select.epoll() as epoll:
            with pytest.raises((ValueError, TypeError)):
                epoll.poll(5, maxevents)

    run(main)


def test_an_iterator_is_looked_at_again_and_again(run, pair):
    def main():
        task = netnet.spawn(lambda: select.select(iter([pair[0]]), iter([]), iter([])))
        wait_all_parked()
        pair[1].send(b"x")
        assert task.result() == ([pair[0]], [], [])

    run(main)


def test_select_in_several_sets(run, pair):
    def main():
        one, other = pair
        assert select.select([one, other], [one, other], [one]) == ([], [one, other], [])
        other.send(b"x")
        assert select.select([one, other], [one], []) == ([one], [one], [])

    run(main)


# -- poll objects


def test_registered_while_it_waits(run, pair, pipe):
    def main():
        polling = select.poll()
        polling.register(pair[0], select.POLLIN)
        task = netnet.spawn(polling.poll)
        wait_all_parked()
        polling.register(pipe[1], select.POLLOUT)
        assert task.result() == [(pipe[1], select.POLLOUT)]
        polling.unregister(pipe[1])
        task = netnet.spawn(polling.poll)
        wait_all_parked()
        polling.modify(pair[0], select.POLLOUT)
        assert task.result() == [(pair[0].fileno(), select.POLLOUT)]

    run(main)


def test_one_poll_at_a_time(run, pair):
    def main():
        polling = select.poll()
        polling.register(pair[0], select.POLLIN)
        task = netnet.spawn(polling.poll)
        wait_all_parked()
        with pytest.raises(RuntimeError, match="concurrent"):
            polling.poll(0)
        task.cancel()
        task.join()
        assert polling.poll(0) == []

    run(main)


def test_poll_of_nothing_and_of_what_is_not_open(run):
    def main():
        polling = select.poll()
        assert polling.poll(1000) == []
        assert netnet.now() == 1
        polling.register(100_000)
        assert polling.poll() == [(100_000, select.POLLNVAL)]
        with pytest.raises(KeyError):
            polling.unregister(5)
        with pytest.raises(FileNotFoundError):
            polling.modify(5, 1)

    run(main, clock=VirtualClock())


# -- epoll objects


def test_edges_and_single_shots(run, pair):
    def main():
        one, other = pair
        with select.epoll() as epoll:
            epoll.register(one, select.EPOLLIN | select.EPOLLET)
            task = netnet.spawn(epoll.poll)
            wait_all_parked()
            other.send(b"x")
            assert task.result() == [(one.fileno(), select.EPOLLIN)]
            assert epoll.poll(0) == []
            task = netnet.spawn(epoll.poll)
            wait_all_parked()
            assert not task.done
            other.send(b"x")
            assert task.result() == [(one.fileno(), select.EPOLLIN)]
            epoll.modify(one, select.EPOLLIN | select.EPOLLONESHOT)
            assert len(epoll.poll()) == 1
            assert epoll.poll(0.001) == []

    run(main)


def test_two_tasks_with_one_epoll(run, backend, pair):
    """The first takes the event, the other waits on."""

    def main():
        one, other = pair
        with select.epoll() as epoll:
            epoll.register(one, select.EPOLLIN | select.EPOLLET)
            tasks = [netnet.spawn(epoll.poll) for _ in range(2)]
            wait_all_parked()
            other.send(b"x")
            wait_all_parked()
            assert [task.done for task in tasks].count(True) == 1
            other.send(b"x")
            for task in tasks:
                assert task.result() == [(one.fileno(), select.EPOLLIN)]

    run(main)


def test_registered_in_epoll_while_a_task_waits(run, pair):
    def main():
        with select.epoll() as epoll:
            task = netnet.spawn(epoll.poll)
            wait_all_parked()
            epoll.register(pair[0], select.EPOLLOUT)
            assert task.result() == [(pair[0].fileno(), select.EPOLLOUT)]

    run(main)


@pytest.mark.parametrize("from_thread", [False, True])
def test_closing_epoll_wakes_who_waits(run, backend, pair, from_thread):
    def main():
        epoll = select.epoll()
        number = epoll.fileno()
        tasks = [netnet.spawn(epoll.poll) for _ in range(2)]
        wait_all_parked()
        if from_thread:
            thread = threading.Thread(target=epoll.close)
            thread.start()
            thread.join()
        else:
            epoll.close()
        assert epoll.closed
        with pytest.raises(ValueError, match="closed epoll"):
            epoll.register(pair[0])
        for task in tasks:
            with pytest.raises(ValueError, match="closed epoll"):
                task.result()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)
        epoll.close()

    run(main)


def test_fromfd(run, pair):
    def main():
        with select.epoll() as epoll:
            copy = select.epoll.fromfd(os.dup(epoll.fileno()))
            with copy:
                copy.register(pair[0], select.EPOLLOUT)
                assert epoll.poll() == [(pair[0].fileno(), select.EPOLLOUT)]

    run(main)
