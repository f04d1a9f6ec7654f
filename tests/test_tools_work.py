"""The interpreter's tools work with netnet: debugger, faulthandler, tracemalloc, profilers, tracing, coverage, the checking
modes; each with a program of its own. And docs/debugging.md says the truth: its programs and commands are run as they
stand, and what they print is compared, numbers aside."""

from __future__ import annotations

import collections
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

import netnet

PAGE = (Path(__file__).parent.parent / "docs" / "debugging.md").read_text()
SECONDS_MAX = 20


@pytest.fixture
def program(tmp_path):
    """Runs a Python program in a directory of its own; returns what it has printed, errors too."""

    def run(code, *options, stdin="", status=0, **environment):
        (tmp_path / "program.py").write_text(textwrap.dedent(code))
        done = execute([sys.executable, *options, "program.py"], tmp_path, stdin, environment)
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


def execute(command, directory, stdin="", environment=()):
    return subprocess.run(
        command,
        cwd=directory,
        env=clean_environment() | dict(environment),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def clean_environment():
    """Without what measures or traces this very test."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON", "NETNET"))}


# -- the page


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.S | re.M)


def named_files():
    """The files that the page shows: each tells its name in the first line."""
    files = {}
    for content in (*blocks("python"), *blocks("toml")):
        name = re.match(r"# ([\w.]+)\n", content).group(1)
        assert name not in files
        files[name] = content
    return files


SESSIONS = {session.splitlines()[0].removeprefix("$ "): session for session in blocks("console")}


def plain(text, directory):
    """*text* as the page has it: no paths of this machine, no numbers, no prompts of the debugger."""
    for path, short in (
        (f"{directory.resolve()}/", ""),
        (str(Path(netnet.__file__).parent), ".../netnet"),
        (sysconfig.get_path("stdlib"), ".../python"),
        ("(Pdb) ", ""),
    ):
        text = text.replace(path, short)
    text = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "N", text)
    text = re.sub(r"MainThread, \w+:", "MainThread, epoll:", text)
    return [line.rstrip() for line in text.splitlines() if line.strip("^~ │")]


def compare(shown, told, directory):
    """The lines that are shown come in this order; without ``...`` between them, one right after the other."""
    lines = plain(told, directory)
    position, anywhere = 0, False
    for line in plain(shown, directory):
        if line == "...":
            anywhere = True
            continue
        found = next((n for n in range(position, len(lines)) if lines[n] == line), None)
        assert found is not None, f"{line!r} is not in what came after line {position} of:\n" + "\n".join(lines)
        assert anywhere or found == position, f"before {line!r} came {lines[position:found]}"
        position, anywhere = found + 1, False


def commands(session):
    """The commands of a session, each with its input and what is shown of its output."""
    for part in re.split(r"^\$ ", session, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        typed = re.findall(r"^\(Pdb\) (.*)$", shown, re.M)
        yield command, "".join(f"{line}\n" for line in typed), re.sub(r"^\(Pdb\) .*\n", "", shown, flags=re.M)


def in_background(command, first_line, directory):
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == first_line
    return process


def signalled(process, number):
    """What ``wedged.py`` writes to standard error at a signal, once it has come to the line in which it is wedged.

    A signal that comes in the instant before that line is handled by Python only when the next one comes.
    """
    descriptor = process.stderr.fileno()
    for _ in range(50):
        process.send_signal(number)
        told = ""
        while "dump()\n" not in told.partition("─ greedy: ")[2]:
            if not select.select([descriptor], [], [], 1)[0]:
                break
            chunk = os.read(descriptor, 65536)
            assert chunk, told
            told += chunk.decode()
        told = told[max(0, told.rfind("netnet: process")) :]  # without the end of the one before
        if "lock.acquire()  " in told:
            return told
    raise AssertionError(told)


@pytest.mark.parametrize("first", SESSIONS)
def test_the_page(first, tmp_path):
    for name, content in named_files().items():
        (tmp_path / name).write_text(content)
    background = None
    try:
        for command, typed, shown in commands(SESSIONS[first]):
            words = [sys.executable if word == "python" else word for word in shlex.split(command)]
            if words[-1] == "&":
                background = in_background(words[:-1], shown, tmp_path)
            elif words[0] == "kill":
                number = signal.Signals[f"SIG{words[1].removeprefix('-')}"]
                compare(shown, signalled(background, number), tmp_path)
            else:
                if typed and sys.version_info >= (3, 13):
                    typed = f"next\n{typed}"  # it stops at the line of ``breakpoint()`` itself
                    shown = f"...\n{shown}"
                done = execute(words, tmp_path, typed)
                assert done.returncode == 0, done.stdout
                compare(shown, done.stdout, tmp_path)
    finally:
        if background is not None:
            background.kill()
            background.communicate()


def test_every_block_of_the_page_is_run():
    kinds = collections.Counter(re.findall(r"^```(\w+)$", PAGE, re.M))
    assert set(kinds) == {"python", "toml", "console"}
    assert len(SESSIONS) == kinds["console"]
    used = " ".join(command for session in SESSIONS.values() for command, _, _ in commands(session))
    for name in named_files():
        assert name in used or name == "pyproject.toml"


def test_the_names_on_the_page_exist():
    for name in re.findall(r"netnet\.([A-Za-z_]+)", PAGE):
        assert hasattr(netnet, name) or name == "runtime", name


# -- pdb

STOPS = """
    import netnet
    def fetch(number):
        netnet.sleep(0.001)
        return number + 1
    def work(number):
        before = number
        breakpoint()
        after = fetch(before)
        return after
    def main():
        tasks = [netnet.spawn(work, number, name=f"work {number}") for number in (10, 20)]
        print("results", [task.result() for task in tasks])
    netnet.run(main)
"""


def test_two_tasks_that_stop_are_told_apart(program):
    """The second stops while the first is being stepped over a call that lets it run."""
    told = program(STOPS, stdin="where\np before\ncontinue\np before\nwhere\ncontinue\n")
    assert "(Pdb) 10" in told
    assert "(Pdb) 20" in told
    assert told.count("program.py(9)work()") + told.count("program.py(8)work()") >= 4
    assert "results [11, 21]" in told


def test_stepping_into_a_call_that_switches_and_out_again(program):
    enter = "next\n" if sys.version_info >= (3, 13) else ""
    told = program(STOPS, stdin=f"{enter}step\nstep\nnext\nreturn\nnext\np after\ncontinue\ncontinue\n")
    assert "--Call--" in told
    assert "-> netnet.sleep(0.001)" in told
    assert "-> return number + 1" in told
    assert "results [11, 21]" in told


def test_a_breakpoint_that_is_set_before_the_run(program):
    code = STOPS.replace("breakpoint()", "pass")
    told = program(code, "-m", "pdb", stdin="break 4\ncontinue\nwhere\np number\ncontinue\np number\ncontinue\nquit\n")
    assert "Breakpoint 1 at" in told
    assert "(Pdb) 10" in told
    assert "(Pdb) 20" in told
    assert "results [11, 21]" in told


def test_a_breakpoint_that_is_set_from_a_task(program):
    told = program(STOPS, stdin="break 5\ncontinue\ncontinue\np number\nclear 1\ncontinue\ncontinue\n")
    assert "(Pdb) 10" in told or "(Pdb) 20" in told
    assert "results [11, 21]" in told


def test_quitting_ends_the_run(program):
    told = program(STOPS, stdin="quit\n", status=1)
    assert "BdbQuit" in told
    assert "results [" not in told


def test_the_end_of_the_input_ends_the_run(program):
    assert "results [" not in program(STOPS, stdin="", status=1)


def test_post_mortem_of_a_failed_task(program):
    told = program(
        """
        import pdb, sys
        import netnet
        def work(number):
            netnet.sleep(0.001)
            return 1 / number
        def main():
            netnet.spawn(work, 0).result()
        try:
            netnet.run(main)
        except ZeroDivisionError as error:
            pdb.post_mortem(error.__traceback__)
        """,
        stdin="p number\nwhere\nquit\n",
    )
    assert "(Pdb) 0" in told
    assert "program.py(6)work()" in told
    assert "program.py(8)main()" in told


# -- faulthandler


def test_a_crash_tells_the_task_that_crashed(program):
    told = program(
        """
        import faulthandler
        import netnet
        def guilty():
            netnet.sleep(0.001)
            faulthandler._sigabrt()
        def main():
            netnet.spawn(netnet.sleep, 10)
            netnet.spawn(guilty).join()
        netnet.run(main)
        """,
        "-X",
        "faulthandler",
        status=-signal.SIGABRT,
    )
    assert "Fatal Python error: Aborted" in told
    assert 'program.py", line 6 in guilty' in told


def test_dump_traceback_later_sees_a_task_that_holds_the_loop(program):
    told = program(
        """
        import faulthandler, itertools
        import netnet
        def hog():
            faulthandler.dump_traceback_later(0.2, exit=True)
            sum(itertools.repeat(1))
        netnet.run(lambda: netnet.spawn(hog).join())
        """,
        status=1,
    )
    assert "Timeout" in told
    assert 'program.py", line 6 in hog' in told


# -- tracemalloc


def test_allocations_of_several_tasks_are_told_apart(program):
    told = program(
        """
        import tracemalloc
        import netnet
        kept = []
        def one():
            for _ in range(3):
                netnet.sleep(0)
                kept.append(bytearray(1_000_000))
        def other():
            for _ in range(3):
                kept.append(bytearray(2_000_000))
                netnet.sleep(0)
        def main():
            with netnet.TaskGroup() as group:
                group.spawn(one)
                group.spawn(other)
        tracemalloc.start(5)
        netnet.run(main)
        found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*program.py")])
        for statistic in found.statistics("lineno")[:2]:
            print(statistic.traceback[0].lineno, round(statistic.size / 1e6))
        """
    )
    assert told == "11 6\n8 3\n"


# -- cProfile, sys.setprofile, sys.settrace


def test_cprofile_counts_calls_and_own_time_rightly(program):
    told = program(
        """
        import cProfile, pstats, time
        import netnet
        def burn(seconds):
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass
        def little():
            for _ in range(5):
                burn(0.004)
                netnet.sleep(0)
        def much():
            for _ in range(5):
                burn(0.02)
                netnet.sleep(0)
        def main():
            with netnet.TaskGroup() as group:
                group.spawn(little)
                group.spawn(much)
        profile = cProfile.Profile()
        profile.runcall(netnet.run, main)
        rows = {name: row for (_, _, name), row in pstats.Stats(profile).stats.items()}
        print([rows[name][1] for name in ("burn", "little", "much", "main")])
        print(rows["burn"][2] + rows["<built-in method time.process_time>"][2] > 0.1)
        print(rows["little"][2] < 0.03, rows["much"][2] < 0.03)
        """
    )
    assert told == "[10, 1, 1, 1]\nTrue\nTrue True\n"


def test_cprofile_as_a_program(program):
    code = "import netnet\ndef leaf():\n    netnet.sleep(0.001)\nnetnet.run(lambda: netnet.spawn(leaf).join())\n"
    assert re.search(r"^ +1 .*program\.py:2\(leaf\)$", program(code, "-m", "cProfile", "-s", "tottime"), re.M)


def test_a_profile_function_hears_of_every_call_and_return_in_every_task(program):
    told = program(
        """
        import collections, sys
        import netnet
        heard = collections.Counter()
        def hear(frame, event, argument):
            if frame.f_code.co_name in ("leaf", "child") and event in ("call", "return"):
                heard[frame.f_code.co_name, event] += 1
        def leaf():
            netnet.sleep(0.001)
        def child():
            for _ in range(3):
                leaf()
        def main():
            with netnet.TaskGroup() as group:
                for _ in range(4):
                    group.spawn(child)
        sys.setprofile(hear)
        netnet.run(main)
        print(sys.getprofile() is hear)
        sys.setprofile(None)
        print(sorted(heard.items()))
        """
    )
    assert told.splitlines() == [
        "True",
        "[(('child', 'call'), 4), (('child', 'return'), 4), (('leaf', 'call'), 12), (('leaf', 'return'), 12)]",
    ]


def test_a_trace_function_hears_of_every_line_in_every_task(program):
    told = program(
        """
        import collections, sys
        import netnet
        heard = collections.Counter()
        def hear(frame, event, argument):
            if frame.f_code.co_name != "child":
                return None
            heard[event, frame.f_lineno] += 1
            return hear
        def child(number):
            before = number
            netnet.sleep(0.001)
            after = number
        def main():
            with netnet.TaskGroup() as group:
                for number in range(5):
                    group.spawn(child, number)
        sys.settrace(hear)
        netnet.run(main)
        print(sys.gettrace() is hear)
        sys.settrace(None)
        print(sorted(heard.items()))
        """
    )
    counted = [(("call", 10), 5), *((("line", line), 5) for line in (11, 12, 13)), (("return", 13), 5)]
    assert told == f"True\n{counted}\n"


def test_a_trace_function_that_a_task_sets_hears_of_itself_and_of_those_that_start_later(program):
    told = program(
        """
        import sys
        import netnet
        heard = set()
        def hear(frame, event, argument):
            if frame.f_code.co_filename == __file__:
                heard.add(frame.f_code.co_name)
            return hear
        def helper():
            netnet.sleep(0.001)
        def later():
            netnet.sleep(0.001)
        def main():
            sys.settrace(hear)
            helper()
            netnet.spawn(later).join()
            sys.settrace(None)
        netnet.run(main)
        print(sorted(heard), sys.gettrace())
        """
    )
    assert told == "['helper', 'later'] None\n"


# -- coverage

COVERED = """
    import netnet
    def classify(number):
        if number > 1:
            result = "many"
        else:
            result = "few"
        netnet.sleep(0.001)
        if number == 99:
            result = "never"
        for _ in range(number):
            netnet.sleep(0)
            result += "!"
        return result
    def fails(number):
        try:
            netnet.sleep(0.002)
            1 / 0
        except ZeroDivisionError:
            return None
        finally:
            netnet.sleep(0)
    def in_a_thread():
        return "done"
    def main():
        with netnet.TaskGroup() as group:
            for number in range(4):
                group.spawn(classify, number)
                group.spawn(fails, number)
        netnet.to_thread(in_a_thread)
        one, other = netnet.socketpair()
        with one, other:
            reader = netnet.spawn(one.recv, 5)
            netnet.sleep(0)
            other.send(b"hello")
            if reader.result() == b"hello":
                print("read")
    netnet.run(main)
"""


def coverage(program, tmp_path, concurrency, **environment):
    """The missing lines and branches of ``COVERED``, as coverage reports them."""
    (tmp_path / ".coveragerc").write_text(f"[run]\nbranch = true\nconcurrency = {concurrency}\n")
    assert "read" in program(COVERED, "-m", "coverage", "run", **environment)
    report = [sys.executable, "-m", "coverage", "report", "--show-missing", "--include=program.py"]
    last = execute(report, tmp_path).stdout.splitlines()[2].split("%")[-1]
    return last.strip()


def test_coverage_measures_lines_and_branches_in_tasks_and_threads(program, tmp_path):
    assert coverage(program, tmp_path, "greenlet, thread") == "10, 36->exit"


def test_coverage_of_greenlets_alone_misses_what_runs_in_threads(program, tmp_path):
    assert coverage(program, tmp_path, "greenlet") == "10, 24, 36->exit"


# -- py-spy


@pytest.mark.skipif(
    shutil.which("py-spy", path=os.path.dirname(sys.executable)) is None, reason="py-spy is not installed"
)
def test_py_spy_sees_the_task_that_runs(tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import netnet
            def compute():
                print("ready", flush=True)
                while True:
                    pass
            def hog():
                compute()
            netnet.run(lambda: netnet.spawn(hog).join())
        """)
    )
    process = in_background([sys.executable, "program.py"], "ready\n", tmp_path)
    try:
        spy = Path(sys.executable).with_name("py-spy")
        done = execute([str(spy), "dump", "--pid", str(process.pid)], tmp_path)
    finally:
        process.kill()
        process.communicate()
    if done.returncode and re.search("permission|ptrace|root", done.stdout, re.I):
        pytest.skip("looking into other processes is not allowed here")
    assert re.search(r"compute \(program.py:\d\)\n +hog \(program.py:8\)\n +Worker\.run ", done.stdout), done.stdout


