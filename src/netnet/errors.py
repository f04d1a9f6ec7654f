"""Every error that netnet raises of its own, split by whose fault it is. Errors of the operating system stay the
built-in ones (``ConnectionRefusedError``, ``TimeoutError``, ``BlockingIOError``, ``BrokenPipeError`` ...).

::

    BaseException
    └── Cancelled                  the scope around this code was cancelled: clean up and let it pass
    Exception
    └── Error                      all below
        ├── UsageError             the call does not fit here (no loop running, wrong thread, twice); also RuntimeError
        │   └── BusyError          two of your tasks read, or two write, one stream at the same time
        ├── DeadlockError          every task waits for another one, for good; also RuntimeError
        ├── ClosedError            you closed it, in this task or another one; also OSError with EBADF
        ├── TaskCancelledError     ``result()`` of a task that was cancelled has nothing to give; also RuntimeError
        ├── ThreadError            an OS thread cannot be started, or this run forbids it; also RuntimeError
        ├── ChannelClosedError     nothing more goes through this channel; also EOFError
        ├── IncompleteError        the stream ended before all was there; ``partial`` is what came; also EOFError
        ├── OptionError            no such option or flag here, or it cannot be read or written; also AttributeError
        ├── AddressError           an address could not be read; also ValueError
        ├── ProxyError             (netnet.socks) a proxy on the way failed or said no; also OSError, of a fitting class
        └── ProtocolError          the peer broke the protocol; also ValueError
            └── LimitError         the peer sent more than the limit before it came to an end
"""

from __future__ import annotations

import errno


class Cancelled(BaseException):
    """The scope around this code was cancelled.

    Raised by every further blocking call until the code leaves the scope. Catch it only to clean up, then let it pass.
    A ``BaseException``, so that ``except Exception`` does not swallow it.
    """


class Error(Exception):
    """The root of netnet's own errors."""


class UsageError(Error, RuntimeError):
    """A call that does not fit where it was made; the message says what to do instead."""


class BusyError(UsageError):
    """A second task wants to read (or write) a stream that another task is already reading (or writing)."""


class DeadlockError(Error, RuntimeError):
    """Every task is parked and nothing is left that could wake one. The message names each and what it waits for."""


class ClosedError(Error, OSError):
    """The socket was closed, before the call or while it waited. ``errno`` is ``EBADF``."""

    def __init__(self, message: str = "the socket is closed") -> None:
        super().__init__(errno.EBADF, message)


class TaskCancelledError(Error, RuntimeError):
    """The task was cancelled before it had a result."""


class ThreadError(Error, RuntimeError):
    """An OS thread cannot be started, because the system refuses or because the run was started without threads."""


class ChannelClosedError(Error, EOFError):
    """The channel is closed: nothing can be sent any more, and everything that was sent has been received.

    ``channel`` is the one.
    """

    def __init__(self, message: str, channel: object = None) -> None:
        super().__init__(message)
        self.channel = channel


class IncompleteError(Error, EOFError):
    """The stream ended too early. ``partial`` is what came before the end, ``expected`` how many bytes were asked for
    (``None`` where a separator was)."""

    def __init__(self, partial: bytes, expected: int | None, message: str) -> None:
        super().__init__(message)
        self.partial = partial
        self.expected = expected


class OptionError(Error, AttributeError):
    """A socket option or a flag that this system does not have, or that can only be read, or only be set."""


class AddressError(Error, ValueError):
    """An address that cannot be read; the message shows it and the forms that are understood."""


class ProtocolError(Error, ValueError):
    """The peer sent what its protocol does not allow; the message says what and where."""


class LimitError(ProtocolError):
    """More came than the limit allows before the end that was looked for. It is still there to be read."""
