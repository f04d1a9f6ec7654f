"""What ships beside the package: the units pass systemd's own checks and fit the program, and so does the container file.
Neither is run here: there is no systemd, and no builder of images."""

from __future__ import annotations

import contextlib
import ctypes.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netnet.cli.main import main
from netnet.net.workers import GRACE_SECONDS
from netnet.proxy.config import load
from tests.cli.process import configured_proxy
from tests.proxy.running_service import Pair, prefixed
from tests.proxy.test_service import target  # noqa: F401  # a fixture

PACKAGING = Path(__file__).parent.parent / "packaging"

#: of ten; what is left is what a proxy needs: the network, and UNIX sockets
EXPOSURE_MAX = 2.0

#: prctl(2), from Linux 6.3: what systemd bans by ``MemoryDenyWriteExecute=``, by another way
PR_SET_MDWE = 65


def settings(name):
    """The lines of a unit: name → values, continued ones joined."""
    found: dict[str, list[str]] = {}
    for line in (PACKAGING / name).read_text().replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def units(tmp_path):
    """The units, with a program that is there."""
    for name in ("netnet.service", "netnet.socket"):
        text = (PACKAGING / name).read_text().replace("/usr/bin/netnet", shutil.which("true"))
        (tmp_path / name).write_text(text)
    return tmp_path


def analyzed(*arguments):
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.client("systemd-analyze")
def test_systemd_understands_the_units(units):
    code, told = analyzed("verify", str(units / "netnet.service"), str(units / "netnet.socket"))
    assert code == 0, told
    assert "netnet" not in told, told


@pytest.mark.client("systemd-analyze")
def test_the_check_finds_what_is_wrong(units):
    """Else the one above would prove nothing."""
    service = units / "netnet.service"
    service.write_text(service.read_text().replace("ProtectHome=yes", "ProtectHome=perhaps\nNonsense=1"))
    _, told = analyzed("verify", str(service))
    assert "Nonsense" in told
    assert "perhaps" in told


@pytest.mark.client("systemd-analyze")
def test_the_service_is_locked_up(units):
    code, told = analyzed("security", "--offline=true", "--no-pager", str(units / "netnet.service"))
    assert code == 0, told
    exposure = float(re.search(r"Overall exposure level for netnet.service: (\S+)", told)[1])
    assert exposure < EXPOSURE_MAX, told


def test_systemd_waits_longer_than_the_proxy():
    drain = load(str(PACKAGING / "netnet.toml")).drain_seconds
    assert float(settings("netnet.service")["TimeoutStopSec"][-1]) > drain + GRACE_SECONDS


def test_the_command_of_the_service_is_one(capsys):
    """Its options exist: a wrong one would be found before the file, which is not there."""
    (start,) = settings("netnet.service")["ExecStart"]
    program, *arguments = start.split()
    assert program == "/usr/bin/netnet"
    assert main([one.replace("/run/netnet/", "/no/such/directory/") for one in arguments]) == 1
    assert "/no/such/directory/netnet.toml" in capsys.readouterr().err


def test_what_is_copied_for_the_service_is_copied_for_a_reload():
    of = settings("netnet.service")
    assert of["ExecStartPre"] == of["ExecReload"][:-1]
    assert of["ExecReload"][-1].endswith("kill -HUP $MAINPID")


def test_the_socket_has_the_name_that_its_comment_tells():
    (name,) = settings("netnet.socket")["FileDescriptorName"]
    assert f'address = "systemd:{name}"' in (PACKAGING / "netnet.socket").read_text()
    assert f'address = "systemd:{name}"' in (PACKAGING / "README.md").read_text()


def test_the_configuration_is_right(capsys):
    assert main(["proxy", "check", str(PACKAGING / "netnet.toml")]) == 0
    assert ": right. " in capsys.readouterr().out


def test_it_runs_where_memory_cannot_become_code(tmp_path, monkeypatch, target):  # noqa: F811
    """By prctl(2), as greenlet switches stacks and passwords are hashed by a library in C."""
    script = tmp_path / "locked.py"
    script.write_text(
        "import ctypes, os, sys\n"
        f"if ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0):\n"
        "    sys.exit('this kernel does not know it')\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    if ctypes.util.find_library("c") is None:
        pytest.skip("Python finds no C library here")
    if subprocess.run([sys.executable, str(script), shutil.which("true")], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE; that takes Linux 6.3")
    prefixed(monkeypatch, tmp_path, sys.executable, str(script))
    text = '[proxy]\nworkers = 1\n[[listener]]\naddress = "127.0.0.1:0"\n'
    with configured_proxy(tmp_path, text) as proxy:
        with contextlib.closing(Pair(("127.0.0.1", proxy.port), target)) as pair:
            pair.move()


# -- the container


def instructions():
    """The instructions of the container file, in order: (name, arguments)."""
    text = "\n".join(
        line for line in (PACKAGING / "Containerfile").read_text().splitlines() if not line.startswith("#")
    )
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def test_the_container_is_not_root_and_tells_its_health():
    last = dict(instructions())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert "/healthz" in last["HEALTHCHECK"]
    assert [name for name, _ in instructions()][-2:] == ["ENTRYPOINT", "CMD"]
    assert '"--metrics", "127.0.0.1:9180"' in last["CMD"]
    assert "127.0.0.1:9180/healthz" in last["HEALTHCHECK"]


def test_what_the_container_copies_is_there():
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, _ = arguments.split()
            assert [one for one in sources if not (PACKAGING.parent / one).exists()] == []


def test_the_health_check_is_a_program(monkeypatch):
    text = dict(instructions())["HEALTHCHECK"]
    code = re.search(r'"-c", "(.*)"\]$', text)[1]
    compile(code, "HEALTHCHECK", "exec")
