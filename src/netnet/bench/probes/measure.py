"""``measure.py LIBRARY WORK COUNT [MORE ...]``: does a work and tells what it took. It starts only what it measures.

A work of ``WORKS`` does COUNT units of something in a run of its own. It is done twice, first a tenth of it to warm up;
printed are the CPU seconds of the second time: ``seconds S``. The start and the end of a run are in them, spread over
the units, of which there should be many.

A work of ``PREPARED`` needs something to stand meanwhile, which must not count: it makes that, warms up, and does its COUNT
units in a ``with`` statement of the stopwatch that it gets. What that has taken is printed as above.

A work of ``HOLDING`` makes COUNT of something and keeps them while the caller measures its memory. Around that it
pauses: it prints a word and waits for a line. What it returns is printed at the end: ``woken N``.
"""

import importlib
import sys
import time


class Stopwatch:
    """A context manager that takes the CPU time of the process, of all threads, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._start


def pause(word: str) -> None:
    """Tells the caller how far it is, and waits for a line from it. Blocks the thread, with all that runs in it."""
    print(word, flush=True)
    sys.stdin.readline()


def main(library: str, work: str, count: int, *more: int) -> None:
    """Does the work and prints what it took."""
    module = importlib.import_module(f"on_{library}")
    if work in module.HOLDING:
        print("woken", module.HOLDING[work](count, pause, *more), flush=True)
        return
    stopwatch = Stopwatch()
    if work in module.PREPARED:
        module.PREPARED[work](count, stopwatch, *more)
    else:
        do = module.WORKS[work]
        do(max(1, count // 10), *more)
        with stopwatch:
            do(count, *more)
    print("seconds", stopwatch.seconds, flush=True)


main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
