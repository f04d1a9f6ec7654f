"""The pytest plugin: tests that are plain functions run as the main task of ``netnet.run``, and may leave nothing behind.

Which tests: those marked ``@pytest.mark.netnet``, or with the ini option ``netnet_mode = auto`` every test function but
those marked ``@pytest.mark.no_netnet``. All others are left alone. Options of the marker, on a function, a class or
``pytestmark`` (the nearest one counts)::

    @pytest.mark.netnet(clock="virtual", timeout=5, poller="poll", leaks=False)

- ``clock``: ``"real"`` or ``"virtual"``. The fixture ``virtual_clock`` is that clock, and chooses it.
- ``timeout``: seconds of real time, on either clock, after which the tasks are listed and cancelled; ``None`` for no
  limit. The ini option ``netnet_timeout`` is for all; else it is 30. It can end what waits. What computes without end it
  cannot: that is pytest-timeout's business.
- ``poller``: a backend's name, as in ``netnet.run``.
- ``leaks``: whether what is left behind fails the test; true unless it is said otherwise.

Fixtures run before and after the loop, not in it: they can make things, but not wait for tasks. ``task_group`` is a
``netnet.TaskGroup`` around the test function. When that returns, its tasks are cancelled and awaited; the error of one
fails the test.

A test fails with the error of any task that nobody asked for, bare if it is the only one, even if the task was dropped.
One that passes by itself fails if, when its function returns, a task lives that is not in such a group and does not
end as soon as it gets to run; or if after the run a descriptor is open (where there is ``/proc/self/fd``) or an OS thread
is alive that was not there before. Threads whose names begin with ``netnet-`` do not count. What a fixture is to close,
the fixture has to open.

Nothing of netnet is imported here before a test needs it.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
import threading
import unittest
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from netnet.runtime.clock import VirtualClock
    from netnet.runtime.group import TaskGroup
    from netnet.runtime.loop import Loop
    from netnet.runtime.task import Task

#: the limit of a test, in seconds of real time, where none is given
TIMEOUT_SECONDS: Final = 30.0

#: how long tasks that were cancelled because the time was up may take to clean up
GRACE_SECONDS: Final = 5.0

#: how long an OS thread that is just ending is waited for
THREAD_SECONDS: Final = 0.5

#: how many turns of the loop the remaining tasks get to end by themselves
TURNS_MAX: Final = 100

_MODES: Final = ("marked", "auto")
_CLOCKS: Final = ("real", "virtual")
_OPTIONS: Final = ("clock", "timeout", "poller", "leaks")

_DESCRIPTORS: Final = "/proc/self/fd"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the ini options."""
    parser.addini("netnet_mode", "which tests run in netnet.run: 'marked' (with @pytest.mark.netnet), 'auto' (all)")
    parser.addini("netnet_timeout", f"seconds of real time for each test in netnet.run (default {TIMEOUT_SECONDS:g})")


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers, and looks at the ini options."""
    config.addinivalue_line(
        "markers",
        "netnet(clock='real', timeout=30, poller=None, leaks=True): runs the test as the main task of netnet.run",
    )
    config.addinivalue_line("markers", "no_netnet: does not run the test in netnet.run, where netnet_mode is auto")
    _mode(config)
    _default_timeout(config)


def _mode(config: pytest.Config) -> str:
    mode = str(config.getini("netnet_mode") or _MODES[0])
    if mode not in _MODES:
        raise pytest.UsageError(f"netnet_mode must be one of {', '.join(_MODES)}, not {mode!r}")
    return mode


def _default_timeout(config: pytest.Config) -> float:
    text = str(config.getini("netnet_timeout") or TIMEOUT_SECONDS)
    try:
        return _seconds(float(text))
    except ValueError:
        raise pytest.UsageError(f"netnet_timeout must be a positive number of seconds, not {text!r}") from None


def _seconds(value: float) -> float:
    """*value*, which must be a time-out; raises ``ValueError``."""
    if not 0 < value <= threading.TIMEOUT_MAX:
        raise ValueError
    return value


# -- what is asked for


@dataclass
class Options:
    """How one test is to be run."""

    clock: str = "real"
    timeout: float | None = None
    poller: str | None = None
    leaks: bool = True


def _wanted(item: pytest.Item) -> bool:
    """Whether the test is to run in netnet."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("no_netnet") is not None:
        return False
    if item.get_closest_marker("netnet") is not None:
        return True
    return _mode(item.config) == "auto" and not _is_async(item.obj) and not _is_unittest(item)


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _is_unittest(item: pytest.Function) -> bool:
    return item.cls is not None and issubclass(item.cls, unittest.TestCase)


