"""How far a run is, on the terminal: a bar for all that is to be measured, and each table as soon as it is whole. Where the
output is no terminal, the tables only.
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from netnet.bench.figures import Case
from netnet.bench.report import terminal


class Display:
    """A watcher of a run that shows so many measurements; a context manager."""

    def __init__(self, console: Console, measurements: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=measurements)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def measuring(self, case: Case, peer: str, number: int) -> None:
        """The peer's turn begins."""
        self._progress.update(self._task, description=f"{case.table.title}: {peer}")

    def measured(self) -> None:
        """One less to come."""
        self._progress.advance(self._task)

    def case_done(self, case: Case) -> None:
        """Shows the table."""
        terminal.table(case.table, self._console)
        self._console.print()


__all__ = ["Display"]
