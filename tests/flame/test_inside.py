"""The sampler in the program: what becomes a root, what a sample is worth, threads, forks, exits and limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import netnet
from netnet.errors import UsageError
from netnet.flame import Sampler, inside
from netnet.flame.frames import LOOP, NO_GROUP, NO_TASK
from netnet.flame.stacks import parse
from tests.flame.programs import environment, needs_proc, share

pytestmark = needs_proc


def burn(seconds=0.1):
    """Uses so much processor time of its thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1000))


def sampled(main, **options):
    sampler = Sampler(**options)
    netnet.run(main, instruments=[sampler])
    return sampler.stacks


def roots(stacks):
    return {stack[:2] for stack, samples in stacks.items()}


def test_one_who_computes_and_one_who_waits():
    def main():
        netnet.spawn(netnet.sleep, 0.3, name="idle")
        netnet.spawn(burn, 0.3)

    stacks = sampled(main)
    assert share(stacks, "task: burn") > 0.8
    assert share(stacks, "task: idle") == 0
    assert any(
        stack[:3] == (NO_GROUP, "task: burn", f"burn (tests/flame/test_inside.py:{line_of(burn)})") for stack in stacks
    )


def line_of(function):
    return function.__code__.co_firstlineno


def test_groups_are_called_after_who_opened_them():
    def crawl():
        with netnet.TaskGroup() as group:
            group.spawn(burn)
            group.spawn(burn, name="page 7")

    def main():
        netnet.spawn(crawl)

    assert {one for one in roots(sampled(main)) if one[1].startswith("task: ")} >= {
        (f"group: {crawl.__qualname__}", "task: burn"),
        (f"group: {crawl.__qualname__}", "task: page 7"),
    }


def test_the_main_task():
    stacks = sampled(burn)
    assert share(stacks, "task: main") > 0.8
    assert not share(stacks, "main_then_stop")
    assert not share(stacks, "Worker.run")


def test_tasks_by_the_thousand_are_one():
    def main():
        for number in range(100):
            netnet.spawn(burn, 0.005)
            netnet.spawn(burn, 0.005, name=f"client {number} at 10.0.0.{number}:{1000 + number}")

    stacks = sampled(main)
    assert {task for _, task in roots(stacks) if task.startswith("task: ")} - {"task: main"} == {
        "task: burn",
        "task: client N at ADDRESS",
    }


def test_calls_of_the_loop_itself():
    def main():
        netnet.current_loop().call_soon(burn)
        netnet.sleep(0.01)

    assert share(sampled(main), LOOP) > 0.8


def test_lines_outside_a_loop():
    with Sampler() as sampler:
        burn()
    assert share(sampler.stacks, NO_TASK) == 1
    assert share(sampler.stacks, "burn ") > 0.8


def test_samples_are_processor_time():
    def main():
        burn(0.5)
        netnet.sleep(0.2)
        time.sleep(0.2)

    used = time.process_time()
    stacks = sampled(main, rate=100)
    used = time.process_time() - used
    assert stacks.total == pytest.approx(100 * used, rel=0.25, abs=6)


def test_a_long_call_of_c_code_gets_what_it_took():
    def main():
        sum(range(20_000_000))
        netnet.sleep(0)

    assert share(sampled(main), f"{main.__qualname__} ") > 0.8


def test_other_threads_and_their_loops():
    def work():
        with netnet.TaskGroup() as group:
            group.spawn(burn, 0.3)

    def main():
        netnet.to_thread(netnet.run, work)

    stacks = sampled(main)
    assert share(stacks, "task: burn") > 0.8
    assert "group: main" in {group for group, _ in roots(stacks)}


def first(seconds):
    burn(seconds)


def second(seconds):
    burn(seconds)


def test_while_the_main_thread_waits_for_another():
    """It hears of each signal there: what comes first and second is told apart."""

    def work():
        first(0.3)
        second(0.3)

    thread = threading.Thread(target=netnet.run, args=(work,))
    with Sampler() as sampler:
        thread.start()
        thread.join()
    assert share(sampler.stacks, "task: main") > 0.8
    assert share(sampler.stacks, "first ") == pytest.approx(0.5, abs=0.2)
    assert share(sampler.stacks, "second ") == pytest.approx(0.5, abs=0.2)


def test_a_plain_function_in_another_thread():
    stacks = sampled(lambda: netnet.to_thread(burn, 0.3))
    assert share(stacks, NO_TASK) > 0.8
    assert share(stacks, "burn ") > 0.8


