"""``netnet proxy`` as a service: real processes that reload, share limits, lose workers and run out of things."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import time

import pytest

from tests.proxy.running_service import (
    Pair,
    Refused,
    RunningProxy,
    Storm,
    asking,
    at_once,
    cheap_hash,
    children,
    dial,
    enough,
    fetch,
    figures,
    free_address,
    prefixed,
    pump,
    refuses,
    status_at,
    text_of,
    until,
)

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs fork and /proc")

LISTENER = '[[listener]]\naddress = "127.0.0.1:0"\n'
QUIET = "log_connections = false\n"


@pytest.fixture
def service(tmp_path, monkeypatch):
    """``with service(text) as s``: a service by that file."""

    def start(text=LISTENER, *arguments, listeners=1):
        return RunningProxy(tmp_path, monkeypatch, text, *arguments, listeners=listeners)

    return start


@pytest.fixture
def target():
    """Somebody to connect to. What nobody accepts waits in the backlog, and stands for the proxy."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.settimeout(20)
        yield listener


def drained(target):
    """Accepts and closes whatever waits."""
    target.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            target.accept()[0].close()
    target.settimeout(20)


def users(*names):
    return "[users]\n" + "".join(f'{name} = "{cheap_hash(name)}"\n' for name in names)


def on(address, more=""):
    where = address if isinstance(address, str) else text_of(address)
    return f'[[listener]]\naddress = "{where}"\n{more}'


# -- reload


def test_connections_go_on_over_a_reload_and_the_old_worker_ends_with_the_last_one(service, target):
    with service("[proxy]\nworkers = 1\n" + LISTENER) as proxy:
        (old,) = proxy.workers(1)
        with Pair(proxy.address, target) as pair:
            pair.move()
            proxy.begin_reload()
            pair.move()
            assert proxy.notice() == "READY=1"
            pair.move()
            both = proxy.workers(2)
            assert old in both
            with Pair(proxy.address, target) as another:
                another.move()
        until(lambda: old not in children(proxy.pid), "the old worker ends")
        assert len(proxy.workers(1)) == 1
        proxy.end()


def test_ten_reloads_in_a_row(service, target):
    with service("[proxy]\nworkers = 2\n" + QUIET + LISTENER) as proxy:
        pairs = []
        seen = set()
        for _ in range(10):
            pairs.append(Pair(proxy.address, target))
            seen.update(proxy.workers())
            proxy.reload()
        for pair in pairs:
            pair.move(1000)
            pair.close()
        assert not seen & set(proxy.workers(2))
        with Pair(proxy.address, target) as pair:
            pair.move()
        assert proxy.end() == []


def test_no_connection_is_refused_in_a_storm_while_it_reloads(service, target):
    text = "[proxy]\nworkers = 2\n" + QUIET + LISTENER
    with service(text) as proxy:
        with Storm(proxy.address, target.getsockname()) as storm:
            for _ in range(5):
                storm.more()
                proxy.reload()
                drained(target)
            storm.more()
        drained(target)
        assert storm.errors == []
        assert proxy.end() == []


def test_more_workers_in_a_storm(service, target):
    text = "[proxy]\nworkers = {}\n" + QUIET + LISTENER
    with service(text.format(1)) as proxy:
        with Storm(proxy.address, target.getsockname()) as storm:
            for count in (2, 4):
                storm.more()
                proxy.reload(text.format(count))
                until(lambda: drained(target) or len(proxy.workers()) == count, f"{count} workers")  # noqa: B023
            storm.more()
        drained(target)
        assert storm.errors == []
        assert proxy.end() == []


def test_fewer_workers(service, target):
    """Connections under way go on. One that is being made in that instant can be lost: the kernel has no way to hand it
    from one queue to another."""
    text = "[proxy]\nworkers = {}\n" + QUIET + LISTENER
    with service(text.format(4)) as proxy:
        pairs = [Pair(proxy.address, target) for _ in range(12)]
        proxy.reload(text.format(1))
        for pair in pairs:
            pair.move(1000)
            pair.close()
        proxy.workers(1)
        with Pair(proxy.address, target) as pair:
            pair.move()
        assert proxy.end() == []


