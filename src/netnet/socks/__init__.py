"""SOCKS: the protocols without I/O, the proxy, and the client."""

from netnet.socks.handshake import ClientHandshake, LoginRefusedError, Reply, ServerHandshake
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.rules import Route, Rule, Rules
from netnet.socks.server import Server
from netnet.socks.session import Ending, Session
from netnet.socks.settings import Authentication, Entrance, Limits, Settings, User, connections_max
from netnet.socks.socks5 import Login

__all__ = [
    "Authentication",
    "ClientHandshake",
    "Command",
    "Ending",
    "Entrance",
    "Limits",
    "Login",
    "LoginRefusedError",
    "Outcome",
    "Reply",
    "Request",
    "Route",
    "Rule",
    "Rules",
    "Server",
    "ServerHandshake",
    "Session",
    "Settings",
    "User",
    "connections_max",
]
