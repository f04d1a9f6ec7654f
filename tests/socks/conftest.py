"""The proxy in the running loop, with a target that echoes."""

from __future__ import annotations

import contextlib

import pytest

import netnet
from netnet.socks import Limits, Server, Settings
from tests.socks.wire import request


class Proxy:
    """A server under test, and the sessions it has reported.

    Its options are those of ``Server``, and beside them *limits*, *users* and *rules* for its settings, and *entrance*
    for its only listener.
    """

    def __init__(self, listener, options):
        self.address = listener.getsockname()
        self.sessions = []
        self._news = netnet.Event()
        parts = {name: options.pop(name) for name in ("limits", "users", "rules") if name in options}
        settings = options.pop("settings", None) or Settings(**{"limits": Limits(), **parts})
        if "entrance" in options:
            options["entrances"] = (options.pop("entrance"),)
        self.server = Server(settings, report=self._take, **options)

    def _take(self, session):
        self.sessions.append(session)
        self._news.set()

    def ended(self, count=1):
        """Waits until so many sessions have been reported; returns the last one."""
        while len(self.sessions) < count:
            self._news.clear()
            self._news.wait()
        assert len(self.sessions) == count
        assert not [session for session in self.sessions if session.relay is not None]  # it would be counted twice
        return self.sessions[-1]

    def wait_empty(self):
        """Waits until no connection is left."""
        while self.server.active:
            self._news.clear()
            self._news.wait()

    def client(self, data=b"", source=None):
        """A client that has sent *data*."""
        client = netnet.connect(self.address, source=source)
        client.sendall(data)
        return client

    def to(self, target, **fields):
        """A client that asks for *target*, a listener."""
        return self.client(request(*target.getsockname(), **fields))


@pytest.fixture
def proxy():
    """``with proxy(**options) as p``: a proxy for the lines of the statement; no connection may be left at the end."""

    @contextlib.contextmanager
    def serving(**options):
        with netnet.listen("127.0.0.1:0") as listener:
            made = Proxy(listener, options)
            task = made.task = netnet.spawn(made.server.serve, listener)
            try:
                yield made
            finally:
                task.cancel()
            task.join()
            made.wait_empty()

    return serving


@contextlib.contextmanager
def echoing(address="127.0.0.1:0"):
    """A listener whose connections get back what they send."""

    def echo(conn):
        for chunk in conn:
            conn.sendall(chunk)

    with netnet.listen(address) as listener:
        task = netnet.spawn(netnet.serve, listener, echo)
        try:
            yield listener
        finally:
            task.cancel()