def test_new_rules_hold_for_new_connections(service, target):
    host, port = target.getsockname()
    text = f"{LISTENER}[[rule]]\nname = 'closed'\naction = 'deny'\nports = [{port}]\n"
    with service() as proxy:
        with Pair(proxy.address, target) as pair:
            proxy.reload(text)
            for _ in range(20):
                with pytest.raises(Refused) as refused:
                    dial(proxy.address, host, port)
                assert refused.value.args == (2,)
            assert "denied" in proxy.line(f"-> {host}:{port}")
            pair.move()
        proxy.reload(LISTENER)
        with Pair(proxy.address, target) as pair:
            pair.move()
        proxy.end()


def test_new_users_and_limits(service, target):
    password = 'authentication = "password"\n'
    where = target.getsockname()
    with service(LISTENER + password + users("alice")) as proxy:
        with Pair(proxy.address, target, user="alice") as pair:
            with pytest.raises(Refused, match="login"):
                dial(proxy.address, *where, user="bob")
            proxy.reload(LISTENER + password + users("bob") + "[limits]\nconnections_per_user = 1\n")
            with pytest.raises(Refused, match="login"):
                dial(proxy.address, *where, user="alice")
            pair.move()
            with Pair(proxy.address, target, user="bob"):
                with pytest.raises(Refused):
                    dial(proxy.address, *where, user="bob")
            until(lambda: "limit" in proxy.line("user=bob|bob"), "the limit is logged")
        proxy.end()


def test_listeners_come_and_go(service, target, tmp_path):
    one, other = free_address(), free_address()
    path = str(tmp_path / "proxy.sock")
    with service(on(one) + on(f"unix:{path}"), listeners=2) as proxy:
        with Pair(one, target) as first, Pair(path, target) as second:
            proxy.reload(on(other) + on(f"unix:{path}"))
            until(lambda: refuses(one), "the listener that is gone refuses")
            for way in (other, path):
                with Pair(way, target) as pair:
                    pair.move()
            first.move()
            second.move()
            proxy.reload(on(one) + on(other))
            for way in (one, other):
                with Pair(way, target) as pair:
                    pair.move()
            with pytest.raises(OSError):
                dial(path, "127.0.0.1", 1)
            second.move()
        proxy.end()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("[[listener]]\naddress = 1\n", r"nothing was changed: .*netnet\.toml:2: listener"),
        ("[[listener\n", r"nothing was changed: .*netnet\.toml:1: "),
        (None, "nothing was changed: .*netnet.toml"),
        (LISTENER + "[[rule]]\naction = 'deny'\nports = [99999]\n", r"netnet\.toml:5: .*99999"),
        ("[proxy]\nworkers = 500\n" + LISTENER, "nothing was changed: workers = 500: there can be 16 at most"),
        ('[[listener]]\naddress = "systemd"\n', "nothing was changed: systemd has handed over no socket"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(service, target, wrong, told):
    with service("[proxy]\nworkers = 2\n" + LISTENER) as proxy:
        before = proxy.workers()
        with Pair(proxy.address, target) as pair:
            if wrong is None:
                proxy.file.unlink()
                proxy.reload()
            else:
                proxy.reload(wrong)
            proxy.line(told)
            assert proxy.workers() == before
            pair.move()
            with Pair(proxy.address, target) as another:
                another.move()
        assert len(proxy.end()) == 2


def test_an_address_in_use_changes_nothing(service, target, tmp_path):
    taken = free_address()
    free, metrics = free_address(), free_address()
    more = f'[proxy]\nmetrics = "{text_of(metrics)}"\nstatus = "{tmp_path}/status"\n'
    with socket.create_server(taken), service() as proxy:
        before = proxy.workers()
        for text in (on(free) + on(taken), more + on(free) + on(taken)):
            proxy.reload(text)
            proxy.line(f"nothing was changed: listen on {text_of(taken)}: Address already in use")
            assert proxy.workers() == before
            assert refuses(free)
            assert refuses(metrics)
            with Pair(proxy.address, target) as pair:
                pair.move()
        proxy.reload(more.replace(text_of(metrics), text_of(taken)) + on(free))
        proxy.line(f"nothing was changed: listen on {text_of(taken)}: Address already in use")
        assert refuses(free)
        proxy.reload(more + on(free))
        with Pair(free, target) as pair:
            pair.move()
        assert fetch(metrics, "/healthz").strip() == "ok"
        proxy.end()


def test_counters_never_fall_and_the_addresses_of_figures_move(service, target, tmp_path):
    one, other = free_address(), free_address()
    text = '[proxy]\nworkers = 2\nmetrics = "{}"\nstatus = "{}"\n' + QUIET + LISTENER
    names = ("netnet_proxy_bytes_total", "netnet_proxy_sessions_total")

    def sums(address):
        found = figures(address)
        return [sum(value for key, value in found.items() if key.startswith(name)) for name in names]

    with service(text.format(text_of(one), tmp_path / "one")) as proxy:
        last = [0.0, 0.0]
        with Pair(proxy.address, target) as steady:
            for round in range(4):
                here, there = (one, other) if round % 2 == 0 else (other, one)
                path = tmp_path / ("one" if round % 2 == 0 else "other")
                with Pair(proxy.address, target) as pair:
                    pair.move(10_000)
                steady.move(10_000)
                until(lambda: sums(here)[1] >= last[1] + 1, "the connection is counted")  # noqa: B023
                seen = sums(here)
                assert seen[0] >= last[0] + 40_000
                assert status_at(path)["totals"]["sessions"] == round + 1
                last = seen
                proxy.reload(text.format(text_of(there), tmp_path / ("other" if round % 2 == 0 else "one")))
                assert refuses(here)
                assert sums(there) >= last
                with pytest.raises(OSError):
                    status_at(path)
        proxy.end()


def test_a_reload_that_cannot_fork_keeps_the_old_workers_and_is_tried_again(service, target):
    """The limit on processes counts those of a user, and root has none; so of a worker's descriptors there are none."""
    with service("[proxy]\nworkers = 1\n" + LISTENER) as proxy:
        (old,) = proxy.workers(1)
        in_use = len(os.listdir(f"/proc/{proxy.pid}/fd"))
        before = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (in_use + 1, before[1]))
        with Pair(proxy.address, target) as pair:
            proxy.begin_reload()
            proxy.line("worker 0: no successor can be started: Too many open files; the old one stays; trying again")
            assert proxy.workers() == [old]
            with Pair(proxy.address, target) as another:
                another.move()
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, before)
            assert proxy.notice() == "READY=1"
            pair.move()
        until(lambda: old not in proxy.workers(), "it was replaced")
        proxy.workers(1)
        proxy.end()


