"""The software that netnet is compared with: whether it is here, in which version, and how to get it. It starts nothing but
the programs' own version commands.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from netnet.bench.figures import has

#: where system programs are that are not on everybody's path
_SYSTEM_PATHS = "/usr/sbin:/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Software:
    """A package that PyPI has (*module* is what it is imported as), or a program, by its name and Debian's package."""

    name: str
    module: str = ""
    program: str = ""
    debian: str = ""
    #: what makes the program tell its version; it may end with any status
    version_arguments: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """The command that installs it."""
        return f"pip install {self.name}" if self.module else f"apt install {self.debian}"

    def path(self) -> str | None:
        """Where the program is; ``None`` where it is not."""
        return shutil.which(self.program) or shutil.which(self.program, path=_SYSTEM_PATHS)

    def is_here(self) -> bool:
        """Whether it is installed."""
        return has(self.module) if self.module else self.path() is not None

    def version(self) -> str | None:
        """Its version; ``?`` where it does not tell, ``None`` where it is not here."""
        if not self.is_here():
            return None
        if self.module:
            return package_versions([self.name])[self.name] or "?"
        return self._told() or _of_debian(self.debian) or "?"

    def _told(self) -> str | None:
        if not self.version_arguments:
            return None
        try:
            done = subprocess.run(
                [str(self.path()), *self.version_arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = re.search(r"\d+(\.\d+)+\w*", done.stdout + done.stderr)
        return found.group() if found else None


def _of_debian(package: str) -> str | None:
    """The version of an installed Debian package."""
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


SOFTWARE = {
    one.name: one
    for one in (
        Software("gevent", module="gevent"),
        Software("eventlet", module="eventlet"),
        Software("trio", module="trio"),
        Software("uvloop", module="uvloop"),
        Software("pproxy", module="pproxy"),
        Software("go", program="go", debian="golang-go", version_arguments=("version",)),
        Software("microsocks", program="microsocks", debian="microsocks"),
        Software("dante", program="danted", debian="dante-server", version_arguments=("-v",)),
        Software("ssh", program="ssh", debian="openssh-client", version_arguments=("-V",)),
        Software("sshd", program="sshd", debian="openssh-server", version_arguments=("-V",)),
    )
}


def lacking(names: Iterable[str]) -> str | None:
    """The command, or commands, that would install those of *names* that are not here; ``None`` when all are."""
    missing = [SOFTWARE[name] for name in names if not SOFTWARE[name].is_here()]
    modules = [one.name for one in missing if one.module]
    packages = [one.debian for one in missing if one.debian]
    commands = [f"pip install {' '.join(modules)}"] * bool(modules) + [f"apt install {' '.join(packages)}"] * bool(
        packages
    )
    return " && ".join(commands) or None


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """The versions of Python packages; ``None`` for one that is not here."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def versions() -> dict[str, str]:
    """The versions of all that is here."""
    told = {name: one.version() for name, one in SOFTWARE.items()}
    return {name: version for name, version in told.items() if version is not None}


__all__ = ["SOFTWARE", "Software", "lacking", "package_versions", "versions"]