def _options(item: pytest.Function) -> Options:
    """The marker's options; fails the test where they make no sense."""
    options = Options(timeout=_default_timeout(item.config))
    for marker in reversed(list(item.iter_markers("netnet"))):
        unknown = [name for name in marker.kwargs if name not in _OPTIONS]
        if marker.args or unknown:
            wrong = ", ".join([*map(repr, marker.args), *unknown])
            pytest.fail(f"@pytest.mark.netnet takes the options {', '.join(_OPTIONS)}, not {wrong}", pytrace=False)
        for name, value in marker.kwargs.items():
            setattr(options, name, value)
    if options.clock not in _CLOCKS:
        pytest.fail(f"@pytest.mark.netnet(clock=...) is one of {_CLOCKS}, not {options.clock!r}", pytrace=False)
    if options.timeout is not None:
        try:
            options.timeout = _seconds(options.timeout)
        except (ValueError, TypeError):
            pytest.fail(
                f"@pytest.mark.netnet(timeout=...) is a positive number of seconds or None, not {options.timeout!r}",
                pytrace=False,
            )
    return options


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuses tests that cannot be run in netnet, before anything is made for them."""
    if not isinstance(item, pytest.Function) or not _wanted(item):
        return
    if _is_async(item.obj):
        pytest.fail(
            f"{item.name} is async, and netnet runs plain functions: write 'def' for 'async def', and leave out 'await'. "
            "Calls that have to wait do so by themselves",
            pytrace=False,
        )
    if _is_unittest(item):
        pytest.fail(
            f"{item.name} is a method of a unittest.TestCase, which netnet cannot run as a task: take the base class away",
            pytrace=False,
        )
    _options(item)


# -- fixtures


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """The clock of the test's run: it stands still while a task can run, and jumps when all wait.

    In a test that is not run in netnet by this plugin, pass it to ``netnet.run`` yourself.
    """
    from netnet.runtime.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def task_group(request: pytest.FixtureRequest) -> TaskGroup:
    """A task group around the test function; when that returns, its tasks are cancelled and awaited."""
    if not _wanted(request.node):
        pytest.fail(
            "the fixture task_group is for tests that run in netnet: mark the test with @pytest.mark.netnet",
            pytrace=False,
        )
    from netnet.runtime.group import TaskGroup

    return TaskGroup()


# -- the run


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Puts the test function into ``netnet.run``, if it is to be there; who calls it stays as it is."""
    __tracebackhide__ = True
    if not _wanted(pyfuncitem):
        return (yield)
    function = pyfuncitem.obj
    test = _Test(pyfuncitem, function)
    pyfuncitem.obj = test.call
    try:
        return (yield)
    finally:
        pyfuncitem.obj = function
        test.forget()


class _Test:
    """One test function, and its run."""

    def __init__(self, item: pytest.Function, function: Callable[..., object]) -> None:
        self.function = function
        self.options = _options(item)
        self.arguments: dict[str, object] = {}
        funcargs = item.funcargs
        self.clock: Any = funcargs.get("virtual_clock")
        self.group: Any = funcargs.get("task_group")
        self.own_error: BaseException | None = None
        self.limit: _Limit | None = None
        self.left: list[str] = []

    def forget(self) -> None:
        """What an error keeps, the plugin need not keep, too."""
        self.arguments = {}
        self.clock = self.group = self.own_error = self.limit = None

    def call(self, **arguments: object) -> object:
        """In place of the test function."""
        __tracebackhide__ = True
        from netnet.runtime.api import run
        from netnet.runtime.clock import VirtualClock

        if self.clock is None and self.options.clock == "virtual":
            self.clock = VirtualClock()
        self.arguments = arguments
        descriptors, threads = _descriptors(), set(threading.enumerate())
        error: BaseException | None = None
        value: object = None
        try:
            value = run(self._main, clock=self.clock, poller=self.options.poller)
        except BaseException as raised:
            error = raised
        finally:
            if self.limit is not None:
                self.limit.end()
        if error is not None:
            try:
                raise self._bare(error)
            finally:
                del error
        if self.options.leaks:
            self._check_leaks(descriptors, threads)
        return value

    def _bare(self, error: BaseException) -> BaseException:
        """The error that the test is to fail with: the only one of a group, without the frames of netnet before it."""
        if error is not self.own_error and isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        return error.with_traceback(_without_netnet(error.__traceback__))

    # -- in the main task

    def _main(self) -> object:
        __tracebackhide__ = True
        from netnet.runtime.worker import current_worker

        loop = current_worker().loop
        loop.failures = set()  # type: ignore[assignment]  # not weak: an error counts, though its task was dropped
        if self.options.timeout is not None:
            self.limit = _Limit(loop, self.options.timeout)
            self.limit.start()
        try:
            value = self._in_group() if self.group is not None else self.function(**self.arguments)
        except BaseException as error:
            self.own_error = error
            raise
        others = _others(loop)
        if others:
            self.left = [_told(task) for task in others]
            for task in others:
                task.cancel("the test has returned")
        return value

    def _in_group(self) -> object:
        __tracebackhide__ = True
        value: object = None
        failed: Exception | None = None
        group: TaskGroup = self.group
        try:
            with group:
                try:
                    value = self.function(**self.arguments)
                except Exception as error:
                    failed = error
                group.cancel("the test has returned")
        except BaseExceptionGroup as errors:
            told: tuple[BaseException, ...] = errors.exceptions
            if failed is not None:
                told = (failed, *told)
            if len(told) > 1:
                raise BaseExceptionGroup("the test and tasks of its task_group failed", told) from None
            failed = told[0]  # type: ignore[assignment]
        if failed is not None:
            try:
                raise failed
            finally:
                del failed
        return value

    # -- after the run

    def _check_leaks(self, descriptors: dict[str, str], threads: set[threading.Thread]) -> None:
        __tracebackhide__ = True
        left = [
            *(f"task {one}" for one in self.left),
            *(f"descriptor {one}" for one in _new_descriptors(descriptors)),
            *(f"OS thread {one}" for one in _new_threads(threads)),
        ]
        if left:
            pytest.fail("the test left behind:\n" + "\n".join(f"  {one}" for one in left), pytrace=False)


