"""The sequencer: order across tasks, and what breaks it."""

from __future__ import annotations

import pytest

import netnet
from netnet.testing import Sequencer, VirtualClock, wait_all_parked


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_stretches_run_in_the_order_of_their_numbers(run, order):
    def main():
        seq, seen = Sequencer(), []

        def stretch(number):
            with seq(number):
                netnet.sleep(1)
                seen.append(number)
                netnet.sleep(1)

        with netnet.TaskGroup() as group:
            for number in order:
                group.spawn(stretch, number)
        return seen

    assert run(main, clock=VirtualClock()) == [0, 1, 2, 3]


def test_one_task_may_have_several_stretches(run):
    def main():
        seq, seen = Sequencer(), []

        def worker(numbers):
            for number in numbers:
                with seq(number):
                    seen.append(number)

        with netnet.TaskGroup() as group:
            group.spawn(worker, (1, 2, 5))
            group.spawn(worker, (0, 3, 4))
        return seen

    assert run(main) == [0, 1, 2, 3, 4, 5]


def test_an_error_in_a_stretch_does_not_stop_the_next(run):
    def main():
        seq = Sequencer()
        with pytest.raises(LookupError), seq(0):
            raise LookupError
        with seq(1):
            return "went on"

    assert run(main) == "went on"


def test_a_number_used_twice_is_an_error(run):
    def main():
        seq = Sequencer()
        again = seq(0)
        with again:
            pass
        for stretch in (again, seq(0)):
            with pytest.raises(netnet.UsageError, match="stretch 0 of this sequence was used before"), stretch:
                raise AssertionError

        def wait():
            with seq(2):
                pass

        task = netnet.spawn(wait)
        wait_all_parked()
        with pytest.raises(netnet.UsageError, match="stretch 2 of this sequence was used before"), seq(2):
            raise AssertionError
        with seq(1):
            pass
        task.result()

    run(main)


def test_a_stretch_inside_another_of_the_same_task_is_an_error(run):
    def main():
        seq = Sequencer()
        with seq(0):
            with pytest.raises(netnet.UsageError, match="stretch 1 is inside stretch 0 of the same task"), seq(1):
                raise AssertionError
        with seq(1):
            return "not broken"

    assert run(main) == "not broken"


def test_cancelling_one_who_waits_breaks_it_for_the_others(run):
    def main():
        seq = Sequencer()

        def stretch(number):
            with seq(number):
                raise AssertionError

        waiting = [netnet.spawn(stretch, number, name=f"number-{number}") for number in (1, 2, 3)]
        wait_all_parked()
        with seq(0):
            waiting[1].cancel()
            wait_all_parked()
        said = "this sequence is broken: task number-2 was interrupted while it waited for stretch 2"
        for task in (waiting[0], waiting[2]):
            with pytest.raises(netnet.UsageError, match=said):
                task.result()
        assert isinstance(waiting[1].error, netnet.Cancelled)
        with pytest.raises(netnet.UsageError, match=said), seq(7):
            raise AssertionError

    run(main)


def test_a_time_limit_breaks_it_too(run):
    def main():
        seq = Sequencer()
        with pytest.raises(TimeoutError), netnet.timeout(1), seq(1):
            raise AssertionError
        with pytest.raises(netnet.UsageError, match="broken"), seq(0):
            raise AssertionError

    run(main, clock=VirtualClock())


def test_a_missing_number_is_a_deadlock_that_names_it(run):
    def main():
        seq = Sequencer()
        with seq(0):
            pass
        with seq(2):
            raise AssertionError

    with pytest.raises(netnet.DeadlockError, match="its turn in a sequence: stretch 2, after 1"):
        run(main, clock=VirtualClock())


def test_it_works_in_tasks_only_and_counts_from_0():
    seq = Sequencer()
    with pytest.raises(netnet.UsageError, match=r"netnet\.run"), seq(0):
        raise AssertionError
    with pytest.raises(ValueError, match="numbered from 0, not -1"):
        seq(-1)
