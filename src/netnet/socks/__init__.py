"""SOCKS: the protocols without I/O, the proxy, and the client. More of the client is in ``netnet.socks.client``."""

from netnet.socks.asking import ProxyError
from netnet.socks.client import Dialer, connect
from netnet.socks.handshake import ClientHandshake, LoginRefusedError, Reply, ServerHandshake
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.rules import Route, Rule, Rules
from netnet.socks.server import Server
from netnet.socks.session import Ending, Session
from netnet.socks.settings import Authentication, Entrance, Limits, Settings, User, connections_max
from netnet.socks.socks5 import Login
from netnet.socks.upstream import Proxy, parse_proxy

__all__ = [
    "Authentication",
    "ClientHandshake",
    "Command",
    "Dialer",
    "Ending",
    "Entrance",
    "Limits",
    "Login",
    "LoginRefusedError",
    "Outcome",
    "Proxy",
    "ProxyError",
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
    "connect",
    "connections_max",
    "parse_proxy",
]
