"""``netnet proxy top``: how a running proxy is doing, on the terminal, as it goes.

It asks the supervisor's UNIX socket for the document of ``status`` again and again; rates are what has changed between two
of them. A program of its own, without a loop: it waits for a key or the next time. The picture is made with Rich, an
extra, which is imported when there is something to draw; ``--json`` does without. What clients have sent is shown by
``printable``, so that it cannot write to the terminal by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from typing import IO, TYPE_CHECKING, Final

from netnet.proxy.document import ConnectionStatus, Status, WorkerStatus
from netnet.proxy.extras import MissingExtraError
from netnet.proxy.log import printable
from netnet.proxy.status import StatusReader

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

DEFAULT_PATH: Final = "/run/netnet/proxy.sock"

#: more often would be more than one can read, and the supervisor gives the same document again
INTERVAL_SECONDS_MIN: Final = 0.25

#: where there is no terminal whose size could be asked
WIDTH_WITHOUT_TERMINAL: Final = 120
ROWS_WITHOUT_TERMINAL: Final = 20

#: rows of the lower half, and of workers: the rest of the screen is for connections
LOWER_ROWS: Final = 12
WORKER_ROWS_MAX: Final = 8

#: below this a terminal does without some columns
NARROW_COLUMNS: Final = 110

#: "999 MB"
FIGURE_WIDTH: Final = 6

#: a loop whose timers are so late, or that answers so late, holds connections up
SLOW_SECONDS: Final = 0.1

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


# -- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "--status", metavar="PATH", default=DEFAULT_PATH, help="the proxy's status socket (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON each time instead of a picture")
    parser.add_argument("--once", action="store_true", help="once, then end; so it is where the output is no terminal")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=_interval, default=1.0, help="how often (default: %(default)s)"
    )


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not INTERVAL_SECONDS_MIN <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"seconds, from {INTERVAL_SECONDS_MIN} to 3600, not {text!r}")
    return seconds


def run(options: argparse.Namespace, *, output: IO[str] | None = None) -> int:
    """Runs the command; its exit status: 0, or 1 where the proxy does not answer, or Rich is missing."""
    out = sys.stdout if output is None else output
    try:
        if options.json:
            _print_json(options.status, options.interval, options.once, out)
        elif options.once or not out.isatty():
            _print_once(options.status, options.interval, out)
        else:
            _watch(options.status, options.interval)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # whoever read it has enough
        with contextlib.suppress(OSError, ValueError):  # so that Python does not try again at its end, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 0
    except MissingExtraError as error:
        print(f"netnet: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"netnet: {_no_answer(options.status, error)}", file=sys.stderr)
        return 1
    return 0


def _no_answer(path: str, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"no proxy answers at {path}: {reason}. Its path is 'status' in the configuration; say --status PATH"


def _print_json(path: str, interval_seconds: float, once: bool, out: IO[str]) -> None:
    with contextlib.closing(StatusReader(path)) as reader:
        while True:
            out.write(json.dumps(reader.read()) + "\n")
            out.flush()
            if once:
                return
            time.sleep(interval_seconds)


def _print_once(path: str, interval_seconds: float, out: IO[str]) -> None:
    """Two documents, so that there are rates."""
    console = _console(out)
    with contextlib.closing(StatusReader(path)) as reader:
        before = reader.read()
        time.sleep(interval_seconds)
        console.print(picture(changes(before, reader.read()), rows=ROWS_WITHOUT_TERMINAL))


# -- what has changed

Key = tuple[Hashable, ...]


@dataclass(slots=True)
class Changes:
    """A document, and what has changed since the one before: each figure a second."""

    status: Status
    sent: float = 0.0
    received: float = 0.0
    new: float = 0.0  #: connections
    failed: float = 0.0
    #: bytes a second to the target and from it
    connections: dict[Key, tuple[float, float]] = field(default_factory=dict)
    users: dict[str, tuple[float, float]] = field(default_factory=dict)
    #: processor time, of one processor's, by process
    busy: dict[int, float] = field(default_factory=dict)


def key(row: ConnectionStatus) -> Key:
    """What a connection is known by from one document to the next."""
    return row["pid"], row["began"], row["client"]


def changes(before: Status | None, after: Status) -> Changes:
    """Compares two documents. Where the second is of another run of the proxy, or the same, nothing has changed."""
    if before is None or after["uptime_seconds"] <= before["uptime_seconds"]:
        return Changes(after)
    seconds = after["instant"] - before["instant"]
    if seconds <= 0:
        return Changes(after)

    def rate(now: float, then: float) -> float:
        return max(0.0, now - then) / seconds

    now, then = after["totals"], before["totals"]
    rows = {key(row): row for row in before["top"]}
    users = {user["user"]: user for user in before["users"]}
    spent = {worker["pid"]: worker["process"]["cpu_seconds"] for worker in before["workers"]}
    return Changes(
        after,
        rate(now["sent"], then["sent"]),
        rate(now["received"], then["received"]),
        rate(now["sessions"] + after["connections"], then["sessions"] + before["connections"]),
        rate(now["failed"], then["failed"]),
        {
            key(row): (rate(row["sent"], old["sent"]), rate(row["received"], old["received"]))
            for row in after["top"]
            if (old := rows.get(key(row))) is not None
        },
        {
            user["user"]: (rate(user["sent"], one["sent"]), rate(user["received"], one["received"]))
            for user in after["users"]
            if (one := users.get(user["user"])) is not None
        },
        {
            worker["pid"]: rate(worker["process"]["cpu_seconds"], spent[worker["pid"]])
            for worker in after["workers"]
            if worker["pid"] in spent
        },
    )


# -- the picture


def picture(seen: Changes, *, rows: int) -> RenderableType:
    """All of it, one below the other, with at most *rows* rows a table. Imports Rich."""
    from rich.console import Group

    return Group(
        _head(seen),
        _workers(seen).table,
        _connections(seen, rows).table,
        _users(seen, rows).table,
        _failures(seen, rows).table,
    )


def screen(seen: Changes, *, rows: int, columns: int, notice: str = "") -> RenderableType:
    """All of it for a terminal of that size; what is too much is cut off, or left out. Imports Rich."""
    from rich.layout import Layout
    from rich.text import Text

    narrow = columns < NARROW_COLUMNS
    workers = min(len(seen.status["workers"]), WORKER_ROWS_MAX) + 2
    head = Text(printable(notice), style="bold red") if notice else _head(seen)
    whole, lower = Layout(), Layout(size=min(LOWER_ROWS, rows // 3))
    lower.split_row(
        Layout(_users(seen, LOWER_ROWS, narrow).table, ratio=2),
        Layout(_failures(seen, LOWER_ROWS, narrow).table, ratio=3),
    )
    whole.split_column(
        Layout(head, size=3),
        Layout(_workers(seen, narrow).table, size=workers),
        Layout(_connections(seen, rows, narrow).table),
        lower,
    )
    return whole


def _head(seen: Changes) -> RenderableType:
    from rich.text import Text

    status, totals = seen.status, seen.status["totals"]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"netnet proxy {printable(status['version'])}", style="bold")
    text.append(f"   up {age(status['uptime_seconds'])}   {len(status['workers'])} workers   ")
    text.append(f"{status['connections']:,} connections", style="bold green")
    if status["draining"]:
        text.append("   draining", style="bold yellow")
    text.append(f"\nin {size(seen.received)}/s   out {size(seen.sent)}/s   {seen.new:,.1f} new/s   ")
    text.append(f"{seen.failed:,.1f} failed/s", style="red" if seen.failed else "")
    text.append(f"   logins {totals['logins_good']:,} good, {totals['logins_failed']:,} failed")
    text.append(f"   {status['banned']:,} banned\n" if status["banned"] else "\n", style="red")
    return text


def _workers(seen: Changes, narrow: bool = False) -> _Sheet:
    sheet = _Sheet(
        "WORKER", "PID", ">CONNECTIONS", ">CPU", ">MEMORY", ">DESCRIPTORS", ">LAG", "+>UP", "STATE", narrow=narrow
    )
    for worker in seen.status["workers"]:
        process = worker["process"]
        sheet.add(
            str(worker["seat"]),
            str(worker["pid"]),
            f"{worker['connections']:,}",
            f"{seen.busy.get(worker['pid'], 0):.0%}",
            size(process["rss_bytes"]),
            "?" if process["descriptors"] < 0 else f"{process['descriptors']:,}/{process['descriptors_max']:,}",
            f"{worker['loop']['lag_seconds'] * 1000:.1f} ms",
            age(worker["uptime_seconds"]),
            state(worker),
            style="red" if worker["silent_seconds"] else "yellow" if worker["draining"] else "",
        )
    return sheet


def state(worker: WorkerStatus) -> str:
    """How a worker is, in words."""
    if worker["silent_seconds"]:
        return f"silent for {age(worker['silent_seconds'])}"
    if worker["draining"]:
        return "draining"
    return "slow" if max(worker["loop"]["lag_seconds"], worker["answer_seconds"]) > SLOW_SECONDS else "well"


def _connections(seen: Changes, rows: int, narrow: bool = False) -> _Sheet:
    """Those that move most now first, then those that have moved most."""
    sheet = _Sheet("CLIENT", "USER", "TARGET", "+RULE", ">AGE", "+>IN", "+>OUT", ">IN/s", ">OUT/s", narrow=narrow)
    still = (0.0, 0.0)
    ranked = sorted(
        seen.status["top"],
        key=lambda row: (sum(seen.connections.get(key(row), still)), row["sent"] + row["received"]),
        reverse=True,
    )
    for row in ranked[:rows]:
        out, into = seen.connections.get(key(row), still)
        target = row["target"] if row["command"] in ("", "connect") else f"{row['command']} {row['target']}"
        sheet.add(
            *(row["client"], row["user"] or "-", target, row["rule"]),
            *(age(row["seconds"]), size(row["received"]), size(row["sent"]), _rate(into), _rate(out)),
        )
    return sheet


def _users(seen: Changes, rows: int, narrow: bool = False) -> _Sheet:
    sheet = _Sheet("USER", ">OPEN", "+>IN", "+>OUT", ">IN/s", ">OUT/s", narrow=narrow)
    for user in seen.status["users"][:rows]:
        out, into = seen.users.get(user["user"], (0.0, 0.0))
        sheet.add(
            user["user"],
            f"{user['connections']:,}",
            *(size(user["received"]), size(user["sent"]), _rate(into), _rate(out)),
        )
    return sheet


def _failures(seen: Changes, rows: int, narrow: bool = False) -> _Sheet:
    sheet = _Sheet("!FAILED", "+CLIENT", "TARGET", "WHY", narrow=narrow)
    for row in seen.status["failures"][:rows]:
        why = row["ending"] or ""
        sheet.add(
            time.strftime("%H:%M:%S", time.localtime(row["time"])),
            *(row["client"], row["target"], f"{why}: {row['detail']}" if row["detail"] else why),
        )
    return sheet


class _Sheet:
    """A table without lines. Of a heading, > in front stands for figures, which are at the right and are not shortened,
    + for a column that a narrow terminal does without, ! for one that is not shortened either.

    Cells are shown as they are, whoever has sent them: neither Rich's markup nor the terminal's sequences mean anything.
    """

    def __init__(self, *headings: str, narrow: bool) -> None:
        from rich.table import Table
        from rich.text import Text

        def cell(text: str) -> Text:
            # Rich takes width from the columns that may wrap; that their cells do not is said in the cells
            return Text(printable(text), no_wrap=True, overflow="ellipsis")

        self._cell = cell
        self._shown = [not (narrow and heading[0] == "+") for heading in headings]
        self.table: Table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="reverse")
        for heading in compress(headings, self._shown):
            figures = ">" in heading
            self.table.add_column(
                self._cell(heading.lstrip("+>!")),
                justify="right" if figures else "left",
                min_width=FIGURE_WIDTH if figures else None,
                no_wrap=figures or "!" in heading,
            )

    def add(self, *cells: str, style: str = "") -> None:
        """A row, with the cells of all columns."""
        self.table.add_row(*map(self._cell, compress(cells, self._shown)), style=style)


def size(count: float) -> str:
    """A number of bytes for people: three digits or so, in steps of a thousand."""
    if count < 0:
        return "?"
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 99.95 else f"{count:.1f} {_UNITS[unit]}"


def _rate(count: float) -> str:
    return size(count) if count else ""


def age(seconds: float) -> str:
    """A time for people: ``8 s``, ``1:02``, ``3:04:05``, ``2 d 03:04``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


