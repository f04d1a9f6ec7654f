"""What netnet is compared with, as a list, and installing what of it is missing: from PyPI into this Python, from Debian
into the system. Which software that is, and whether it is here, ``peers`` knows.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from netnet.bench.peers import SOFTWARE, Software

#: runs a command and returns its exit status; raises ``OSError`` where it cannot be started
Run = Callable[[Sequence[str]], int]

Say = Callable[[str], object]

#: the status of a command that cannot be started, or may not be
NOT_RUN = 127

_DEBIAN = (("apt-get", "update"), ("apt-get", "install", "-y", "--no-install-recommends"))
_PYPI = ("-m", "pip", "install")


class Row(NamedTuple):
    """One software: its version, or how to get it; one of them is ``None``."""

    name: str
    version: str | None
    remedy: str | None


def tell(software: Iterable[Software] = tuple(SOFTWARE.values())) -> list[Row]:
    """What there is to compare with, and what of it is here."""
    found = [(one, one.version()) for one in software]
    return [Row(one.name, version, None if version else one.remedy) for one, version in found]


def run_command(command: Sequence[str]) -> int:
    """Runs a command with this program's input and output, and returns its exit status. Raises ``OSError``."""
    return subprocess.run(command, check=False).returncode


def _print(line: str) -> None:
    print(line, flush=True)  # before what the command prints itself


def install(run: Run = run_command, say: Say = _print, software: Iterable[Software] = tuple(SOFTWARE.values())) -> int:
    """Installs what is missing, and says what it runs.

    What takes rights that this user cannot get is said, for root to run, and the rest is done. Returns 0, or the status of
    the last command that failed; 127 for one that was not run.
    """
    missing = [one for one in software if not one.is_here()]
    packages = [one.debian for one in missing if one.debian]
    modules = [one.name for one in missing if one.module]
    statuses = []
    if packages:
        statuses.append(_install_from_debian(packages, run, say))
    if modules:
        statuses.append(_run([sys.executable, *_PYPI, *modules], run, say))
    if not missing:
        say("all that netnet is compared with is here")
    return next((status for status in reversed(statuses) if status), 0)


def _install_from_debian(packages: Sequence[str], run: Run, say: Say) -> int:
    update, add = list(_DEBIAN[0]), [*_DEBIAN[1], *packages]
    if shutil.which(add[0]) is None:
        say(f"{add[0]} is not here; install these with the system's own packages: {' '.join(packages)}")
        return NOT_RUN
    prefix = _as_root()
    if prefix is None:
        say(f"these take rights; as root: {shlex.join(update)} && {shlex.join(add)}")
        return NOT_RUN
    _run([*prefix, *update], run, say)  # where that fails, the packages that are known may do
    status = _run([*prefix, *add], run, say)
    if not status:
        say(
            "Debian may run what it installs as services, which the bench does not need: systemctl list-units shows them"
        )
    return status


def _as_root() -> list[str] | None:
    """What goes before a command that takes root's rights; ``None`` where they cannot be had."""
    if os.geteuid() == 0:
        return []
    return None if shutil.which("sudo") is None else ["sudo"]


def _run(command: Sequence[str], run: Run, say: Say) -> int:
    say(shlex.join(command))
    try:
        status = run(command)
    except OSError as error:
        say(f"{command[0]} cannot be run: {error.strerror}")
        return NOT_RUN
    if status:
        say(f"{command[0]} ended with status {status}")
    return status


__all__ = ["NOT_RUN", "Row", "install", "run_command", "tell"]
