"""Programs that the bench starts: what they say is read, what goes wrong is told, and nothing of them is left."""

from __future__ import annotations

import os
import select
import sys

import pytest

from netnet.bench.processes import BenchError, Process, probe, probing, processors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")


def shell(script):
    return ["sh", "-c", script]


def test_lines_are_read_and_written():
    with Process(shell("read word; echo got $word")) as process:
        process.tell("this")
        assert process.line() == ["got", "this"]
        process.finish()


@pytest.mark.parametrize(
    ("keep", "expected"), [(True, "ended with status 3: the last words"), (False, "ended with status 3")]
)
@pytest.mark.parametrize("wait", [Process.line, Process.finish])
def test_the_last_words_of_a_program_that_fails(keep, expected, wait):
    with Process(shell("echo first >&2; echo the last words >&2; exit 3"), keep_errors=keep) as process:
        with pytest.raises(BenchError) as failure:
            wait(process)
    assert str(failure.value).endswith(expected)


def test_a_program_that_has_ended_is_told_apart():
    with Process(shell("read go")) as process:
        process.still_runs()
        process.tell("go")
        process.finish()
        with pytest.raises(BenchError, match="ended with status 0"):
            process.still_runs()


def test_telling_one_that_has_ended():
    with Process(shell("exit 4")) as process:
        with pytest.raises(BenchError):
            process.finish()
        with pytest.raises(BenchError, match="ended with status 4"):
            process.tell("anything")


@pytest.mark.parametrize(
    ("line", "port"),
    [("port 70", 70), ("proxy on 127.0.0.1:81, at most 9", 81), ("[::1]:92", 92), ("none: here", None)],
)
def test_port(line, port):
    with Process(shell(f"echo '{line}'; read end")) as process:
        if port is None:
            with pytest.raises(BenchError, match="printed no port: none: here"):
                process.port()
        else:
            assert process.port() == port


def test_its_children_end_with_it():
    with Process(shell("sleep 1000 & echo $!; read end")) as process:
        child = os.pidfd_open(int(process.line()[0]))
        try:
            assert not select.select([child], [], [], 0)[0]
            process.__exit__()
            assert select.select([child], [], [], 10)[0], "the child goes on"
        finally:
            os.close(child)


def test_its_children_are_counted():
    with Process(shell("sleep 1000 & sleep 1000 & echo there; read end")) as process:
        process.line()
        used = process.group_cpu_seconds()
        assert len(used) == 3
        assert process.pid in used
        assert os.getpid() not in used
        assert all(seconds >= 0 for seconds in used.values())


def test_what_a_group_has_used():
    with Process(shell("sleep 1000 & echo there; read end")) as process:
        process.line()
        before = process.group_cpu_seconds()
        assert process.group_used_seconds(before) == pytest.approx([0, 0], abs=0.1)
        assert process.group_used_seconds({process.pid: before[process.pid] - 1.5})[0] >= 1.5
        with pytest.raises(BenchError, match="1 of its processes ended while"):
            process.group_used_seconds({**before, 999_999_999: 0.1})


def test_one_that_has_ended_is_not_counted():
    code = (
        "import os; os.fork() or os._exit(0); os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT); print('there'); input()"
    )
    with Process([sys.executable, "-uc", code]) as process:
        process.line()
        assert set(process.group_cpu_seconds()) == {process.pid}


def test_the_memory_of_a_group_is_that_of_all():
    code = (
        "import os; r, w = os.pipe(); os.fork(); data = bytearray(20_000_000); os.write(1, b'there\\n'); os.read(r, 1)"
    )
    with Process([sys.executable, "-c", code]) as process:
        process.line()
        process.line()
        assert 40_000_000 < process.group_resident_bytes() < 100_000_000


def test_processors_are_set():
    wanted = {min(os.sched_getaffinity(0))}
    code = "import os; print(*os.sched_getaffinity(0))"
    with Process([sys.executable, "-c", code], wanted) as process:
        assert {int(word) for word in process.line()} == wanted


def test_one_processor_is_not_shared_out(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    assert processors() == (None, None)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 1, 2})
    assert processors() == (1, 2)


@pytest.mark.parametrize(("library", "work"), [("netnet", "nonsense"), ("nonsense", "single"), ("threads", "sleepers")])
def test_a_probe_that_cannot_be(library, work):
    with probing(probe(library, work, 1)) as process, pytest.raises(BenchError, match="Error: .*(nonsense|sleepers)"):
        process.line()


def test_a_program_that_is_not_there():
    with pytest.raises(BenchError, match="no-such-program cannot be started: No such file"):
        Process(["no-such-program", "--at-all"])


def test_children_with_groups_of_their_own_are_counted_and_end_with_it():
    with Process(shell("setsid sleep 1000 & echo $!; read end")) as process:
        child = os.pidfd_open(int(process.line()[0]))
        try:
            assert len(process.group_cpu_seconds()) == 2
            process.__exit__()
            assert select.select([child], [], [], 10)[0], "the child goes on"
        finally:
            os.close(child)


def test_what_ended_children_have_used_is_counted():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    with Process(shell(f"{sys.executable} -c '{burn}'; echo burnt; read end")) as process:
        before = process.total_cpu_seconds()
        process.line()
        assert process.total_cpu_seconds() - before > 0.2
        assert sum(process.group_used_seconds({process.pid: 0.0})) < 0.2


def test_peak_memory_stays_when_it_is_given_back():
    code = "data = bytearray(50_000_000); del data; print('there', flush=True); input()"
    with Process([sys.executable, "-c", code]) as process:
        process.line()
        assert process.group_peak_bytes() > 50_000_000
        assert process.group_resident_bytes() < 50_000_000
