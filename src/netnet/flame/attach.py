"""Sampling a running program by task, from outside: a request in a private folder, and SIGPROF to have it read.

The program has to have called ``netnet.flame.allow``; one that has not would die of the signal, so that is looked up first
(SigCgt in /proc/PID/status). Its children that allow it are asked, too, so that a server's supervisor stands for its
workers. From Python 3.14 on a program that has not allowed it can be asked through ``sys.remote_exec``, by a Python of
the same version, and with the rights that a debugger needs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from netnet.errors import UsageError
from netnet.flame import private, programs
from netnet.flame.inside import RATE
from netnet.flame.results import Results
from netnet.flame.stacks import Stacks

#: a program that has not begun, or ended, to record by then is in a call that does not return to Python
ANSWER_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.01
#: the time of the request itself is so much longer than asked for: it is ended from here, unless this process dies
MORE_SECONDS: Final = 60.0
#: a forked child has its parent's handlers until it executes another program, which takes less than this
SETTLE_SECONDS: Final = 0.05

_PREPARE: Final = "from netnet.flame import allow\nallow()\n"


class Attached:
    """Samples the process *pid*, and its children that allow it, from now on until ``finish``; for *seconds* at most.

    Raises ``UsageError`` where there is no such process, where it does not allow it or does not answer, and where the
    rights are missing. ``left_out``: how many of its children do not allow it.
    """

    def __init__(self, pid: int, rate: float = RATE, seconds: float = 600.0) -> None:
        self.pid = pid
        self._rate = rate
        self._seconds = seconds + MORE_SECONDS
        self._token = str(secrets.randbits(60))
        target = programs.look_at(pid)
        if not target.catches(signal.SIGPROF):
            _prepare(pid)
            target = programs.look_at(pid)
        self.left_out = 0
        self._user = target.user
        self._asked: list[programs.Process] = []
        self._folder = self._open_folder()
        self._results = Results(self._folder, self._token, self._user)
        try:
            self._ask_first(target)
            self._ask_children()
        except BaseException:
            self._withdraw()
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._withdraw()
        self._close()

    @property
    def ended(self) -> bool:
        """Whether the process has ended meanwhile."""
        return not programs.is_alive(self.pid)

    def finish(self) -> Stacks:
        """Ends the sampling, and returns what was sampled. To be called once."""
        try:
            self._withdraw()
            begun = self._results.pids()  # those that were forked meanwhile, too
            pids = {one.pid for one in self._asked} | set(programs.descendants(self.pid))
            recording = [one for one in map(_look, pids) if one is not None and one.own_pid in begun]
            asked = {one.own_pid for one in recording if self._end(one)}
            _wait(lambda: not asked - self._results.pids(done=True))
            return self._results.stacks()
        finally:
            self._close()

    def _open_folder(self) -> int:
        """The folder of the process's user, as that process sees it: it may have another ``/tmp``."""
        place = f"/proc/{self.pid}/root{private.PLACE}"
        if not os.access(place, os.X_OK):
            place = private.PLACE
        path = os.path.join(place, private.folder_of(self._user))
        try:
            return private.make_folder(path, self._user)
        except OSError as error:
            raise UsageError(
                f"process {self.pid} cannot be asked: {path}: {error.strerror}; be the same user as it, or root"
            ) from None

    def _ask_first(self, target: programs.Process) -> None:
        """Asks the process itself, and waits until it has begun."""
        try:
            self._ask(target)
        except PermissionError:
            raise UsageError(f"process {self.pid} belongs to somebody else; be the same user as it, or root") from None
        except ProcessLookupError:
            raise UsageError(f"process {self.pid} has ended") from None
        if not _wait(lambda: target.own_pid in self._results.pids() or self.ended):
            raise UsageError(
                f"process {self.pid} did not answer: it handles SIGPROF, but does not allow sampling, is being sampled"
                " already, or its main thread is in a call that does not return"
            )

    def _ask_children(self) -> None:
        """Asks those children that allow it; those that are forked from now on record already."""
        children = programs.descendants(self.pid)
        time.sleep(SETTLE_SECONDS)
        begun = self._results.pids()
        for child in filter(None, map(_look, children)):
            if self._may_be_asked(child):
                if child.own_pid not in begun:
                    with contextlib.suppress(OSError):
                        self._ask(child)
            elif not child.ended:
                self.left_out += 1

    def _ask(self, process: programs.Process) -> None:
        request = {"token": self._token, "rate": self._rate, "seconds": self._seconds}
        private.write_json(self._folder, str(process.own_pid), request, self._user)
        self._asked.append(process)
        os.kill(process.pid, signal.SIGPROF)

    def _may_be_asked(self, process: programs.Process) -> bool:
        return not process.ended and process.catches(signal.SIGPROF) and process.user == self._user

    def _end(self, process: programs.Process) -> bool:
        """Has a process that records see that its request is gone; false for one that has ended."""
        if self._may_be_asked(process):
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGPROF)
                return True
        return False

    def _withdraw(self) -> None:
        if self._folder >= 0:
            for process in self._asked:
                private.remove(self._folder, str(process.own_pid))

    def _close(self) -> None:
        if self._folder >= 0:
            self._results.remove()
            os.close(self._folder)
            self._folder = -1


def _look(pid: int) -> programs.Process | None:
    try:
        return programs.look_at(pid)
    except UsageError:
        return None


def _wait(done: Callable[[], bool]) -> bool:
    """Waits until *done*, for a limited time; whether it came."""
    limit = time.monotonic() + ANSWER_SECONDS
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _prepare(pid: int) -> None:
    """Has a program that does not handle SIGPROF allow it, where Python can do that. Raises ``UsageError``."""
    remote_exec: Callable[[int, str], None] | None = getattr(sys, "remote_exec", None)
    refusal = UsageError(
        f"process {pid} does not allow sampling by task: let it call netnet.flame.allow() at its start, or start it with"
        " 'netnet flame --by-task -- COMMAND'; without --by-task it can be sampled as it is"
    )
    if remote_exec is None:
        raise refusal
    with _script() as path:
        try:
            remote_exec(pid, path)
        except (OSError, RuntimeError) as error:
            raise UsageError(f"{refusal} (sys.remote_exec: {error})") from None
        if not _wait(lambda: programs.look_at(pid).catches(signal.SIGPROF)):
            raise refusal


@contextmanager
def _script() -> Iterator[str]:
    """The file that the program is to run. It may belong to another user than this process, and only read it."""
    path = os.path.join(private.PLACE, f"netnet-flame-{secrets.token_hex(8)}.py")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "w") as file:
        file.write(_PREPARE)
    try:
        yield path
    finally:
        os.unlink(path)


def sample(pid: int, seconds: float, rate: float = RATE) -> Stacks:
    """Samples the running process *pid* by task for so many seconds, or until it ends; *rate*: samples a second.

    Blocks. Raises ``UsageError`` as ``Attached`` does.
    """
    with Attached(pid, rate, seconds) as attached:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not attached.ended:
            time.sleep(min(0.05, max(0.0, limit - time.monotonic())))
        return attached.finish()
