"""What every test stands on: nothing may leak, every backend gets its turn, and real programs are the peers.

- After each test there are no more descriptors, threads and running loops than before.
- ``backend`` runs a test once on every poller there is here, kqueue's stand-in included.
- ``@pytest.mark.client("curl")`` marks a test that needs a program. Where it is missing the test is skipped and listed
  at the end; with ``NETNET_REQUIRE_CLIENTS`` set it fails.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis  # noqa: F401  # before pytest's other plugins are frozen below: it looks for who else holds them
import pytest

import netnet
from netnet.poller import ENVIRONMENT
from netnet.runtime.loop import running
from tests import kqueue_standin

BACKENDS = [name for name in ("epoll", "kqueue", "poll", "select") if name == "kqueue" or hasattr(select, name)]

_missing: dict[str, list[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "client(name, ...): the test needs these programs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("client"):
        for name in marker.args:
            if shutil.which(name) is None:
                _missing.setdefault(name, []).append(item.nodeid)
                if os.environ.get("NETNET_REQUIRE_CLIENTS"):
                    pytest.fail(f"{name} is not installed, and NETNET_REQUIRE_CLIENTS is set", pytrace=False)
                pytest.skip(f"{name} is not installed")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, tests in sorted(_missing.items()):
        terminalreporter.section(f"{name} is not installed; not run for that", sep="-")
        for test in tests:
            terminalreporter.line(test)


_tests_run = 0


def pytest_runtest_teardown() -> None:
    """What stands when a test ends is mostly pytest's own: taken out of the collector's sight now and then, so that the
    collection after each test stays quick."""
    global _tests_run
    if _tests_run % 100 == 0:
        gc.collect()
        gc.freeze()
    _tests_run += 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Without the collector, which may end a greenlet of a failed test while pytest parses its source: Python 3.11's
    compiler takes the change of depth for an error of its own, and no test after that would run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def descriptors() -> set[str]:
    """The open descriptors, as ``number → what it is``."""
    found = set()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            found.add(f"{number} → {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue
    return found


def _threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name != "netnet-offload"}  # kept for reuse, on purpose


@pytest.fixture(scope="session")
def fonts() -> None:
    """matplotlib keeps the files of its fonts open: a test that draws finds them so, and leaves none behind."""
    pytest.importorskip("matplotlib")
    from netnet.bench.report import charts, plan
    from tests.bench.tables import table

    (found,) = plan.plans([table("fonts", "s", {"netnet": [1.0, 2.0], "C epoll": [1.0]})])
    charts.svg(found)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No test leaves a descriptor, a thread or a loop behind."""
    before, threads = descriptors(), _threads()
    yield
    gc.collect()
    from netnet.kernel.transfer import pipes

    pipes.clear()
    assert pipes.taken == 0, "a splice pipe was not given back"
    assert descriptors() - before == set()
    assert _threads() - threads == set()
    assert getattr(running, "loop", None) is None


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The poller that the test's loops use: each in turn."""
    if request.param == "kqueue" and not hasattr(select, "kqueue"):
        kqueue_standin.install(monkeypatch)
    monkeypatch.setenv(ENVIRONMENT, request.param)
    return str(request.param)


@pytest.fixture
def run() -> Callable[..., Any]:
    """``netnet.run``, with a limit of 20 s, so that a hang tells where each task stands instead of blocking the suite."""

    def run_limited(main: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def limited() -> Any:
            with netnet.timeout(20 if options.get("clock") is None else None):
                return main(*args)

        return netnet.run(limited, **options)

    return run_limited


@pytest.fixture(scope="session")
def limited_descriptors() -> int:
    """How many descriptors this process may have, after asking for as many as are allowed."""
    from netnet.kernel.limits import raise_descriptor_limit

    return raise_descriptor_limit()