# -- asyncio


def test_asyncio_in_a_task_blocks_its_loop_and_nothing_breaks(program):
    told = program(
        """
        import asyncio
        import netnet
        async def answer():
            await asyncio.sleep(0.02)
            netnet.sleep(0.001)           # lets other tasks run, in the middle of asyncio's
            return 42
        def main():
            steps = []
            task = netnet.spawn(lambda: steps.append(1))
            print(asyncio.run(answer()), len(steps))
            print(netnet.to_thread(asyncio.run, asyncio.sleep(0.001, "from a thread")))
            task.join()
        netnet.run(main)
        """,
        "-X",
        "dev",
        "-W",
        "error",
    )
    assert told == "42 1\nfrom a thread\n"


# -- the interpreter's modes

MODES = {
    "development": ("-X", "dev", "-W", "error"),
    "warnings are errors": ("-W", "error", "-bb"),
    "no assertions": ("-O", "-W", "error"),
    "no assertions, no docstrings": ("-OO", "-W", "error"),
    "isolated": ("-I", "-W", "error"),
    "unbuffered": ("-u", "-W", "error"),
    "traced memory": ("-X", "tracemalloc=20", "-W", "error"),
}


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_a_program_that_uses_much_of_netnet_runs_cleanly(program, options):
    told = program(
        """
        import io, signal
        import netnet
        def echo(conn):
            for chunk in conn:
                conn.sendall(chunk)
        def main():
            netnet.dump_on_signals()
            with netnet.listen("127.0.0.1:0") as listener, netnet.Watchdog(10):
                server = netnet.spawn(netnet.serve, listener, echo)
                with netnet.connect(listener.getsockname()) as conn:
                    conn.sendall(b"hello")
                    received = conn.recv(100)
                channel = netnet.Channel(1)
                with netnet.timeout(5), netnet.TaskGroup() as group:
                    group.spawn(channel.send, 1)
                    taken = group.spawn(channel.receive)
                    group.spawn(netnet.to_thread, int)
                file = io.StringIO()
                netnet.dump(file)
                server.cancel()
                server.join()
            print(received == b"hello", taken.result(), "main: running" in file.getvalue())
        netnet.run(main)
        """,
        *options,
    )
    assert told == "True 1 True\n"
