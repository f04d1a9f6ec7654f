"""Which OS threads the process has besides the calling one and netnet's own helpers.

A loop whose tasks all wait for each other is dead, unless another thread may still wake one. So a thread that only
works for a loop, or watches it, is entered here and does not count.
"""

from __future__ import annotations

import threading

#: the threads that netnet has started itself
helpers: set[threading.Thread] = set()


def others_alive() -> bool:
    """Whether there is a thread that is neither the calling one nor one of netnet's own."""
    return threading.active_count() > 1 and any(
        thread not in helpers and thread is not threading.current_thread() for thread in threading.enumerate()
    )