def test_a_worker_of_another_thread_keeps_no_task():
    """Reading a frame's variables makes a table that stays with the frame."""
    seen = []
    ready, go_on = threading.Event(), threading.Event()

    def wait():
        ready.set()
        go_on.wait()

    thread = threading.Thread(target=netnet.run, args=(wait,))
    thread.start()
    try:
        assert ready.wait(20)
        frame = sys._current_frames()[thread.ident]
        while frame.f_code is not inside._WORKER:
            frame = frame.f_back
        seen.append(inside._worker_of(frame).task.name)
    finally:
        go_on.set()
        thread.join()
    assert seen == ["main"]


def test_deep_recursion_is_cut():
    def main(depth=0):
        burn(0.1) if depth == 600 else main(depth + 1)

    stacks = sampled(main)
    assert share(stacks, inside.DEEPER) > 0.5
    assert max(map(len, stacks)) <= inside.DEPTH_MAX + 3


def test_too_many_stacks_are_one(monkeypatch):
    monkeypatch.setattr(inside, "STACKS_MAX", 0)
    stacks = sampled(burn)
    assert set(stacks) <= {(NO_GROUP, "task: main", inside.OTHER), (LOOP, inside.OTHER)}
    assert stacks.total > 0


def test_an_idle_loop_is_not_woken():
    def main():
        counters = netnet.current_loop().counters
        before = counters.polls
        netnet.sleep(0.3)
        return counters.polls - before

    sampler = Sampler(rate=10_000)
    assert netnet.run(main, instruments=[sampler]) <= 5


def test_calls_that_are_interrupted_go_on():
    """Reading from a pipe while another thread computes, which sends signals to this one."""
    reader, writer = os.pipe()
    try:
        with Sampler(rate=1000):
            thread = threading.Thread(target=lambda: (burn(0.3), os.write(writer, b"x")))
            thread.start()
            assert os.read(reader, 1) == b"x"
            thread.join()
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("rate", [0, -1, 1e9])
def test_rates_that_make_no_sense(rate):
    with pytest.raises(UsageError, match="the rate must be"):
        with Sampler(rate=rate):
            pass


def test_one_at_a_time():
    with Sampler() as first:
        with pytest.raises(UsageError, match="already"):
            with Sampler():
                pass
        with pytest.raises(UsageError, match="make a new one"):
            with first:
                pass
        burn()
    assert first.stacks.total > 0


def test_not_in_another_thread():
    errors = []

    def work():
        try:
            netnet.run(burn, instruments=[Sampler()])
        except UsageError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


def test_nothing_stays_behind():
    before = signal.getsignal(signal.SIGPROF)
    leaving = os._exit
    sampled(burn)
    assert signal.getsignal(signal.SIGPROF) in (before, signal.SIG_IGN)
    assert os._exit is leaving
    assert inside._recorder is None


def run_program(tmp_path, code, *arguments):
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=tmp_path,
        env=environment() | {"TMPDIR": str(tmp_path)},  # what is executed meanwhile leaves its folder behind
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


BURN = """
    import os, sys, time
    import netnet
    from netnet import flame
    def burn(seconds=0.2):
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            sum(range(1000))
"""


def test_forked_children_are_sampled_until_they_exit_at_once(tmp_path):
    code = """
    def child():
        burn()
        os._exit(3)
    def main():
        pid = os.fork()
        if not pid:
            child()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    netnet.run(main, instruments=[flame.Sampler("out.folded")])
    """
    done = run_program(tmp_path, BURN + code)
    assert done.returncode == 0, done.stderr
    stacks = parse((tmp_path / "out.folded").read_text())
    assert share(stacks, "child (program.py") > 0.8


def test_a_program_that_is_executed_meanwhile_lives(tmp_path):
    """Neither in place of this one, nor in place of a child that has run Python first."""
    code = """
    import subprocess
    compute = "sum(range(30000000)); print('alive')"
    sampler = flame.Sampler()
    sampler.run_began()
    burn()
    subprocess.run([sys.executable, "-c", compute], preexec_fn=lambda: burn(0.05), check=True)
    os.execv(sys.executable, [sys.executable, "-c", compute])
    """
    done = run_program(tmp_path, BURN + code)
    assert done.stdout == "alive\nalive\n", done.stderr
    assert done.returncode == 0


def test_a_run_that_fails_writes_as_well(tmp_path):
    code = """
    def main():
        burn()
        raise LookupError("the program's own")
    netnet.run(main, instruments=[flame.Sampler("out.html")])
    """
    done = run_program(tmp_path, BURN + code)
    assert "the program's own" in done.stderr
    assert "burn" in (tmp_path / "out.html").read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.html", "program.py"]


def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        Sampler(tmp_path / "missing" / "out.svg")


def test_it_sets_no_trace_function():
    import greenlet

    traced = []
    sampled(lambda: traced.append(greenlet.gettrace()))
    assert traced == [None]
