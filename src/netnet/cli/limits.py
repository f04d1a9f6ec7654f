"""How many descriptors the process may have, and so how many connections a proxy can hold."""

from __future__ import annotations

#: what counts as the limit where there is none
UNLIMITED = 1 << 20

#: a proxied connection has two sockets; while it moves bulk, it may have a pipe each way for a moment
DESCRIPTORS_A_CONNECTION = 2

#: kept back for the listener, the poller, the logs and the splice pipes
DESCRIPTORS_SPARE = 640


def raise_descriptor_limit() -> int:
    """Raises the soft limit to the hard one (see getrlimit(2)); returns what is allowed now."""
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


def connections_max(descriptors: int) -> int:
    """How many connections a proxy can have at once with so many descriptors."""
    spare = min(DESCRIPTORS_SPARE, descriptors // 4)
    return max(1, (descriptors - spare) // DESCRIPTORS_A_CONNECTION)
