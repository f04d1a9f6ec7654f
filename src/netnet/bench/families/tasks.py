"""Tasks: CPU time to spawn and join them and to change from one to the other, and the memory of one that sleeps."""

from __future__ import annotations

from netnet.bench.families.inside import THREADS_DIVISOR, Work, here, take_turns
from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.processes import probe, probing


def tasks(size: Size, progress: Progress) -> list[Figures]:
    """Spawned one at a time and by the hundred, taking turns, asleep."""
    return [
        *(take_turns(figures, _spawning(name, size), size, progress) for name, figures in _spawn_tables().items()),
        _turns(size, progress),
        *_sleepers(size, progress),
    ]


def _spawn_tables() -> dict[str, Figures]:
    return {
        "single": Figures("empty tasks, spawned and joined one at a time", "µs CPU each", base="gevent"),
        "batches": Figures("empty tasks, spawned and joined by the hundred", "µs CPU each", base="gevent"),
    }


def _spawning(name: str, size: Size) -> dict[str, Work]:
    works = {library: Work(library, name, size.tasks) for library in ("gevent", "netnet", "asyncio")}
    works["threads"] = Work("threads", name, size.tasks // THREADS_DIVISOR)
    return works


def _turns(size: Size, progress: Progress) -> Figures:
    figures = Figures("two tasks that take turns", "µs CPU a pair of turns", base="gevent")
    works = {library: Work(library, "turns", size.turns) for library in ("gevent", "netnet", "asyncio")}
    return take_turns(figures, works, size, progress)


def _sleepers(size: Size, progress: Progress) -> list[Figures]:
    """The memory of each, and whether all that fell asleep wake when they are cancelled."""
    count = size.sleepers
    memory = Figures(f"{count} sleeping tasks", "kB each", base="gevent")
    lost = Figures(f"{count} sleeping tasks, cancelled", "tasks lost", base="netnet")
    works = {library: Work(library, "sleepers", count) for library in ("gevent", "netnet", "asyncio")}
    for peer, work in list(here(works, memory).items()) * size.rounds:
        progress(f"{memory.title}: {peer}")
        kilobytes, woken = _sleep(work)
        memory.add(peer, kilobytes)
        lost.add(peer, count - woken)
    lost.missing = dict(memory.missing)
    return [memory, lost]


def _sleep(work: Work) -> tuple[float, int]:
    """The memory of one sleeping task, kB, and how many of them woke."""
    with probing(probe(work.library, work.name, work.count)) as process:
        process.line()
        before = process.group_resident_bytes()
        process.tell("go")
        process.line()
        asleep = process.group_resident_bytes()
        process.tell("go")
        return (asleep - before) / 1000 / work.count, int(process.line()[1])
