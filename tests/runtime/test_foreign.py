"""``wait_readable`` and ``wait_writable`` on descriptors that are no netnet sockets: pipes, plain sockets, files,
terminals; level-triggered, shared by several tasks, inside a loop and outside one."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import threading

import pytest

import netnet
from netnet import Cancelled, UsageError
from netnet.testing import wait_all_parked


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    ends = [reader, writer]
    yield ends
    for fd in ends:
        if fd is not None:
            os.close(fd)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


def fill(fd):
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, bytes(65536))


def empty(fd):
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 65536):
            pass


def test_a_pipe_in_both_directions(run, backend, pipe):
    reader, writer = pipe

    def receive():
        total = 0
        while total < 1_000_000:
            netnet.wait_readable(reader)
            total += len(os.read(reader, 65536))
        return total

    def main():
        task = netnet.spawn(receive)
        left = 1_000_000
        while left:
            netnet.wait_writable(writer)
            left -= os.write(writer, bytes(min(left, 30_000)))
        return task.result()

    assert run(main) == 1_000_000


def test_it_is_a_level(run, backend, pair):
    """What was not read is reported again and again."""
    one, other = pair

    def main():
        other.send(b"x")
        for _ in range(5):
            netnet.wait_readable(one)
        one.recv(1)
        task = netnet.spawn(netnet.wait_readable, one)
        wait_all_parked()
        assert not task.done
        other.send(b"x")
        task.join()

    run(main)


@pytest.mark.parametrize("kind", ["number", "object"])
def test_a_number_or_an_object(run, backend, pair, kind):
    one, other = pair

    def main():
        task = netnet.spawn(netnet.wait_readable, one if kind == "object" else one.fileno())
        wait_all_parked()
        other.send(b"x")
        task.result()

    run(main)


def test_several_tasks_wait_for_one(run, backend, pair):
    one, other = pair

    def main():
        tasks = [netnet.spawn(netnet.wait_readable, one) for _ in range(5)]
        wait_all_parked()
        tasks[2].cancel()
        wait_all_parked()
        assert [task.done for task in tasks] == [False, False, True, False, False]
        other.send(b"x")
        for number in (0, 1, 3, 4):
            tasks[number].result()

    run(main)


@pytest.mark.parametrize("first", ["readable", "writable"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_both_directions_at_once(run, backend, pair, first, cancelled):
    one, other = pair
    waits = {"readable": netnet.wait_readable, "writable": netnet.wait_writable}
    second = ({*waits} - {first}).pop()

    def happen(what):
        if what == "readable":
            other.send(b"x")
        else:
            empty(other.fileno())

    def main():
        fill(one.fileno())
        tasks = {name: netnet.spawn(wait, one) for name, wait in waits.items()}
        wait_all_parked()
        if cancelled:
            tasks[first].cancel()
        else:
            happen(first)
        tasks[first].join()
        assert isinstance(tasks[first].error, Cancelled) == cancelled
        wait_all_parked()
        assert not tasks[second].done
        happen(second)
        tasks[second].result()

    run(main)


def test_a_task_that_was_woken_in_vain_waits_again(run, backend, pair):
    """Two are woken, the first takes it all."""
    one, other = pair
    got = []

    def receive():
        while True:
            netnet.wait_readable(one)
            with contextlib.suppress(BlockingIOError):
                got.append(one.recv(1))
                return

    def main():
        tasks = [netnet.spawn(receive), netnet.spawn(receive)]
        wait_all_parked()
        other.send(b"1")
        wait_all_parked()
        assert [task.done for task in tasks].count(True) == 1
        other.send(b"2")
        for task in tasks:
            task.result()
        assert got == [b"1", b"2"]

    run(main)


def test_the_writer_is_gone(run, backend, pipe):
    def main():
        task = netnet.spawn(netnet.wait_readable, pipe[0])
        wait_all_parked()
        os.close(pipe[1])
        pipe[1] = None
        task.result()
        netnet.wait_readable(pipe[0])

    run(main)


def test_the_reader_is_gone(run, backend, pipe):
    def main():
        fill(pipe[1])
        task = netnet.spawn(netnet.wait_writable, pipe[1])
        wait_all_parked()
        os.close(pipe[0])
        pipe[0] = None
        task.result()

    run(main)


def test_a_file_is_always_ready(run, backend, tmp_path):
    def main():
        with open(tmp_path / "file", "w+") as file:
            netnet.wait_readable(file)
            netnet.wait_writable(file)

    run(main)


def test_a_terminal(run, backend):
    master, slave = pty.openpty()

    def main():
        task = netnet.spawn(netnet.wait_readable, slave)
        wait_all_parked()
        assert not task.done
        os.write(master, b"line\n")
        task.result()
        assert os.read(slave, 100) == b"line\n"

    try:
        run(main)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("wait", [netnet.wait_readable, netnet.wait_writable])
def test_not_open(run, backend, inside, wait):
    def main():
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            wait(reader)

    run(main) if inside else main()


@pytest.mark.parametrize("inside", [True, False])
def test_a_closed_object(run, inside):
    one, other = socket.socketpair()
    one.close()
    other.close()
    with pytest.raises(netnet.ClosedError, match="closed"):
        run(netnet.wait_readable, one) if inside else netnet.wait_readable(one)


def test_a_timeout(run, backend, pair):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(0.001):
            netnet.wait_readable(pair[0])

    run(main)


def test_nothing_is_left_in_the_loop(run, backend, pair):
    one, other = pair

    def main():
        loop = netnet.current_task().loop
        before = len(loop.descriptors)
        for _ in range(3):
            task = netnet.spawn(netnet.wait_readable, one)
            wait_all_parked()
            assert len(loop.descriptors) == before + 1
            task.cancel()
            task.join()
        other.send(b"x")
        netnet.wait_readable(one)
        assert len(loop.descriptors) == before

    run(main)


def test_the_number_may_go_to_another_file_between_waits(run, backend):
    def main():
        for _ in range(10):
            reader, writer = os.pipe()
            task = netnet.spawn(netnet.wait_readable, reader)
            wait_all_parked()
            os.write(writer, b"x")
            task.result()
            os.close(reader)
            os.close(writer)

    run(main)


def test_one_of_ours(run, backend):
    """A netnet socket can be waited for too, before its first wait and after."""

    def main():
        one, other = netnet.socketpair()
        with one, other, netnet.timeout(2):
            for _ in range(3):
                task = netnet.spawn(netnet.wait_readable, one)
                wait_all_parked()
                assert not task.done
                other.sendall(b"x")
                task.result()
                assert one.recv(1) == b"x"
                reader = netnet.spawn(one.recv, 1)
                wait_all_parked()
                other.sendall(b"y")
                assert reader.result() == b"y"

    run(main)


def test_one_of_ours_full_duplex(run, backend):
    """One task waits until the socket is readable while another one sends: one reader beside one writer is fine."""

    def main():
        one, other = netnet.socketpair()
        with one, other, netnet.TaskGroup() as group:
            group.spawn(netnet.wait_readable, one)
            wait_all_parked()
            group.spawn(one.sendall, bytes(5_000_000))
            left = 5_000_000
            while left:
                left -= len(other.recv(65536))
            other.sendall(b"x")

    run(main)


def test_outside_a_loop_it_blocks_the_thread(pair):
    one, other = pair
    thread = threading.Thread(target=other.send, args=(b"x",))
    thread.start()
    netnet.wait_readable(one)
    netnet.wait_writable(one)
    thread.join()
    assert one.recv(1) == b"x"


@pytest.mark.parametrize("wait", [netnet.wait_readable, netnet.wait_writable])
def test_a_callback_of_the_loop_must_not_wait(run, pair, wait):
    def main():
        seen = []

        def callback():
            with pytest.raises(UsageError, match="callback"):
                wait(pair[0])
            seen.append("refused")

        netnet.current_task().loop.call_soon(callback)
        netnet.sleep(0)
        return seen

    assert run(main) == ["refused"]


def test_select_above_its_limit(limited_descriptors):
    """The run ends with words, and the tasks clean up."""
    import fcntl

    cleaned = []
    reader, writer = os.pipe()
    try:
        high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1030)
    except OSError:
        pytest.skip("this process may not have so many descriptors")

    def main():
        try:
            netnet.wait_readable(high)
        finally:
            cleaned.append(True)

    try:
        with pytest.raises(UsageError, match="1023"):
            netnet.run(main, poller="select")
    finally:
        for fd in (reader, writer, high):
            os.close(fd)
    assert cleaned == [True]