def test_the_supervisor_is_killed(service, target):
    """Its workers end with their last connections."""
    with service("[proxy]\nworkers = 2\ndrain = '20 s'\n" + LISTENER) as proxy:
        workers = proxy.workers(2)
        with Pair(proxy.address, target) as pair:
            address = proxy.address
            proxy.proxy.process.kill()
            proxy.proxy.process.wait()
            until(lambda: refuses(address), "nobody is let in any more")
            pair.move()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "the workers are gone")
        proxy.stopped = True


def test_sigterm_in_the_middle_of_a_reload(service, target):
    with service("[proxy]\nworkers = 2\n" + QUIET + LISTENER) as proxy:
        proxy.begin_reload()
        assert proxy.end() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_connections(service, target, number):
    with service("[proxy]\ndrain = '1 h'\n" + LISTENER) as proxy:
        with Pair(proxy.address, target) as pair:
            proxy.proxy.process.send_signal(signal.SIGTERM)
            assert proxy.notice() == "STOPPING=1"
            pair.move()
            code, lines = proxy.stop(number)
            assert (code, lines[-1]) == (0, "netnet proxy: stopped by SIGTERM")
            assert lines[0].endswith(" stopped")
            with pytest.raises(ConnectionError):
                pair.move()


# -- limits that hold over all workers


WRONG = ("alice", "wrong")
PASSWORD = 'authentication = "password"\n'
THREE = "[proxy]\nworkers = 3\n" + QUIET + LISTENER


