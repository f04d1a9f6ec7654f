"""Waiting until every other task waits, so that a test can look at a state that will not change by itself."""

from __future__ import annotations

from netnet.runtime.worker import current_worker

#: how many turns without a runnable task count as quiet: events of sockets come one turn after the call that made them
QUIET_TURNS = 3


def wait_all_parked() -> None:
    """Returns when no other task can run: each waits for a time, a socket or another task. Switches tasks.

    What the kernel has on its way between two sockets of the same machine is let through first. Raises ``Cancelled``.
    """
    worker = current_worker()
    loop = worker.loop
    quiet = 0
    while quiet < QUIET_TURNS:
        loop.checkpoint(worker)
        loop.cut_turn()  # the others, and then a look for events, before this goes on
        loop.step_aside(worker)
        quiet = quiet + 1 if loop.quiet and not (loop.ready or loop.foreign) else 0
