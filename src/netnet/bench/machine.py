"""The machine and the versions that figures hang on. Nothing that names the machine or its user."""

from __future__ import annotations

import os
import platform
import re
import sysconfig
from pathlib import Path

from netnet.bench import peers

#: what is part of netnet itself
_OWN = ("greenlet",)


def environment() -> str:
    """The machine and the versions that the history compares by, in one line."""
    told = peers.package_versions((*_OWN, "gevent", "uvloop"))
    packages = ", ".join(f"{name} {version}" if version else f"no {name}" for name, version in told.items())
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {_release()}, "
        f"{platform.machine()}, {os.cpu_count()} processors; {packages}"
    )


def description() -> dict[str, str]:
    """The same in parts, with more of each, for a report."""
    return {
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {_release()}, {platform.machine()}",
        "virtual": _virtual(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {_build()}",
        "C library": " ".join(platform.libc_ver()).strip() or "unknown",
    }


def _release() -> str:
    """The kernel's version, without what its builder has added."""
    found = re.match(r"\d+\.\d+", platform.release())
    return found.group() if found else "unknown"


def _build() -> str:
    """How the interpreter was built, as far as it matters for its speed."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    optimised = "profile-guided optimisation" if "--enable-optimizations" in arguments else "no optimisation by profile"
    return f"{optimised}, {'a shared library' if sysconfig.get_config_var('Py_ENABLE_SHARED') else 'one binary'}"


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _virtual() -> str:
    return "a virtual machine" if re.search(r"^flags\s*:.*\bhypervisor\b", _cpuinfo(), re.MULTILINE) else "not told"


__all__ = ["description", "environment"]
