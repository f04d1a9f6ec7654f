"""SOCKS: the protocol without I/O, and the proxy."""

from netnet.socks.protocol import Command, Reply, Request, Socks4Server
from netnet.socks.server import Limits, Server, Session

__all__ = ["Command", "Limits", "Reply", "Request", "Server", "Session", "Socks4Server"]