@pytest.mark.parametrize(
    ("limits", "user"),
    [("connections_per_client = 5", None), ("connections_per_user = 5", "alice"), (None, "bob")],
)
def test_connections_of_one_user_or_client(service, target, tmp_path, limits, user):
    bob = f"[users.bob]\npassword = '{cheap_hash('bob')}'\nconnections = 5\n"
    text = (
        f"[proxy]\nstatus = '{tmp_path}/status'\n"
        + THREE.removeprefix("[proxy]\n")
        + (PASSWORD if user else "")
        + users("alice")
        + bob
        + (f"[limits]\n{limits}\n" if limits else "")
    )
    with service(text) as proxy:
        for _ in range(2):
            good, bad = at_once(30, lambda: dial(proxy.address, *target.getsockname(), user=user))
            assert (len(good), len(bad)) == (5, 25)
            for one in good:
                one.close()
            drained(target)
            until(lambda: status_at(tmp_path / "status")["connections"] == 0, "the places are free")
        proxy.end()


def test_connections_in_all(service, target):
    """Those above the limit wait in the kernel, and are served when there is a place: none is lost."""
    with service(THREE + "[limits]\nconnections = 6\n") as proxy:
        clients = [asking(proxy.address, target) for _ in range(20)]
        while clients:
            count = min(6, len(clients))
            ready = until(lambda: enough(clients, count), f"{count} are served")  # noqa: B023
            assert len(ready) == count
            clients = [one for one in clients if one not in ready]
            for one in ready:
                one.close()
            drained(target)
        proxy.end()


def test_a_worker_that_is_killed_gives_its_places_back(service, target):
    where = target.getsockname()
    with service("[proxy]\nworkers = 2\n" + LISTENER + "[limits]\nconnections_per_client = 4\n") as proxy:
        held = [dial(proxy.address, *where) for _ in range(4)]
        with pytest.raises((Refused, ConnectionError)):
            dial(proxy.address, *where)
        before = proxy.workers(2)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
            proxy.line(f"process {pid}, was killed by signal 9, Killed after .*; a new one starts in 0 s")
        until(lambda: len(set(proxy.workers()) - set(before)) == 2, "both are replaced")
        for one in held:
            one.close()
        drained(target)
        held = [dial(proxy.address, *where) for _ in range(4)]
        with pytest.raises((Refused, ConnectionError)):
            dial(proxy.address, *where)
        for one in held:
            one.close()
        drained(target)
        proxy.end()


def test_a_ban_holds_in_all_workers(service, target, tmp_path):
    text = f"[proxy]\nstatus = '{tmp_path}/status'\nworkers = 3\n" + LISTENER + PASSWORD + users("alice")
    with service(text + "[limits]\nfailed_logins_max = 3\nfailed_login_delay = '0 s'\n") as proxy:
        dial(proxy.address, *target.getsockname(), user="alice").close()
        drained(target)
        for _ in range(3):
            with pytest.raises(Refused, match="login"):
                dial(proxy.address, *target.getsockname(), user=WRONG)
        for _ in range(15):
            with pytest.raises((Refused, ConnectionError)):
                dial(proxy.address, *target.getsockname(), user="alice")
        assert [one["client"] for one in status_at(tmp_path / "status")["bans"]] == ["127.0.0.1"]
        proxy.reload()
        with pytest.raises((Refused, ConnectionError)):
            dial(proxy.address, *target.getsockname(), user="alice")
        proxy.end()


def test_the_bandwidth_of_a_user_is_shared(service, target):
    """Over all connections and workers. It is measured after the first burst."""
    rate = 2_000_000
    text = THREE + PASSWORD + users("alice") + "[limits]\nbandwidth_per_user = '2 MB/s'\n"
    with service(text) as proxy:
        pairs = [Pair(proxy.address, target, user="alice") for _ in range(6)]
        pump(pairs, 1.0)
        moved, seconds = pump(pairs, 2.0)
        for pair in pairs:
            pair.close()
        assert moved / seconds == pytest.approx(rate, rel=0.1)
        proxy.end()


# -- when things go wrong


