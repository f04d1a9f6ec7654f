"""``netnet flame``: samples a program and writes a flame graph. Arguments, Ctrl-C and exit statuses; the work is in
``netnet.flame``, which is imported only when the command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from netnet.errors import UsageError

if TYPE_CHECKING:
    from netnet.flame.stacks import Stacks

#: a running program is sampled for so long, unless it is said otherwise
SECONDS: Final = 10.0
#: samples a second, at most
RATE_MAX: Final = 10_000
#: a command that is told to end is killed after so long
GRACE_SECONDS: Final = 10.0
#: the same where it cannot be sampled
KILL_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.02

NO_SAMPLES: Final = 1
#: what a shell reports of a command that cannot be run, and of one that does not exist
CANNOT_RUN, NOT_FOUND = 126, 127

#: whether the sampler is the program's own → what files say of it
_SAMPLERS: Final = {False: "py-spy", True: "netnet's sampler, by task"}

#: the same → why there may be nothing to show
_NOTHING: Final = {
    False: "was it a Python program, and did it compute anything?",
    True: "was it a Python program with netnet installed that heeds PYTHONPATH, and did it compute anything?",
}


class _Sampling(Protocol):
    """What is under way."""

    @property
    def ended(self) -> bool: ...

    def finish(self) -> Stacks: ...


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the parser of all."""
    parser = commands.add_parser(
        "flame",
        help="where a program's time goes, as a flame graph",
        usage="netnet flame -o OUT [options] (--pid PID | -- COMMAND ...)",
        description="Samples a running program, or starts one, writes a flame graph and prints the top frames.",
        epilog="The exit status is the command's. With --by-task a running program must have called netnet.flame.allow().",
    )
    parser.add_argument("program", nargs="*", metavar="COMMAND", help="what to start and sample until it ends")
    parser.add_argument("--pid", type=_pid, help="a running process; its children are sampled, too")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="the file to write")
    parser.add_argument(
        "--format",
        choices=("svg", "html", "folded", "speedscope"),
        help="(default: by the end of OUT: .svg, .html, .folded or .txt, .json)",
    )
    parser.add_argument("--native", action="store_true", help="frames of C code as well")
    parser.add_argument("--by-task", action="store_true", help="under the group and name of each green thread")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        help=f"for so long; a command is then told to end (default: {SECONDS:g} with --pid, else until it ends)",
    )
    parser.add_argument("--rate", metavar="HZ", type=_rate, help="samples a second (default: 200)")
    parser.add_argument("--title", metavar="T", help="of the graph")
    parser.add_argument("--top", metavar="N", type=_count, default=15, help="frames to print (default: %(default)s)")
    parser.set_defaults(run=run)


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is no process number")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def _between(text: str, most: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and {most}")
    return value


def _seconds(text: str) -> float:
    return _between(text, 1_000_000)


def _rate(text: str) -> float:
    return _between(text, RATE_MAX)


def run(options: argparse.Namespace) -> int:
    """Samples, writes and prints. Returns the command's exit status; for a process 0; 1 where there are no samples."""
    from netnet.flame.inside import RATE
    from netnet.flame.writing import format_of

    if bool(options.program) == (options.pid is not None):
        raise UsageError("give either --pid PID, or -- and a command to start")
    if options.native and options.by_task:
        raise UsageError(
            "--native and --by-task do not go together: C code is seen from outside the program,"
            " green threads from inside"
        )
    format_of(options.out, options.format)
    options.rate = options.rate or RATE
    with _noting_interrupts() as interrupts:
        began = time.monotonic()
        if options.pid is not None:
            status, subject, stacks = 0, _subject(options.pid), _running(options, interrupts)
        else:
            subject = shlex.join(options.program)
            try:
                status, stacks = (_command_by_task if options.by_task else _command)(options, interrupts)
            except _CannotStartError as error:
                print(f"netnet: {error}", file=sys.stderr)
                return error.status
        seconds = time.monotonic() - began
    told = _tell(options, stacks, subject, seconds)
    return status or told


def _subject(pid: int) -> str:
    from netnet.flame.programs import command_line

    return f"process {pid}: {command_line(pid)}"


def _tell(options: argparse.Namespace, stacks: Stacks, subject: str, seconds: float) -> int:
    """Writes the file and prints the table; 1 where there is nothing to tell."""
    from netnet.flame.writing import About, table, write

    if not stacks:
        print(f"netnet flame: no samples: {_NOTHING[options.by_task]} {options.out} is not written", file=sys.stderr)
        return NO_SAMPLES
    sampler = _SAMPLERS[options.by_task] + (", with native frames" if options.native else "")
    title = options.title or ("Flame graph by task" if options.by_task else "Flame graph")
    write(options.out, stacks, About(title, subject, options.rate, seconds, sampler), options.format)
    if options.top:
        print(table(stacks, options.top))
    print(f"{stacks.total} samples: {options.out}", flush=True)
    return 0


