"""SOCKS: the protocol without I/O, and the proxy."""

from netnet.socks.limits import Limits, connections_max
from netnet.socks.protocol import Command, Reply, Request, Socks4Server
from netnet.socks.server import Server, Session

__all__ = ["Command", "Limits", "Reply", "Request", "Server", "Session", "Socks4Server", "connections_max"]
