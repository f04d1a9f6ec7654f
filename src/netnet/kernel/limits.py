"""How many descriptors the process may have. See getrlimit(2)."""

from __future__ import annotations

#: what counts as the limit where there is none
UNLIMITED = 1 << 20


def raise_descriptor_limit() -> int:
    """Raises the soft limit to the hard one; returns what is allowed now."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return UNLIMITED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
