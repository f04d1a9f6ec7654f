"""Connections for the tests of figures, without a network."""

from __future__ import annotations

from netnet.net.serving import ServerStatistics
from netnet.socks.requests import Command, Request
from netnet.socks.session import Ending, Session


class MovingRelay:
    """As much of a relay as a session asks for."""

    def __init__(self, sent=0, received=0):
        self.sent = sent
        self.received = received


def open_session(sent=0, received=0, *, user=None, began=1.0, client="192.0.2.1:99", host="example.com"):
    request = Request(Command.CONNECT, host, 443)
    relay = MovingRelay(sent, received)
    return Session(client, began, protocol="socks5", user=user, request=request, relay=relay)


def end(session, ending=Ending.CLOSED, *, ended=2.5, rule=""):
    """As the server does it."""
    relay, session.relay = session.relay, None
    if relay is not None:
        session.sent += relay.sent
        session.received += relay.received
    session.rule = rule
    session.ended = ended
    session.ending = ending
    return session


def ended_session(ending=Ending.CLOSED, sent=0, received=0, *, rule="", ended=2.5, **more):
    return end(open_session(sent, received, **more), ending, rule=rule, ended=ended)


class WatchedServer:
    """As much of a server as is watched."""

    def __init__(self, *sessions, draining=False):
        self.sessions = set(sessions)
        self.statistics = ServerStatistics()
        self.draining = draining

    def end(self, session, ending=Ending.CLOSED):
        self.sessions.discard(session)
        return end(session, ending)