def test_a_worker_that_hangs_is_shown_and_holds_nobody_up_but_its_own(service, target, tmp_path):
    metrics = free_address()
    text = f"[proxy]\nworkers = 3\nstatus = '{tmp_path}/status'\nmetrics = '{text_of(metrics)}'\n" + QUIET + LISTENER
    with service(text) as proxy:
        stuck, *others = proxy.workers(3)
        pairs = [Pair(proxy.address, target) for _ in range(12)]
        os.kill(stuck, signal.SIGSTOP)
        try:
            for ask in (
                lambda: status_at(tmp_path / "status"),
                lambda: fetch(metrics),
                lambda: fetch(metrics, "/healthz"),
            ):
                began = time.monotonic()
                ask()
                assert time.monotonic() - began < 3
            silent = {one["pid"]: one["silent_seconds"] for one in status_at(tmp_path / "status")["workers"]}
            assert silent.pop(stuck) > 0
            assert silent == dict.fromkeys(others, 0.0)
            clients = [asking(proxy.address, target) for _ in range(24)]
            served = until(lambda: enough(clients, 8), "others serve")
            assert len(served) < 24 or os.cpu_count() == 1
        finally:
            os.kill(stuck, signal.SIGCONT)
        assert len(until(lambda: enough(clients, 24), "it goes on where it was")) == 24
        for one in clients:
            one.close()
        for pair in pairs:
            pair.server.close()
            pair.client.close()
        drained(target)
        until(lambda: not any(one["silent_seconds"] for one in status_at(tmp_path / "status")["workers"]), "all answer")
        proxy.end()


def test_a_worker_that_hangs_does_not_outlive_the_service(service):
    with service("[proxy]\nworkers = 2\ndrain = '0 s'\n" + LISTENER) as proxy:
        os.kill(proxy.workers(2)[0], signal.SIGSTOP)
        proxy.end()


@pytest.mark.client("prlimit")
def test_few_descriptors_from_the_start_lose_nobody(service, target, tmp_path, monkeypatch):
    """It takes no more connections than it can have; the others wait in the kernel."""
    prefixed(monkeypatch, tmp_path, "prlimit", "--nofile=300:300")
    with service("[proxy]\nworkers = 1\n" + LISTENER) as proxy:
        clients = [asking(proxy.address, target) for _ in range(250)]
        count = 0
        while clients:
            ready = until(lambda: enough(clients, 1), "more are served")  # noqa: B023
            count += len(ready)
            clients = [one for one in clients if one not in ready]
            for one in ready:
                one.close()
            drained(target)
        assert count == 250
        lines = proxy.end()
        assert len(lines) == 250
        assert all(re.search(" (closed|reset: .*)$", line) for line in lines), lines


def test_descriptors_that_run_out_are_told_once_and_it_recovers(service, target):
    with service("[proxy]\nworkers = 1\n" + QUIET + LISTENER) as proxy:
        (worker,) = proxy.workers(1)
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, before[1]))
        clients = [asking(proxy.address, target) for _ in range(10)]
        proxy.line("accept: Too many open files; trying again")
        assert enough(clients, 1) is None
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        until(lambda: enough(clients, 10), "they are served after all")
        for one in clients:
            one.close()
        drained(target)
        assert proxy.end() == []


@pytest.mark.parametrize("answers", ["refused", "silent"])
def test_without_names_only_requests_with_names_fail(service, target, answers):
    pytest.importorskip("dns")
    host, port = target.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        where = text_of(server.getsockname())
        if answers == "refused":
            server.close()
        text = f"[proxy]\nworkers = 1\nname_servers = ['{where}']\n" + LISTENER + "[limits]\nconnect = '1 s'\n"
        with service(text) as proxy:
            with Pair(proxy.address, target) as pair:
                began = time.monotonic()
                good, bad = at_once(3, lambda: dial(proxy.address, "name.test", port))
                assert (good, [type(one) for one in bad]) == ([], [Refused] * 3)
                assert time.monotonic() - began < 5
                pair.move()
                with Pair(proxy.address, target) as another:
                    another.move()
            proxy.end()


def test_no_memory_for_a_reload_changes_nothing(service, target):
    with service("[proxy]\nworkers = 1\n" + LISTENER) as proxy:
        (old,) = proxy.workers(1)
        before = resource.prlimit(proxy.pid, resource.RLIMIT_AS)
        resource.prlimit(proxy.pid, resource.RLIMIT_AS, (1 << 20, before[1]))
        with Pair(proxy.address, target) as pair:
            proxy.reload()
            proxy.line("nothing was changed: ")
            assert proxy.workers() == [old]
            pair.move()
        resource.prlimit(proxy.pid, resource.RLIMIT_AS, before)
        proxy.reload()
        until(lambda: old not in proxy.workers(), "it was replaced")
        proxy.end()
