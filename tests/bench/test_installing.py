"""``netnet bench peers``: what it tells, and which commands it composes. It installs nothing here: what runs the commands
is a list."""

from __future__ import annotations

import sys

import pytest

from netnet.bench import installing
from netnet.bench.installing import NOT_RUN, install, tell
from netnet.bench.peers import SOFTWARE, Software

HERE = Software("greenlet", module="greenlet")
SHELL = Software("shell", program="sh", debian="dash")
MODULES = (Software("one-package", module="no_such_module"), Software("another", module="nor_this_one"))
PROGRAMS = (
    Software("a-program", program="no-such-program", debian="a-package"),
    Software("another-program", program="nor-this-one", debian="other-package"),
)
PIP = [sys.executable, "-m", "pip", "install", "one-package", "another"]
UPDATE = ["apt-get", "update"]
ADD = ["apt-get", "install", "-y", "--no-install-recommends", "a-package", "other-package"]


class Runner:
    """Notes the commands; *statuses* is what those end with that contain its key, the others with 0."""

    def __init__(self, statuses=()):
        self.commands = []
        self.said = []
        self.statuses = dict(statuses)

    def __call__(self, command):
        self.commands.append(list(command))
        for word, status in self.statuses.items():
            if word in command:
                if isinstance(status, OSError):
                    raise status
                return status
        return 0

    def install(self, *software):
        return install(self, self.said.append, software)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Sets who the user is, and which of the system's commands there are."""

    def become(uid, *commands):
        for name in commands:
            (tmp_path / name).write_text("#!/bin/sh\nexit 99\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setattr("os.geteuid", lambda: uid)
        monkeypatch.setenv("PATH", str(tmp_path))

    return become


def test_nothing_is_missing():
    runner = Runner()
    assert runner.install(HERE, SHELL) == 0
    assert runner.commands == []
    assert runner.said == ["all that netnet is compared with is here"]


def test_root(system):
    system(0, "apt-get")
    runner = Runner()
    assert runner.install(HERE, *MODULES, *PROGRAMS) == 0
    assert runner.commands == [UPDATE, ADD, PIP]
    assert [line.split() for line in (runner.said[0], runner.said[1], runner.said[-1])] == runner.commands
    assert any("services" in line for line in runner.said)


def test_only_what_is_missing(system):
    system(0, "apt-get")
    of_pypi, of_debian = Runner(), Runner()
    assert of_pypi.install(HERE, MODULES[0]) == of_debian.install(HERE, PROGRAMS[1]) == 0
    assert of_pypi.commands == [PIP[:-1]]
    assert of_debian.commands == [UPDATE, [*ADD[:-2], "other-package"]]


def test_with_sudo(system):
    system(1000, "apt-get", "sudo")
    runner = Runner()
    assert runner.install(*PROGRAMS, *MODULES) == 0
    assert runner.commands == [["sudo", *UPDATE], ["sudo", *ADD], PIP]


def test_without_rights_the_rest_is_done(system):
    system(1000, "apt-get")
    runner = Runner()
    assert runner.install(*PROGRAMS, *MODULES) == NOT_RUN
    assert runner.commands == [PIP]
    assert f"as root: {' '.join(UPDATE)} && {' '.join(ADD)}" in runner.said[0]


def test_another_system_than_debian(system):
    system(0)
    runner = Runner()
    assert runner.install(*PROGRAMS, *MODULES) == NOT_RUN
    assert runner.commands == [PIP]
    assert runner.said[0].endswith("packages: a-package other-package")


@pytest.mark.parametrize(
    ("statuses", "status", "told"),
    [
        ({"update": 100}, 0, "apt-get ended with status 100"),
        ({"--no-install-recommends": 100}, 100, "apt-get ended with status 100"),
        ({"pip": 1}, 1, f"{sys.executable} ended with status 1"),
        ({"--no-install-recommends": 100, "pip": 1}, 1, "apt-get ended with status 100"),
        ({"pip": FileNotFoundError(2, "No such file")}, NOT_RUN, f"{sys.executable} cannot be run: No such file"),
    ],
)
def test_what_fails_is_told_and_the_rest_is_done(system, statuses, status, told):
    system(0, "apt-get")
    runner = Runner(statuses)
    assert runner.install(*PROGRAMS, *MODULES) == status
    assert runner.commands == [UPDATE, ADD, PIP]
    assert told in runner.said


def test_a_command_is_run(tmp_path, capfd):
    made = tmp_path / "made"
    code = f"import pathlib, sys; pathlib.Path({str(made)!r}).touch(); sys.exit(3)"
    assert installing.run_command([sys.executable, "-c", code]) == 3
    assert made.exists()
    with pytest.raises(FileNotFoundError):
        installing.run_command(["/no/such/program"])


def test_tell():
    rows = tell((HERE, *MODULES[:1], *PROGRAMS[:1]))
    assert rows[0].version
    assert rows[0].remedy is None
    assert rows[1:] == [
        ("one-package", None, "pip install one-package"),
        ("a-program", None, "apt install a-package"),
    ]
    assert [row.name for row in tell()] == list(SOFTWARE)
    assert all((row.version is None) != (row.remedy is None) for row in tell())