def _without_netnet(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not netnet's."""
    while trace is not None and _is_ours(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return trace


def _is_ours(module: str) -> bool:
    return module == "netnet" or module.startswith("netnet.")


def _others(loop: Loop) -> list[Task[Any]]:
    """The tasks besides the main one that do not end by themselves when they get to run."""
    from netnet.runtime.worker import current_worker
    from netnet.testing.parked import QUIET_TURNS, quiet_turn

    worker = current_worker()
    quiet = 0
    for _ in range(TURNS_MAX):
        others = [task for task in loop.tasks() if task is not worker.task]
        if not others or quiet == QUIET_TURNS:
            break
        quiet = quiet + 1 if quiet_turn(worker) else 0
    return others


def _told(task: Task[Any]) -> str:
    """The task's name, what it waits for, and where in the program's own lines that is."""
    worker = task.worker
    frame = None if worker is None else worker.gr_frame
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    where = "" if frame is None else f" (in {frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno})"
    return f"{task.name} is {task.describe()}{where}"


class _Limit(threading.Thread):
    """Ends a run after some seconds of real time.

    A timer of the loop would not do: it counts by the loop's clock, and its presence hides deadlocks.
    """

    def __init__(self, loop: Loop, seconds: float) -> None:
        super().__init__(name="netnet-test-limit", daemon=True)
        self._loop = loop
        self._seconds = seconds
        self._over = threading.Event()

    def start(self) -> None:
        from netnet.runtime.company import helpers

        helpers.add(self)
        super().start()

    def end(self) -> None:
        """The run is over."""
        from netnet.runtime.company import helpers

        self._over.set()
        if self.ident is not None:
            self.join()
        helpers.discard(self)

    def run(self) -> None:
        for seconds, act in ((self._seconds, self._stop), (GRACE_SECONDS, self._halt)):
            if self._over.wait(seconds):
                return
            self._loop.call_from_thread(_Action(act))

    def _stop(self) -> None:
        """In the loop: the time is up."""
        tasks = "\n".join(f"  {_told(task)}" for task in self._loop.tasks())
        message = f"the test was not through after {self._seconds:g} s of real time; its tasks:\n{tasks}"
        self._loop.shut_down(pytest.fail.Exception(message, pytrace=False))

    def _halt(self) -> None:
        """In the loop: there are tasks that were cancelled and go on."""
        self._loop.halted = True
        self._loop.poller.wake()


class _Action:
    """What a thread has the loop do."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.switch = act


# -- what is left behind


def _descriptors() -> dict[str, str]:
    """The open descriptors, number → what it is. Empty where the system does not tell."""
    found = {}
    try:
        numbers = os.listdir(_DESCRIPTORS)
    except OSError:
        return {}
    for number in numbers:
        try:
            found[number] = os.readlink(f"{_DESCRIPTORS}/{number}")
        except OSError:  # the one that the list was read with
            continue
    return found


def _new_descriptors(before: dict[str, str]) -> list[str]:
    if dict(_descriptors().items() - before.items()):
        gc.collect()  # one that nobody refers to is closed by this, with the warning that Python has for it
        transfer = sys.modules.get("netnet.kernel.transfer")
        if transfer is not None:
            transfer.pipes.clear()  # kept for reuse, on purpose
    new = dict(_descriptors().items() - before.items())
    return [f"{number}: {new[number]}" for number in sorted(new, key=int)]


def _new_threads(before: set[threading.Thread]) -> list[str]:
    new = [one for one in threading.enumerate() if one not in before and not one.name.startswith("netnet-")]
    for one in new:
        one.join(THREAD_SECONDS)
    return [f"{one.name} ({'daemon' if one.daemon else 'not a daemon'})" for one in new if one.is_alive()]
