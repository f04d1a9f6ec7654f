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
