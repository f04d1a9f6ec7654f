"""The pytest plugin, seen from outside: pytest runs in a process of its own over files that each test writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest

HEAD = "import os, socket, sys, threading\nimport pytest\nimport netnet\n"


class Outcome:
    """What pytest told."""

    def __init__(self, done):
        self.text = done.stdout + done.stderr
        self.code = done.returncode
        self.counts = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", self.text.splitlines()[-1])}
        self.counts.pop("in", None)


@pytest.fixture
def check(tmp_path):
    """Runs pytest over a file with these lines, and compares the counts."""

    def run(lines, *arguments, ini="", head=HEAD, plugins=(), **counts):
        (tmp_path / "test_it.py").write_text(head + textwrap.dedent(lines))
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{ini}\n")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_netnet"]
        for plugin in plugins:
            command += ["-p", plugin]
        done = subprocess.run(
            [*command, "--strict-markers", *arguments, "test_it.py"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "120", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        outcome = Outcome(done)
        found = {word: count for word, count in outcome.counts.items() if word not in ("warning", "warnings")}
        assert found == counts, outcome.text
        return outcome

    return run


# -- which tests run in a loop


def test_a_marked_function_is_the_main_task(check):
    check(
        """
        @pytest.mark.netnet
        def test_marked():
            assert netnet.current_task().name == "main"
            netnet.sleep(0)

        def test_unmarked():
            with pytest.raises(netnet.UsageError):
                netnet.current_task()

        @pytest.mark.netnet
        class TestClass:
            def test_method(self):
                netnet.spawn(netnet.sleep, 0).join()

            @pytest.mark.no_netnet
            def test_taken_out(self):
                with pytest.raises(netnet.UsageError):
                    netnet.current_task()
        """,
        passed=4,
    )


def test_auto_mode_takes_every_function(check):
    check(
        """
        import unittest

        def test_in():
            netnet.current_task()

        @pytest.mark.no_netnet
        def test_out():
            with pytest.raises(netnet.UsageError):
                netnet.current_task()

        class TestUnit(unittest.TestCase):
            def test_left_alone(self):
                with pytest.raises(netnet.UsageError):
                    netnet.current_task()
        """,
        ini="netnet_mode = auto",
        passed=3,
    )


@pytest.mark.parametrize(
    ("ini", "said"),
    [
        ("netnet_mode = sometimes", "netnet_mode must be one of marked, auto, not 'sometimes'"),
        ("netnet_timeout = soon", "netnet_timeout must be a positive number of seconds, not 'soon'"),
        ("netnet_timeout = -1", "netnet_timeout must be a positive number of seconds, not '-1'"),
    ],
)
def test_wrong_ini_options_are_told(tmp_path, ini, said):
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_netnet", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 4
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("clocks=1", "takes the options clock, timeout, poller, leaks, not clocks"),
        ("'virtual'", "takes the options clock, timeout, poller, leaks, not 'virtual'"),
        ("clock='wall'", "is one of ('real', 'virtual'), not 'wall'"),
        ("timeout=0", "is a positive number of seconds or None, not 0"),
        ("timeout='x'", "is a positive number of seconds or None, not 'x'"),
    ],
)
def test_wrong_marker_options_are_told(check, marker, said):
    assert said in check(f"@pytest.mark.netnet({marker})\ndef test_it(): pass", error=1).text.replace("\n", " ")


def test_async_functions_are_refused(check):
    outcome = check("@pytest.mark.netnet\nasync def test_it(): pass", error=1)
    assert "test_it is async, and netnet runs plain functions: write 'def' for 'async def'" in outcome.text


def test_marked_unittest_methods_are_refused(check):
    outcome = check(
        """
        import unittest

        @pytest.mark.netnet
        class TestUnit(unittest.TestCase):
            def test_it(self): pass
        """,
        error=1,
    )
    assert "is a method of a unittest.TestCase" in outcome.text


# -- options and fixtures


def test_options_of_the_nearest_marker_count(check):
    check(
        """
        pytestmark = pytest.mark.netnet(clock="virtual", poller="poll")

        def poller():
            return type(netnet.current_task().loop.poller).__module__

        def test_of_the_module():
            assert poller().endswith("poll")
            netnet.sleep(100_000)

        @pytest.mark.netnet(poller="select", timeout=None)
        def test_of_the_function():
            assert poller().endswith("select")
            netnet.sleep(100_000)

        @pytest.mark.netnet(clock="real")
        def test_real():
            import time
            assert abs(netnet.now() - time.monotonic()) < 1
        """,
        passed=3,
    )


def test_the_virtual_clock_is_that_of_the_run(check):
    check(
        """
        @pytest.mark.netnet
        def test_it(virtual_clock):
            netnet.sleep(1000)
            assert virtual_clock.now() == netnet.now() == 1000

        def test_unmarked(virtual_clock):
            netnet.run(netnet.sleep, 1000, clock=virtual_clock)
            assert virtual_clock.now() == 1000
        """,
        passed=2,
    )


def test_fixtures_parameters_and_outcomes_work(check):
    check(
        """
        pytestmark = pytest.mark.netnet

        @pytest.fixture
        def pair():
            one, other = netnet.socketpair()
            with one, other:
                yield one, other

        @pytest.mark.parametrize("size", [1, 2, 3])
        def test_parameters(pair, size, tmp_path, capsys):
            one, other = pair
            task = netnet.spawn(other.recv, 10)
            netnet.sleep(0)
            one.sendall(b"x" * size)
            assert task.result() == b"x" * size
            assert tmp_path.is_dir()

        def test_skip():
            netnet.sleep(0)
            pytest.skip("why not")

        @pytest.mark.xfail(strict=True, raises=ZeroDivisionError)
        def test_xfail():
            netnet.sleep(0)
            1 / 0

        @pytest.mark.xfail(strict=True)
        def test_xpass():
            pass

        def test_raises():
            with pytest.raises(TimeoutError), netnet.timeout(0):
                netnet.sleep(1)

        def test_skip_in_a_task():
            netnet.spawn(pytest.skip, "in a task")
            netnet.sleep(10)
        """,
        passed=4,
        skipped=2,
        xfailed=1,
        failed=1,
    )


def test_the_task_group_ends_with_the_test(check):
    outcome = check(
        """
        ended = []
        pytestmark = pytest.mark.netnet

        def serve(conn):
            try:
                with conn:
                    for chunk in conn:
                        conn.sendall(chunk)
            finally:
                ended.append(1)

        def test_echo(task_group):
            one, other = netnet.socketpair()
            with one:
                task_group.spawn(serve, other)
                one.sendall(b"hello")
                assert one.recv(5) == b"hello"

        def test_it_has_ended():
            assert ended == [1]

        def fail():
            netnet.sleep(0)
            raise LookupError("in the group")

        def test_error_in_the_group(task_group):
            task_group.spawn(fail)
            netnet.sleep(10)

        def test_own_error(task_group):
            task_group.spawn(netnet.sleep, 1000)
            assert 1 == 2

        def clean_up_badly():
            try:
                netnet.sleep(1000)
            finally:
                raise LookupError("while cleaning up")

        def test_two_errors(task_group):
            task_group.spawn(clean_up_badly)
            netnet.sleep(0)
            assert 3 == 4

        @pytest.mark.no_netnet
        def test_not_in_a_run(task_group):
            pass
        """,
        "--tb=short",
        passed=2,
        failed=3,
        error=1,
    )
    assert "E   LookupError: in the group" in outcome.text
    assert "E   assert 1 == 2" in outcome.text
    assert "the test and tasks of its task_group failed (2 sub-exceptions)" in outcome.text
    assert "the fixture task_group is for tests that run in netnet" in outcome.text


# -- errors


def test_errors_come_out_bare_and_short(check):
    outcome = check(
        """
        pytestmark = pytest.mark.netnet

        def test_it():
            left, right = [1, 2], [1, 3]
            assert left == right

        def fail():
            raise LookupError("in a task")

        def test_in_a_task():
            netnet.spawn(fail)
            netnet.sleep(0.01)
        """,
        failed=2,
    )
    assert "At index 1 diff: 2 != 3" in outcome.text  # the rewritten assertion
    assert "E       LookupError: in a task" in outcome.text
    assert "ExceptionGroup" not in outcome.text
    assert "netnet/runtime" not in outcome.text
    assert "pytest_netnet" not in outcome.text


def test_a_group_that_the_test_raises_stays_one(check):
    outcome = check(
        """
        @pytest.mark.netnet
        def test_it():
            raise ExceptionGroup("mine", [LookupError("one")])
        """,
        failed=1,
    )
    assert "ExceptionGroup: mine (1 sub-exception)" in outcome.text


def test_deadlocks_are_told_at_once(check):
    outcome = check("@pytest.mark.netnet\ndef test_it(): netnet.Event().wait()", failed=1)
    assert "DeadlockError" in outcome.text
    assert "main is waiting for an event to be set" in outcome.text


# -- leaks

LEAKS = {
    "task": (
        "def wait(event): event.wait()\n@pytest.mark.netnet\ndef test_it(): netnet.spawn(wait, netnet.Event(), name='it')",
        r"task it is waiting for an event to be set \(in wait, .*test_it.py:4\)",
    ),
    "sleeper": (
        "@pytest.mark.netnet(clock='virtual')\ndef test_it(): netnet.spawn(netnet.sleep, 5)",
        r"task sleep-\d+ is waiting for the instant 5.000, in 5.000 s",
    ),
    "spinner": (
        "def spin():\n    while True: netnet.sleep(0)\n@pytest.mark.netnet\ndef test_it(): netnet.spawn(spin)",
        r"task spin-\d+ is ",
    ),
    "descriptor": (
        "kept = []\n@pytest.mark.netnet\ndef test_it(): kept.append(os.open('/dev/null', os.O_RDONLY))",
        r"descriptor \d+: /dev/null",
    ),
    "socket": (
        "kept = []\n@pytest.mark.netnet\ndef test_it(): kept.extend(netnet.socketpair())",
        r"descriptor \d+: socket:",
    ),
    "thread": (
        "over = threading.Event()\n@pytest.mark.netnet\ndef test_it(): "
        "threading.Thread(target=over.wait, args=(5,), name='mine', daemon=True).start()",
        r"OS thread mine \(daemon\)",
    ),
}


@pytest.mark.parametrize(("lines", "said"), LEAKS.values(), ids=LEAKS)
def test_leaks_fail_the_test(check, lines, said):
    outcome = check(lines + "\ndef test_next(): pass", failed=1, passed=1)
    assert "the test left behind:" in outcome.text
    assert re.search(said, outcome.text), outcome.text


@pytest.mark.parametrize(("lines", "said"), LEAKS.values(), ids=LEAKS)
def test_leaks_can_be_allowed(check, lines, said):
    check(lines, ini="netnet_mode = auto", head=HEAD + "pytestmark = pytest.mark.netnet(leaks=False)\n", passed=1)


def test_what_ends_by_itself_is_no_leak(check):
    check(
        """
        pytestmark = pytest.mark.netnet

        def test_tasks():
            one, other = netnet.socketpair()
            def echo():
                with other:
                    for chunk in other:
                        other.sendall(chunk)
            netnet.spawn(echo)
            netnet.sleep(0)
            one.close()

        def test_threads():
            netnet.to_thread(len, "helper threads are kept")
            threading.Thread(target=len, args=("short",)).start()

        def test_garbage():
            class Owner:
                def __init__(self): self.fd, self.myself = os.open(os.devnull, os.O_RDONLY), self
                def __del__(self): os.close(self.fd)
            Owner()

        def test_pooled_pipes():
            a, b = netnet.socketpair()
            c, d = netnet.socketpair()
            with a, b, c, d:
                a.sendall(b"x" * 100)
                b.splice(c, 100)
        """,
        passed=4,
    )


def test_a_failing_test_is_not_told_its_leaks_as_well(check):
    outcome = check(
        """
        @pytest.mark.netnet
        def test_it():
            netnet.spawn(netnet.sleep, 1000)
            assert 1 == 2
        """,
        failed=1,
    )
    assert "assert 1 == 2" in outcome.text
    assert "left behind" not in outcome.text


# -- limits

STUCK = {
    "real": "@pytest.mark.netnet(timeout=0.2)\ndef test_it(): netnet.sleep(1000)",
    "virtual": """
        @pytest.mark.netnet(timeout=0.2, clock="virtual")
        def test_it():
            one, other = netnet.socketpair()
            with one, other:
                one.recv(1)
        """,
    "busy": """
        @pytest.mark.netnet(timeout=0.2)
        def test_it():
            while True: netnet.sleep(0)
        """,
    "leftover": """
        def linger():
            with netnet.shield(): netnet.sleep(1000)
        @pytest.mark.netnet(timeout=0.2)
        def test_it():
            netnet.spawn(linger)
        """,
}


@pytest.mark.parametrize("kind", ["real", "virtual", "busy"])
def test_tests_that_hang_are_ended(check, kind):
    outcome = check(textwrap.dedent(STUCK[kind]) + "\ndef test_next(): pass", failed=1, passed=1)
    assert re.search(r"the test was not through after 0.2 s of real time; its tasks:\n +main is ", outcome.text)


@pytest.mark.parametrize("lines", [STUCK["leftover"]])
def test_tests_that_will_not_be_cancelled_are_ended_by_force(check, lines):
    outcome = check(
        textwrap.dedent(lines) + "\ndef test_next(): pass",
        head=HEAD + "import pytest_netnet as plugin\nplugin.GRACE_SECONDS = 0.1\n",
        failed=1,
        passed=1,
    )
    assert "the test was not through after 0.2 s" in outcome.text


def test_the_limit_of_the_ini_file_counts(check):
    outcome = check("@pytest.mark.netnet\ndef test_it(): netnet.sleep(99)", ini="netnet_timeout = 0.3", failed=1)
    assert "not through after 0.3 s" in outcome.text


def test_the_limit_does_not_hide_deadlocks_nor_thread_counts(check):
    check(
        """
        @pytest.mark.netnet
        def test_it():
            with pytest.raises(netnet.Cancelled):
                netnet.Event().wait()

        @pytest.mark.netnet
        def test_other():
            netnet.sleep(0)
        """,
        failed=1,
        passed=1,
    )


def test_pytest_timeout_works(check):
    outcome = check(
        """
        @pytest.mark.timeout(0.3)
        @pytest.mark.netnet
        def test_waiting():
            netnet.sleep(1000)

        @pytest.mark.timeout(0.3)
        @pytest.mark.netnet
        def test_computing():
            while True: pass

        @pytest.mark.netnet
        def test_next():
            netnet.sleep(0)
        """,
        plugins=["pytest_timeout"],
        failed=2,
        passed=1,
    )
    assert outcome.text.count("Timeout (>0.3s)") >= 2


# -- those who do not use it


def test_it_is_inert_without_marks(check):
    """Nothing of netnet is imported, so neither start-up nor coverage is disturbed."""
    check(
        """
        import sys

        def test_plain():
            assert threading.active_count() == 1

        def test_module():
            assert "pytest_netnet" in sys.modules
            assert "netnet" not in sys.modules
        """,
        head="import threading\nimport pytest\n",
        passed=2,
    )