# -- signals


class _Interrupts:
    """Ctrl-C and SIGTERM while something is sampled: they end the sampling, not this program."""

    def __init__(self) -> None:
        self.came = False
        #: what SIGTERM is passed on to. Ctrl-C reaches it by itself: a terminal sends it to everybody
        self.command: subprocess.Popen[bytes] | None = None

    def note(self, number: int, frame: object) -> None:
        """The handler."""
        self.came = True
        if number == signal.SIGTERM and self.command is not None:
            self.command.terminate()


@contextmanager
def _noting_interrupts() -> Iterator[_Interrupts]:
    """A handler, not ``SIG_IGN``, which the command would inherit."""
    interrupts = _Interrupts()
    before = {number: signal.signal(number, interrupts.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(seconds: float | None, *over: Callable[[], bool]) -> None:
    """Waits until one of *over* is true, for *seconds* at most."""
    limit = None if seconds is None else time.monotonic() + seconds
    while not any(one() for one in over) and (limit is None or time.monotonic() < limit):
        time.sleep(LOOK_SECONDS)


# -- a running process


def _running(options: argparse.Namespace, interrupts: _Interrupts) -> Stacks:
    seconds = options.seconds or SECONDS
    if options.by_task:
        from netnet.flame.attach import Attached

        with Attached(options.pid, options.rate, seconds) as attached:
            if attached.left_out:
                print(
                    f"netnet flame: {attached.left_out} of its child processes are not sampled: they do not allow it",
                    file=sys.stderr,
                )
            return _sampled(attached, seconds, interrupts)
    from netnet.flame.outside import Recording

    with Recording(options.pid, options.rate, native=options.native, seconds=seconds) as recording:
        return _sampled(recording, seconds, interrupts)


def _sampled(sampling: _Sampling, seconds: float, interrupts: _Interrupts) -> Stacks:
    print(f"netnet flame: sampling for {seconds:g} s; Ctrl-C ends it", file=sys.stderr, flush=True)
    _wait(seconds, lambda: sampling.ended, lambda: interrupts.came)
    return sampling.finish()


# -- a command


def _command(options: argparse.Namespace, interrupts: _Interrupts) -> tuple[int, Stacks]:
    """Starts it here, and not by py-spy, so that its exit status, its signals and its end are its own."""
    from netnet.flame.outside import Recording, py_spy
    from netnet.flame.stacks import Stacks

    py_spy()  # before anything is started
    with _started(options, None, interrupts) as command:
        try:
            recording = Recording(command.pid, options.rate, native=options.native, starting=True)
        except UsageError:
            if command.poll() is None:
                command.terminate()
                raise
            return _status(command, options), Stacks()
        with recording:
            _wait(options.seconds, lambda: command.poll() is not None)
            stacks = recording.finish()
            return _status(command, options), stacks


def _command_by_task(options: argparse.Namespace, interrupts: _Interrupts) -> tuple[int, Stacks]:
    from netnet.flame.starting import Started

    with Started(options.rate) as started:
        with _started(options, started.environment(), interrupts) as command:
            _wait(options.seconds, lambda: command.poll() is not None)
            status = _status(command, options)
        return status, started.finish()


@contextmanager
def _started(
    options: argparse.Namespace, environment: dict[str, str] | None, interrupts: _Interrupts
) -> Iterator[subprocess.Popen[bytes]]:
    """The command while it runs; killed if it is left before its end."""
    try:
        command = subprocess.Popen(options.program, env=environment)
    except OSError as error:
        raise _CannotStartError(options.program[0], error) from None
    interrupts.command = command
    try:
        yield command
    finally:
        interrupts.command = None
        if command.poll() is None:  # told to end, or not
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(KILL_SECONDS)
            command.kill()
            command.wait()


class _CannotStartError(UsageError):
    """The command is not there, or is no program."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name}: {error.strerror}")
        self.status = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN


def _status(command: subprocess.Popen[bytes], options: argparse.Namespace) -> int:
    """Waits for the end of the command; its exit status, as a shell has it. 0 where its time was over."""
    if command.poll() is None and options.seconds is not None:
        command.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(GRACE_SECONDS)
        if command.poll() is None:
            command.kill()
        command.wait()
        return 0
    code = command.wait()
    return code if code >= 0 else 128 - code
