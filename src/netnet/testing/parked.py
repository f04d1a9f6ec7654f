"""Waiting until every other task waits, so that a test can look at a state that will not change by itself."""

from __future__ import annotations

from netnet.runtime.worker import Worker, current_worker

#: how many turns without a runnable task count as quiet: events of sockets come one turn after the call that made them
QUIET_TURNS = 3


def wait_all_parked() -> None:
    """Returns when no other task can run: each waits for a time, a socket or another task. Switches tasks.

    What the kernel has on its way between two sockets of the same machine is let through first. Raises ``Cancelled``.
    """
    worker = current_worker()
    quiet = 0
    while quiet < QUIET_TURNS:
        worker.loop.checkpoint(worker)
        quiet = quiet + 1 if quiet_turn(worker) else 0


def quiet_turn(worker: Worker) -> bool:
    """Lets the others run once, and the loop look for events; whether neither brought anything. Cannot be cancelled."""
    loop = worker.loop
    loop.cut_turn()  # the others, and then a look for events, before this goes on
    loop.step_aside(worker)
    return loop.quiet and not (loop.ready or loop.foreign)
