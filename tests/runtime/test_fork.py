"""Fork: the child's loop is its own, the parent's poller is not disturbed, and threads of the parent, which the child
does not have, are not waited for. Each child is limited by an alarm and leaves with ``os._exit``."""

from __future__ import annotations

import os
import signal
import threading
import traceback

import pytest

import netnet
from netnet.runtime import threads
from netnet.testing import wait_all_parked

CHILD_SECONDS_MAX = 5


def in_child(function):
    """Runs *function* in a forked child; returns its exit status: 0 if it returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHILD_SECONDS_MAX)
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def echo_once():
    one, other = netnet.socketpair()
    with one, other:
        task = netnet.spawn(lambda: other.sendall(other.recv(10)))
        wait_all_parked()
        one.sendall(b"hello")
        assert one.recv(10) == b"hello"
        task.result()


def test_in_child_tells_of_failures():
    assert in_child(lambda: None) == 0
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGALRM)) == -signal.SIGALRM


def test_a_child_made_outside_a_loop(backend):
    assert in_child(lambda: netnet.run(echo_once)) == 0


def test_a_child_made_in_a_task_runs_a_loop_of_its_own(run, backend):
    def main():
        assert in_child(lambda: netnet.run(echo_once)) == 0
        echo_once()

    run(main)


def test_the_parents_waits_go_on(run, backend):
    """The child closes its copy of the poller and even the sockets; the parent is woken all the same."""

    def main():
        one, other = netnet.socketpair()
        reader, writer = os.pipe()

        def child():
            one.close()
            os.close(reader)
            netnet.run(echo_once)

        with one, other:
            tasks = [netnet.spawn(one.recv, 10), netnet.spawn(netnet.wait_readable, reader)]
            wait_all_parked()
            assert in_child(child) == 0
            os.write(writer, b"x")
            other.sendall(b"to parent")
            assert tasks[0].result() == b"to parent"
            tasks[1].result()
        os.close(reader)
        os.close(writer)

    run(main)


def test_a_socket_of_the_parents_loop_in_the_childs(run, backend):
    """It was registered with the parent's poller; the child registers it with its own."""

    def main():
        one, other = netnet.socketpair()
        with one, other:
            task = netnet.spawn(one.recv, 1)
            wait_all_parked()
            other.sendall(b"1")
            assert task.result() == b"1"

            def talk():
                reader = netnet.spawn(one.recv, 1)
                wait_all_parked()
                other.sendall(b"2")
                assert reader.result() == b"2"

            assert in_child(lambda: netnet.run(talk)) == 0
            talk()

    run(main)


def test_tasks_of_the_parent_do_not_run_in_the_child(run, backend):
    def main():
        ran_in = []
        netnet.spawn(lambda: ran_in.append(os.getpid()))

        def child():
            netnet.run(netnet.sleep, 0)
            assert ran_in == []

        assert in_child(child) == 0
        netnet.sleep(0)
        assert ran_in == [os.getpid()]

    run(main)


@pytest.mark.parametrize("inside", [True, False])
def test_to_thread_in_the_child(run, inside):
    """The parent has an idle thread for such calls, of which the child has inherited nothing but the memory."""

    def child():
        assert netnet.run(netnet.to_thread, int, "7") == 7

    def main():
        netnet.to_thread(int)
        while not threads._threads._free:  # the thread says so a moment after it gave the result
            netnet.sleep(0)
        return in_child(child) if inside else 0

    assert run(main) == 0
    if not inside:
        assert in_child(child) == 0


def test_a_child_made_while_a_thread_works(run):
    release = threading.Event()

    def main():
        task = netnet.spawn(netnet.to_thread, release.wait, 10)
        wait_all_parked()
        assert in_child(lambda: netnet.run(echo_once)) == 0
        release.set()
        assert task.result() is True

    run(main)


def test_ctrl_c_in_the_child_of_a_task():
    """The parent's handlers, which it inherited, must not swallow it."""

    def child():
        def main():
            netnet.spawn(signal.raise_signal, signal.SIGINT)
            netnet.sleep(1000)

        with pytest.raises(KeyboardInterrupt):
            netnet.run(main)

    assert netnet.run(in_child, child) == 0


def test_sigterm_in_the_child_of_a_task():
    def child():
        def main():
            netnet.spawn(signal.raise_signal, signal.SIGTERM)
            netnet.sleep(1000)

        with pytest.raises(SystemExit, match="143"):
            netnet.run(main)

    assert netnet.run(in_child, child) == 0


def test_a_child_that_runs_no_loop_dies_of_sigterm():
    """In the child of a task no loop runs that could deliver it."""

    def child():
        signal.raise_signal(signal.SIGTERM)
        for _ in range(1000):
            pass

    assert netnet.run(in_child, child) in (-signal.SIGTERM, 143)
