"""Compiles the bench's C programs, once for each version of their sources, into a folder of the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from netnet.errors import UsageError

SOURCES = Path(__file__).parent / "programs"

FLAGS = ("-O2", "-Wall", "-Wextra", "-Wno-unused-function")


def program(name: str) -> Path:
    """The path of the compiled program *name* (``load``, ``echo``, ``relay``). Raises ``UsageError`` without a compiler."""
    sources = [SOURCES / f"{name}.c", SOURCES / "common.h"]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    built = _cache() / f"{name}-{digest}"
    if not built.exists():
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise UsageError("the bench needs a C compiler (cc) for its load generator; install one or set CC")
        unfinished = built.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [compiler, *FLAGS, "-o", str(unfinished), str(sources[0])], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UsageError(f"{compiler} could not compile {sources[0].name}:\n{done.stderr}")
        unfinished.replace(built)
    return built


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netnet-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
