"""The log of the proxy: lines on standard error, that nobody can make it wait for, and that nobody can forge.

Not here: files, their rotation, syslog. Standard error goes to whoever runs the proxy (systemd's journal, a container's
log, a file of the shell), and these can do that.

**It never waits.** A pipe whose reader stands still would stop the proxy, all its connections with it. ``O_NONBLOCK``
belongs to the open file description, which other processes share, so it must not be set on what was inherited. A pipe or
a terminal is therefore opened once more, by ``/proc/self/fd`` (proc(5)); that gives a description of our own. A socket is
sent to with ``MSG_DONTWAIT``, which holds for the call. A regular file makes nobody wait, and keeps its shared offset. Where
a pipe cannot be opened again (no ``/proc``; made by another user), poll(2) is asked before each write: then another
writer can come between. Lines that cannot be written yet are held, up to a limit; more are dropped, counted, and the
count is said in the line that stands in their place.

**Lines stay whole.** Those of one turn of the loop go out together, in pieces of ``PIPE_BUF`` bytes at most: such a write
to a pipe is never mixed with another process's (pipe(7)). A longer line is shortened.

**Nobody forges a line.** What a client sends stands in the log: names, errors. Every character that is not printable is
written as an escape: line ends, terminal sequences, characters that turn the direction of writing. The further lines
of a traceback begin with a mark. In the journal each line carries its own priority (sd-daemon(3)).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import stat
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from netnet.runtime.api import now
from netnet.runtime.worker import running

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.socks.session import Session

#: what one write may have and still be whole among those of other processes; POSIX says 512 at least, Linux has 4096
LINE_BYTES_MAX: Final = getattr(select, "PIPE_BUF", 512)

#: lines that wait for a slow reader: some 8,000 of them, a second or two of a busy proxy
HELD_BYTES_MAX: Final = 1 << 20

#: so long after a write that would have waited it is tried again. A pipe holds 64 KiB, so 1.3 MB/s go through even then
RETRY_SECONDS: Final = 0.05

#: so long the end of the process waits for the reader
CLOSE_SECONDS: Final = 1.0

#: in front of the further lines of a traceback, so that they cannot be taken for lines of their own
CONTINUED: Final = "  | "

_CUT: Final = " [cut]"

#: of the values of a JSON line that is too long, none keeps more characters than this; halved until the line fits
_VALUE_CHARACTERS: Final = 1024

_WORDS: Final = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)

#: the priorities of syslog(3), as sd-daemon(3) has them in front of a line
_PRIORITIES: Final = {"critical": "<2>", "error": "<3>", "warning": "<4>", "info": "<6>", "debug": "<7>"}


class Form(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


def printable(text: str) -> str:
    """*text* with each character that is not printable as an escape: ``\\x1b``, ``\\n``, ``\\u202e``.

    What is left has no end of line, no terminal sequence and nothing that changes the order of what is read. Does not
    switch tasks.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Log:
    """Writes lines to *descriptor* without ever waiting.

    *form*: text for people, or a JSON object a line. *stamp*: whether a text line begins with the time; by default it
    does, unless systemd's journal reads it, which has its own. JSON lines always have "time", as RFC 3339 has it.
    *held_bytes_max*: how much is held for a slow reader. What is written inside a loop goes out at the end of its turn,
    elsewhere at once. It can be used from any OS thread. No call switches tasks, and none raises because a line cannot
    be written.
    """

    def __init__(
        self,
        *,
        form: Form | str = Form.TEXT,
        stamp: bool | None = None,
        descriptor: int = 2,
        held_bytes_max: int = HELD_BYTES_MAX,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.form = Form(form)
        self.dropped = 0  #: lines that were lost since the beginning
        journal = is_journal(descriptor)
        self._stamp = _Stamp(wall, utc=self.form is Form.JSON)
        self._stamped = not journal if stamp is None else stamp
        self._prioritized = journal and self.form is Form.TEXT
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._held_bytes_max = held_bytes_max
        self._rest = b""  # of a piece that was written in part
        self._unsaid = 0  # lines that were dropped, and nobody has been told
        self._planned: Loop | None = None  # which loop is to write what is held
        self._writing = False
        self._process = os.getpid()
        self._lock = threading.RLock()  # again by its holder: a finalizer may log in the middle of it
        self._sink: _Sink | None = _open(descriptor)
        _logs.add(self)

    def line(self, message: str, *, level: int = logging.INFO, **fields: object) -> None:
        """Writes a line. *level* is one of ``logging``; *fields* are further members of a JSON line, text leaves them out."""
        self._write(_word(level), message, "", fields)

    def session(self, session: Session) -> None:
        """Writes what there is to tell of a connection that has ended: a *report* for the server."""
        instant = now()
        if self.form is Form.JSON:
            self._keep(self._json("info", {"event": "session", **session.fields(instant)}))
        else:
            self._keep(self._text("info", session.line(instant)))

    def record(self, record: logging.LogRecord) -> None:
        """Writes a record of ``logging``."""
        try:
            message = record.getMessage()
        except Exception as error:  # its arguments do not fit its text: said, since the log must not fail
            message = f"{record.msg!r} with arguments that do not fit: {error}"
        fields = {"logger": record.name}
        told = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self._write(_word(record.levelno), message, told or record.exc_text or "", fields)

    def handler(self, level: int = logging.NOTSET) -> LogHandler:
        """A handler of ``logging`` that writes here."""
        return LogHandler(self, level)

    def flush(self) -> bool:
        """Writes what can be written at once; whether that was all."""
        with self._lock:
            self._flush()
            return not (self._rest or self._held)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Writes what is held, for *seconds* at most, in which it blocks the OS thread. Then nothing more is written."""
        until = time.monotonic() + seconds
        while not self.flush() and (left := until - time.monotonic()) > 0:
            if self._sink is not None:
                self._sink.wait(min(left, RETRY_SECONDS))
        with self._lock:
            sink, self._sink = self._sink, None
            self._lose()
        if sink is not None:
            sink.close()

    def after_fork(self) -> None:
        """In a forked child, called by itself: what the parent holds is the parent's to write. Again, it does nothing."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._held.clear()
        self._held_bytes = self._unsaid = self.dropped = 0
        self._rest = b""
        self._planned = None
        self._writing = False

    # -- what a line is

    def _write(self, word: str, message: str, trace: str, fields: Mapping[str, object]) -> None:
        if self.form is Form.JSON:
            more = {"traceback": trace} if trace else {}
            self._keep(self._json(word, {"message": message, **fields, **more}))
            return
        self._keep(self._text(word, message if word == "info" else f"{word}: {message}"))
        for line in trace.splitlines():
            self._keep(self._text(word, CONTINUED + line))

    def _text(self, word: str, message: str) -> bytes:
        priority = _PRIORITIES[word] if self._prioritized else ""
        stamp = self._stamp() + " " if self._stamped else ""
        line = (priority + stamp + printable(message)).encode(errors="backslashreplace")
        if len(line) >= LINE_BYTES_MAX:
            line = line[: LINE_BYTES_MAX - len(_CUT) - 1].decode(errors="ignore").encode() + _CUT.encode()
        return line + b"\n"

    def _json(self, word: str, fields: Mapping[str, object]) -> bytes:
        members = {"time": self._stamp(), "level": word, **fields}
        line = _json_line(members)
        characters = _VALUE_CHARACTERS
        while len(line) > LINE_BYTES_MAX and characters:
            line = _json_line({name: _shortened(name, value, characters) for name, value in members.items()})
            characters //= 2
        return line

    # -- how it goes out

    def _keep(self, line: bytes) -> None:
        with self._lock:
            if self._sink is None or self._held_bytes + len(line) > self._held_bytes_max:
                self.dropped += 1
                self._unsaid += 1
            else:
                self._say_dropped()
                self._hold(line)
            self._plan()

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_bytes += len(line)

    def _say_dropped(self) -> None:
        """The count stands where the lines are missing."""
        if self._unsaid:
            count, self._unsaid = self._unsaid, 0
            message = f"{count} log lines were dropped: their reader did not keep up"
            members = {"message": message, "dropped": count}
            self._hold(
                self._json("warning", members)
                if self.form is Form.JSON
                else self._text("warning", f"warning: {message}")
            )

    def _plan(self) -> None:
        """Has the lines written: at the end of the turn, at the next try, or now."""
        if self._planned is not None and not self._planned.closed:
            return
        loop: Loop | None = getattr(running, "loop", None)
        if loop is None or loop.closed:
            self._flush()
        else:
            self._planned = loop
            loop.call_soon(self._planned_flush)

    def _planned_flush(self) -> None:
        with self._lock:
            self._planned = None
            self._flush()
            loop: Loop | None = getattr(running, "loop", None)
            if loop is not None and (self._rest or self._held):
                self._planned = loop
                loop.timers.add(loop.clock.now() + RETRY_SECONDS, self._planned_flush)

    def _flush(self) -> None:
        if self._writing:  # by a finalizer that logs in the middle of this
            return
        self._writing = True
        try:
            self._write_held()
        finally:
            self._writing = False

    def _write_held(self) -> None:
        while self._sink is not None and self._next_piece():
            try:
                written = self._sink.write(self._rest)
            except BlockingIOError:
                return
            except OSError:  # the reader is gone, or the disk is full: there is nobody to tell
                self._lose()
                return
            self._rest = self._rest[written:]

    def _next_piece(self) -> bytes:
        """As many lines as one write may have."""
        if not self._rest:
            if not self._held:
                self._say_dropped()
            lines: list[bytes] = []
            size = 0
            while self._held and (not lines or size + len(self._held[0]) <= LINE_BYTES_MAX):
                lines.append(self._held.popleft())
                size += len(lines[-1])
            self._held_bytes -= size
            self._rest = b"".join(lines)
        return self._rest

    def _lose(self) -> None:
        lost = self._rest.count(b"\n") + len(self._held)
        self.dropped += lost
        self._unsaid = 0
        self._held.clear()
        self._held_bytes = 0
        self._rest = b""


class LogHandler(logging.Handler):
    """Hands the records of ``logging`` to a ``Log``: ``logging.getLogger("netnet").addHandler(log.handler())``."""

    def __init__(self, log: Log, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record. Never waits and never raises."""
        with contextlib.suppress(Exception):
            self.log.record(record)


def is_journal(descriptor: int) -> bool:
    """Whether systemd's journal reads *descriptor*: ``JOURNAL_STREAM`` names its device and inode (systemd.exec(5))."""
    try:
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        status = os.fstat(descriptor)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


# -- where lines go


class _Sink:
    """A regular file, or anything else that makes nobody wait: written to as it is."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, data: bytes) -> int:
        return os.write(self.descriptor, data)

    def ready(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(seconds * 1000))

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(OSError):
            if not self.ready(seconds):
                return
        time.sleep(0.001)  # a pipe can be ready, and have no room for the whole piece

    def close(self) -> None:
        """The descriptor was given, so it stays open."""


class _Reopened(_Sink):
    """A pipe or a terminal, with a description of our own that is non-blocking."""

    def close(self) -> None:
        os.close(self.descriptor)


class _Asked(_Sink):
    """A pipe or a terminal that cannot be opened again."""

    def write(self, data: bytes) -> int:
        if not self.ready(0):
            raise BlockingIOError
        return super().write(data)


class _Sent(_Sink):
    """A socket: systemd's journal."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        super().__init__(self._socket.fileno())

    def write(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0))

    def close(self) -> None:
        self._socket.close()


def _open(descriptor: int) -> _Sink:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return _Sink(descriptor)  # closed: each write fails, and is counted
    if stat.S_ISSOCK(mode):
        return _Sent(descriptor)
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return _Sink(descriptor)
    if os.path.isdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            return _Reopened(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
    return _Asked(descriptor)


# -- the parts of a line


class _Stamp:
    """The time as text, with milliseconds; made anew once a second, since all but these stay the same."""

    def __init__(self, wall: Callable[[], float], *, utc: bool) -> None:
        self._wall = wall
        self._parts = time.gmtime if utc else time.localtime
        self._format, self._end = ("%Y-%m-%dT%H:%M:%S", "Z") if utc else ("%Y-%m-%d %H:%M:%S", "")
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        instant = self._wall()
        second = int(instant)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._format, self._parts(second))
        return f"{self._text}.{int(instant * 1000) % 1000:03}{self._end}"


_encode: Final = json.JSONEncoder(ensure_ascii=True, default=str).encode  # made once: dumps() would make one each time


def _json_line(members: Mapping[str, object]) -> bytes:
    return _encode(members).replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _shortened(name: str, value: object, characters: int) -> object:
    if not isinstance(value, str) or len(value) <= characters:
        return value
    return _CUT + value[-characters:] if name == "traceback" else value[:characters] + _CUT  # its end says what it was


def _word(level: int) -> str:
    for least, word in _WORDS:
        if level >= least:
            return word
    return "debug"


_logs: weakref.WeakSet[Log] = weakref.WeakSet()


def _after_fork() -> None:
    for log in list(_logs):
        log.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def logging_to(log: Log, level: int = logging.INFO) -> Iterator[None]:
    """Inside the ``with``, what netnet itself logs from *level* on goes to *log*, and nowhere else."""
    logger = logging.getLogger("netnet")
    handler = log.handler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


__all__ = ["Form", "Log", "LogHandler", "is_journal", "logging_to", "printable"]
