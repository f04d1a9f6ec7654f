"""What ``netnet bench`` does, command by command: each is a function that returns an exit status.

0: done; 1: netnet could not be measured somewhere; 3, where it was asked for: a figure has become worse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

import netnet
from netnet.bench import history, installing, machine, peers, report, results, running
from netnet.bench.display import Display
from netnet.bench.families import FAMILIES, cases, seed
from netnet.bench.figures import FULL, SMOKE, Case, Size, Table
from netnet.bench.journal import Journal
from netnet.bench.processes import processors
from netnet.bench.report import terminal
from netnet.bench.results import Flame, Results
from netnet.errors import Error, UsageError
from netnet.kernel.limits import raise_descriptor_limit

DONE, FAILED, WORSE = 0, 1, 3

#: where results go unless another folder is named
OUT = Path("netnet-bench")

#: what starting and ending programs adds to a measurement, about
_AROUND_SECONDS = 0.7


@dataclass(frozen=True)
class Wanted:
    """A run, as it was asked for."""

    families: Sequence[str] = ()
    size: Size = FULL
    out: Path = OUT
    #: only these peers, and only cases with this in their titles
    peers: Sequence[str] = ()
    only: str = ""
    fresh: bool = False
    flame: bool = False
    #: of the history
    folder: Path = history.FOLDER
    save: bool = False
    strict: bool = False
    against: Path | None = None

    @property
    def command(self) -> str:
        """The command line that asks for the same figures."""
        words = ["netnet bench run", *self.families]
        words += [f"--{self.size.name}"] * (self.size.name != FULL.name)
        words += [f"--seed {self.size.seed}"] * (self.size.seed != FULL.seed)
        words += [f"--peers '{','.join(self.peers)}'"] * bool(self.peers)
        words += [f"--only '{self.only}'"] * bool(self.only)
        return " ".join([*words, *["--flame"] * self.flame])


def list_families(size: Size, console: Console) -> int:
    """Tells the families, and how many measurements each makes."""
    for name, family in FAMILIES.items():
        found = family.cases(size)
        count = running.count(found, size)
        minutes = count * _seconds_each(size) / 60
        about = f"{len(found)} cases, {count} measurements, some {max(1, round(minutes))} min"
        console.print(f"{name:10} {family.about}\n{'':10} {about}", markup=False, highlight=False, soft_wrap=True)
    return DONE


def list_peers(install: bool, console: Console) -> int:
    """Tells which peers are here and how to get the others; with *install* gets those that PyPI and Debian have."""
    status = installing.install() if install else DONE
    for name, version, remedy in installing.tell():
        missing = f"missing: {remedy}" if remedy else ""
        console.print(f"{name:12} {version or missing}", markup=False, highlight=False, soft_wrap=True)
    return status


def run(wanted: Wanted, console: Console) -> int:
    """Measures what is wanted, tells each table, and writes the report. Raises ``netnet.Error``."""
    raise_descriptor_limit()
    chosen = _chosen(wanted)
    earlier = _earlier(wanted)
    if wanted.save:
        history.prepared(wanted.folder)
    kept = _kept(wanted)
    header = _header(wanted.size)
    with Journal(wanted.out, header, fresh=wanted.fresh) as journal:
        _introduce(wanted, chosen, len(journal), console)
        with Display(console, running.count(chosen, wanted.size)) as display:
            running.run(chosen, wanted.size, journal, display)
        flames = _flames(wanted, console)
        tables = [case.table for case in chosen]
        found = _results(wanted, tables, flames, kept)
        results.write(found, wanted.out)
        report.write(found, wanted.out)
        journal.finished()
    return _settle(wanted, tables, earlier, console)


def write_report(folder: Path, console: Console) -> int:
    """Writes the report of the results in *folder* anew. Raises ``UsageError``."""
    found = results.read(folder)
    report.write(found, folder if folder.is_dir() else folder.parent)
    terminal.machine(found, console)
    for table in found.tables:
        terminal.table(table, console)
        console.print()
    _tell(found.tables, console)
    return DONE


def tell_history(size: Size | None, folder: Path, console: Console) -> int:
    """Tells the course of each figure over the saved runs. Raises ``HistoryError``."""
    found = history.runs(folder)
    if size is not None:
        found = [(where, one) for where, one in found if one.size == size.name]
    if not found:
        console.print(f"no run in {folder}; --save writes one", markup=False, soft_wrap=True)
    terminal.history(found, console)
    return DONE


# -- before


def _chosen(wanted: Wanted) -> list[Case]:
    """The cases that are wanted. Raises ``UsageError`` where that is none."""
    unknown = [name for name in wanted.families if name not in FAMILIES]
    if unknown:
        raise UsageError(f"no such family: {', '.join(unknown)}; there are: {', '.join(FAMILIES)}")
    every = cases(wanted.families or list(FAMILIES), wanted.size)
    found = [case for case in every if wanted.only in case.table.title]
    if not found:
        raise UsageError(f"no case has {wanted.only!r} in its title; `netnet bench list` tells the families")
    if not wanted.peers:
        return found
    there = list(dict.fromkeys(peer for case in found for peer in (*case.measures, *case.table.missing)))
    strangers = [peer for peer in wanted.peers if peer not in there]
    if strangers:
        raise UsageError(f"no such peer: {', '.join(strangers)}; there are: {', '.join(there)}")
    return running.only(found, wanted.peers)


def _earlier(wanted: Wanted) -> tuple[str, history.Run] | None:
    """The run to compare with: looked for before the measuring, which takes long. Raises ``HistoryError``."""
    if wanted.against is not None:
        found = history.read(wanted.against)
        if found.size != wanted.size.name:
            raise history.HistoryError(f"{wanted.against}: a run of size {found.size}; this one is {wanted.size.name}")
        return wanted.against.name, found
    return None if wanted.size.name == SMOKE.name else history.latest(wanted.folder, wanted.size)


def _kept(wanted: Wanted) -> Results | None:
    """What the folder has of an earlier run, which this one adds to. Raises ``UsageError`` where they do not go together."""
    if wanted.fresh or not (wanted.out / results.NAME).exists():
        return None
    if wanted.peers:
        raise UsageError(
            f"{wanted.out}: has results of a run, and --peers would take the others' figures out of them; "
            "--out chooses another folder, --fresh replaces them"
        )
    found = results.read(wanted.out)
    here = (netnet.__version__, wanted.size.name, wanted.size.seed, machine.environment())
    if (found.netnet, found.size, found.seed, found.environment) != here:
        raise UsageError(
            f"{wanted.out}: has the results of another run ({found.size}, netnet {found.netnet}, {found.environment}); "
            "--fresh replaces them, --out chooses another folder"
        )
    return found


def _header(size: Size) -> dict[str, object]:
    return {"netnet": netnet.__version__, "size": dataclasses.asdict(size), "environment": machine.environment()}


def _seconds_each(size: Size) -> float:
    return size.warmup_seconds + size.seconds + _AROUND_SECONDS


def _introduce(wanted: Wanted, chosen: Sequence[Case], done: int, console: Console) -> None:
    measurements = running.count(chosen, wanted.size)
    minutes = max(0, measurements - done) * _seconds_each(wanted.size) / 60
    lines = [
        machine.environment(),
        "peers: " + ", ".join(f"{name} {version}" for name, version in peers.versions().items()),
        "server on processor {}, load on {}; medians of interleaved runs".format(*processors()),
        f"{measurements} measurements, some {max(1, round(minutes))} min, into {wanted.out}/",
    ]
    if done:
        lines.append(f"going on with a run that was stopped: {done} are there")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print()


# -- after


def _flames(wanted: Wanted, console: Console) -> list[Flame]:
    if not wanted.flame:
        return []
    try:
        with console.status("flame graphs of the proxy"):
            return seed.flames(wanted.size, wanted.out)
    except Error as error:
        console.print(f"no flame graphs: {error}", markup=False, soft_wrap=True)
        return []


def _results(wanted: Wanted, tables: list[Table], flames: list[Flame], kept: Results | None) -> Results:
    order = {case.table.title: number for number, case in enumerate(cases(list(FAMILIES), wanted.size))}
    titles = {table.title for table in tables}
    if kept is not None:
        tables = [*tables, *(table for table in kept.tables if table.title not in titles)]
        flames = flames or kept.flames
    return Results(
        made=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        netnet=netnet.__version__,
        size=wanted.size.name,
        seed=wanted.size.seed,
        command=wanted.command if kept is None else dataclasses.replace(wanted, families=()).command,
        environment=machine.environment(),
        machine=machine.description(),
        versions=peers.versions(),
        tables=sorted(tables, key=lambda table: order.get(table.title, len(order))),
        flames=flames,
    )


def _tell(tables: Sequence[Table], console: Console) -> None:
    """What the tables come to."""
    terminal.growth(tables, console)
    terminal.standing(tables, console)
    terminal.targets(tables, console)


def _settle(wanted: Wanted, tables: Sequence[Table], earlier: tuple[str, history.Run] | None, console: Console) -> int:
    """Tells the targets and what has changed, saves what is to be saved, and returns the status."""
    _tell(tables, console)
    found: list[history.Change] = []
    if earlier is not None:
        found = history.compare(tables, machine.environment(), earlier[1])
        terminal.changes(found, earlier[1], earlier[0], console)
    say = [f"\nthe report: {wanted.out / 'report.html'}, {wanted.out / 'report.md'}, {wanted.out / results.NAME}"]
    if wanted.save:
        path = history.write(history.recorded(tables, wanted.size, machine.environment()), wanted.folder)
        say.append(f"saved {path}")
    lost = [
        f"netnet failed in: {table.title}: {table.failed[table.ours]}" for table in tables if table.ours in table.failed
    ]
    for line in [*say, *lost]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if lost:
        return FAILED
    return WORSE if wanted.strict and any(change.verdict == "worse" for change in found) else DONE


__all__ = ["OUT", "Wanted", "list_families", "list_peers", "run", "tell_history", "write_report"]
