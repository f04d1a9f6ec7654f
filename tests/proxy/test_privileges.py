"""Who the processes of the service are: the workers somebody without rights, the supervisor who it was."""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netnet.errors import UsageError
from netnet.proxy import privileges
from netnet.proxy.privileges import Identity, identity
from tests.proxy.running_service import Pair, RunningProxy, until

ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can start processes of somebody else"
)

LISTENER = '[[listener]]\naddress = "127.0.0.1:0"\n'


def nobody():
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("there is no user nobody here")


def status(pid):
    """The fields of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def target():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


@ROOT
def test_workers_are_somebody_without_rights(tmp_path, monkeypatch, target):
    entry = nobody()
    text = f"[proxy]\nuser = 'nobody'\nworkers = 2\nstatus = '{tmp_path}/status'\n" + LISTENER
    with RunningProxy(tmp_path, monkeypatch, text) as proxy:
        for pid in proxy.workers(2):
            told = status(pid)
            assert told["NoNewPrivs"] == ["1" if importlib.util.find_spec("_ctypes") else "0"]
            assert told["Uid"] == [str(entry.pw_uid)] * 4
            assert told["Gid"] == [str(entry.pw_gid)] * 4
            groups = os.getgrouplist("nobody", entry.pw_gid)
            assert sorted(map(int, told["Groups"])) == sorted(groups)
            for name in ("CapPrm", "CapEff", "CapAmb"):
                assert int(told[name][0], 16) == 0, name
        assert status(proxy.pid)["Uid"] == ["0"] * 4
        assert status(proxy.pid)["NoNewPrivs"] == ["0"]
        with Pair(proxy.address, target) as pair:
            pair.move()
        assert Path(f"{tmp_path}/status").stat().st_uid == 0
        proxy.end()


@ROOT
def test_a_group_of_its_own(tmp_path, monkeypatch):
    nobody()
    group = next(one for one in grp.getgrall() if one.gr_gid not in (0, nobody().pw_gid))
    text = f"[proxy]\nuser = 'nobody'\ngroup = '{group.gr_name}'\nworkers = 1\n" + LISTENER
    with RunningProxy(tmp_path, monkeypatch, text) as proxy:
        (pid,) = proxy.workers(1)
        until(lambda: status(pid)["Gid"] == [str(group.gr_gid)] * 4, "it has the group")
        proxy.end()


@ROOT
def test_a_reload_can_open_ports_that_only_root_can_and_change_the_user(tmp_path, monkeypatch, target):
    nobody()
    low = next(port for port in range(1023, 600, -1) if is_free(port))
    with RunningProxy(tmp_path, monkeypatch, "[proxy]\nuser = 'nobody'\nworkers = 1\n" + LISTENER) as proxy:
        for _ in range(2):
            (old,) = proxy.workers(1)
            proxy.reload(f"[proxy]\nuser = 'nobody'\nworkers = 1\n[[listener]]\naddress = '127.0.0.1:{low}'\n")
            until(lambda: old not in proxy.workers(), "it is replaced")  # noqa: B023
            with Pair(("127.0.0.1", low), target) as pair:
                pair.move()
        proxy.end()


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@ROOT
@pytest.mark.client("setpriv")
def test_who_is_not_root_cannot_become_somebody_else():
    """The program, started by nobody; what it says does not depend on files, which nobody may not be able to read."""
    entry = nobody()
    code = "from netnet.proxy.privileges import identity; print(identity('nobody', None).uid); identity('root', None)"
    done = subprocess.run(
        ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
    )
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.skip("nobody may not read this installation")
    assert done.stdout == f"{entry.pw_uid}\n"
    assert done.stderr.endswith("only root can become user 'root'; start as root, or leave user and group out\n")


def test_nobody_is_named():
    assert identity(None, None) is None


@pytest.mark.parametrize(
    ("user", "group", "told"),
    [
        ("no-such-user", None, "there is no user 'no-such-user'"),
        (None, "no-such-group", "there is no group 'no-such-group'"),
    ],
)
def test_unknown_names(user, group, told):
    with pytest.raises(UsageError, match=told):
        identity(user, group)


def test_only_root_becomes_somebody_else(monkeypatch):
    entry = nobody()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getegid", lambda: 12345)
    with pytest.raises(UsageError, match="only root can become user 'nobody'; start as root, or leave"):
        identity("nobody", None)
    monkeypatch.setattr(os, "geteuid", lambda: entry.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: entry.pw_gid)
    assert identity("nobody", None).uid == entry.pw_uid


def test_one_that_did_not_become_it_does_not_serve(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(privileges, "_prctl", lambda: lambda *_: pytest.fail("it is not he"))
    with pytest.raises(PermissionError, match="this process is not somebody"):
        Identity("somebody", 54321, 54321, ()).become()
