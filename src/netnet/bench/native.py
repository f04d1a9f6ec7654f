"""Compiles the bench's C and Go programs, once for each version of their sources, into a folder of the user's cache.

C needs a compiler, ``$CC`` or the system's. Go is asked for its own version too, since that is what it compiles in; it
works offline, with its own caches in the same folder. Nothing is run here but the compilers.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from netnet.bench import peers
from netnet.errors import UsageError

SOURCES = Path(__file__).parent / "programs"

FLAGS = ("-O2", "-Wall", "-Wextra", "-Wno-unused-function")


def program(name: str) -> Path:
    """The path of the compiled C program *name* (``load``, ``echo``, ``relay``).

    Raises ``UsageError`` without a compiler, or where the program or its folder cannot be made.
    """
    source = SOURCES / f"{name}.c"
    built = _cache() / f"{name}-{_digest(source, *sorted(SOURCES.glob('*.h')))}"
    if not built.exists():
        _compile([_c_compiler(), *FLAGS, "-o"], source, built)
    return built


def go_program(name: str) -> Path:
    """The path of the compiled Go program *name* (``echo``). Raises ``UsageError`` as ``program`` does."""
    source = SOURCES / f"{name}.go"
    go = peers.SOFTWARE["go"].path()
    if go is None:
        raise UsageError(f"the bench needs Go for its {source.name}; install it: {peers.SOFTWARE['go'].remedy}")
    built = _cache() / f"go-{name}-{_digest(source, more=_go_version(go))}"
    if not built.exists():
        _compile([go, "build", "-o"], source, built, _go_environment())
    return built


def _c_compiler() -> str:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise UsageError("the bench needs a C compiler (cc) for its load generator; install one or set CC")
    return compiler


@functools.cache
def _go_version(go: str) -> bytes:
    return _run([go, "version"], _go_environment()).stdout.encode()


def _go_environment() -> dict[str, str]:
    """One in which Go uses nothing but what is here, whatever the user has set for projects of their own."""
    folder = _cache()
    return {
        **os.environ,
        "GOCACHE": str(folder / "go-cache"),
        "GOPATH": str(folder / "go-path"),
        "GOENV": "off",
        "GOOS": "",
        "GOARCH": "",
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


def _digest(*sources: Path, more: bytes = b"") -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources) + more).hexdigest()[:16]


def _compile(command: Sequence[str], source: Path, built: Path, environment: Mapping[str, str] | None = None) -> None:
    """Makes *built*, whole or not at all; several processes may do so at once. Raises ``UsageError``."""
    unfinished = built.with_suffix(f".{os.getpid()}")
    done = _run([*command, str(unfinished), str(source)], environment)
    if done.returncode:
        raise UsageError(f"{command[0]} could not compile {source.name}:\n{done.stderr}")
    unfinished.replace(built)


def _run(command: Sequence[str], environment: Mapping[str, str] | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, env=environment, cwd=SOURCES, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}; install it again, or set CC") from None


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netnet-bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}; XDG_CACHE_HOME chooses another place") from None
    return folder


__all__ = ["go_program", "program"]
