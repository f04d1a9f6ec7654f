"""Which OS threads the process has besides the calling one and netnet's own helpers.

A loop whose tasks all wait for each other is dead, unless another thread may still wake one. So a thread that only waits
for work from a loop, or watches it, is entered here and does not count.
"""

from __future__ import annotations

import _thread
import sys
import threading
from threading import get_ident

#: the threads that netnet has started itself and that wake nobody: those with nothing to do, and watchers
helpers: set[threading.Thread] = set()


def others_alive() -> bool:
    """Whether there is a thread that runs Python code and is neither the calling one nor one of netnet's own.

    Asked of the interpreter, since ``threading`` does not know all of them, and remembers some that have ended. One that
    was only just started has no frame yet, but is counted.
    """
    idle = {thread.ident for thread in tuple(helpers)}
    if any(ident != get_ident() and ident not in idle for ident in sys._current_frames()):
        return True
    return _thread._count() > len(idle) + (get_ident() != threading.main_thread().ident)