# -- the terminal


def _console(out: IO[str] | None = None) -> Console:
    try:
        from rich.console import Console
    except ImportError as error:
        raise MissingExtraError("netnet proxy top (but for --json)", "rich", error) from None
    if out is None or out.isatty():
        return Console(file=out)
    return Console(file=out, width=WIDTH_WITHOUT_TERMINAL)


def _watch(path: str, interval_seconds: float) -> None:
    """The picture, until q or Ctrl-C. A proxy that goes away is waited for."""
    console = _console()
    source = _Source(path)
    from rich.live import Live

    with contextlib.closing(source), _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        seen = changes(None, source.read())
        due = time.monotonic() + interval_seconds
        while True:
            live.update(screen(seen, rows=console.height, columns=console.width, notice=source.notice), refresh=True)
            if (key_pressed := pressed(max(0.0, due - time.monotonic()))) == "q":
                return
            if key_pressed is None:  # else: another key, or another size of the window
                after = source.read_again(seen.status)
                seen = seen if after["instant"] == seen.status["instant"] else changes(seen.status, after)
                due = time.monotonic() + interval_seconds


class _Source:
    """The documents, from a proxy that may be started again meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader: StatusReader | None = None
        self.notice = ""  #: why there is no new document

    def read(self) -> Status:
        """A document. Raises ``OSError``."""
        if self._reader is None:
            self._reader = StatusReader(self._path)
        return self._reader.read()

    def read_again(self, last: Status) -> Status:
        """A document; the *last* one where nobody answers."""
        try:
            status = self.read()
        except OSError as error:
            self.close()
            self.notice = _no_answer(self._path, error)
            return last
        self.notice = ""
        return status

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str | None]]:
    """Gives a function that waits for a key: it, or ``""`` for a new size of the window, or ``None`` after so many seconds."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    before = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    wakes_before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        with _without_echo() as keyboard:
            yield lambda seconds: _wait(keyboard, woken, seconds)
    finally:
        signal.set_wakeup_fd(wakes_before)
        signal.signal(signal.SIGWINCH, before)
        os.close(woken)
        os.close(wake)


def _wait(keyboard: int | None, woken: int, seconds: float) -> str | None:
    readable = select.select([woken] if keyboard is None else [woken, keyboard], [], [], seconds)[0]
    if woken in readable:
        os.read(woken, 4096)
        return ""
    if not readable or keyboard is None:
        return None
    return os.read(keyboard, 1).decode(errors="replace") or "q"  # its end: the terminal is gone


@contextlib.contextmanager
def _without_echo() -> Iterator[int | None]:
    """The keyboard, so that each key comes at once and is not shown; ``None`` where there is none."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


__all__ = ["DEFAULT_PATH", "Changes", "MissingExtraError", "add_arguments", "changes", "picture", "run", "screen"]
