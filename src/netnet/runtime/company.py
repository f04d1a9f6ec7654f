"""Which OS threads the process has besides the calling one and netnet's own helpers.

A loop whose tasks all wait for each other is dead, unless another thread may still wake one. So a thread that only waits
for work from a loop, or watches it, is entered here and does not count.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from threading import get_ident
from typing import Final

#: the threads that netnet has started itself and that wake nobody: those with nothing to do, and watchers
helpers: set[threading.Thread] = set()


#: calls that were handed to a helper which has not begun with them yet
handed: set[object] = set()

#: a thread that was started so long ago is known to the interpreter
YOUNG_SECONDS: Final = 0.05


def strangers() -> bool:
    """Whether there are OS threads that the interpreter does not know: of C libraries, or only just started."""
    try:
        return len(os.listdir("/proc/self/task")) > 1 + sum(thread.is_alive() for thread in tuple(helpers))
    except OSError:  # not Linux: perhaps
        return True


def others_alive() -> bool:
    """Whether there is a thread that runs Python code and is neither the calling one nor one of netnet's own.

    Asked of the interpreter, since ``threading`` does not know all of them, and remembers some that have ended. One that
    was only just started has no frame yet, but is counted.
    """
    if handed:
        return True
    idle = {thread.ident for thread in tuple(helpers) if thread.is_alive()}  # numbers of dead ones are used again
    if any(ident != get_ident() and ident not in idle for ident in sys._current_frames()):
        return True
    return _thread._count() > len(idle) + (get_ident() != threading.main_thread().ident)
