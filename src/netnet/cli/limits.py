"""How many descriptors the process may have, and so how many connections a proxy can hold."""

from __future__ import annotations

#: a proxied connection has two sockets; while it moves bulk, it may have a pipe each way for a moment
DESCRIPTORS_A_CONNECTION = 2

#: kept back for the listener, the poller, the logs and the splice pipes
DESCRIPTORS_SPARE = 640


def raise_descriptor_limit() -> int:
    """Raises the soft limit to the hard one (see getrlimit(2)); returns what is allowed now."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(soft, hard)


def connections_max(descriptors: int) -> int:
    """How many connections a proxy can have at once with so many descriptors."""
    spare = min(DESCRIPTORS_SPARE, descriptors // 4)
    return max(1, (descriptors - spare) // DESCRIPTORS_A_CONNECTION)
