"""One question to the name servers, in turn, until one has an answer: UDP first, TCP where the answer is too long.

Every question has a socket of its own, connected, with a port of the kernel's choice and a random identity, so that an
answer has to come from the server's address, to that port, with that identity and that question (RFC 5452). What does not
is dropped, and the wait goes on. Runs in a task; who is asked for what and what is remembered is in ``dns``.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from netnet.errors import AddressError
from netnet.net.dns_conf import Conf, Server
from netnet.net.dns_wire import FORMERR, NOERROR, NOTIMP, Query, Question, Reply
from netnet.net.hosts import failure
from netnet.net.sockets import Socket
from netnet.runtime.scope import timeout

#: the longest message there is: over TCP its length has 16 bits, RFC 1035, section 4.2.2
MESSAGE_OCTETS_MAX: Final = 65535
#: reply codes of a server that may know the question, but not EDNS (RFC 6891, section 7)
_WITHOUT_EDNS: Final = (FORMERR, NOTIMP)


def exchange(question: Question, servers: Sequence[Server], conf: Conf) -> Reply:
    """The reply of the first of *servers* that has one, ``NOERROR`` or that the name does not exist.

    A server that refuses, or fails, is not asked for it again; one that is silent, or cannot be reached, once in each of
    the attempts. Switches tasks. Raises ``gaierror``: ``EAI_AGAIN`` when none has answered; ``Cancelled``.
    """
    left = dict.fromkeys(servers, "")
    told: dict[Server, str] = {}
    for _ in range(conf.attempts):
        for server in tuple(left):
            try:
                reply = _ask(question, server, conf)
            except socket.gaierror:  # the question cannot be asked, of nobody
                raise
            except (OSError, AddressError) as error:  # a scope is looked up when its address is used
                told[server] = getattr(error, "strerror", None) or str(error)
                continue
            if reply.code == NOERROR and not reply.truncated:
                return reply
            told[server] = f"refused with code {reply.code}" if reply.code else "gave an answer that cannot be read"
            del left[server]
    reasons = "; ".join(f"{server}: {why}" for server, why in told.items())
    raise failure(socket.EAI_AGAIN, str(question), f"no name server has answered ({reasons})")


def _ask(question: Question, server: Server, conf: Conf) -> Reply:
    """One try at one server. Raises ``OSError``, ``TimeoutError`` among them."""
    reply = _ask_in_form(question, server, conf, extended=True)
    if reply.code in _WITHOUT_EDNS:
        reply = _ask_in_form(question, server, conf, extended=False)
    return reply


def _ask_in_form(question: Question, server: Server, conf: Conf, *, extended: bool) -> Reply:
    query = Query(question, extended=extended)
    if not conf.use_tcp:
        with timeout(conf.timeout_seconds):
            reply = over_udp(query, server)
        if not reply.truncated:
            return reply
    with timeout(conf.timeout_seconds):
        return over_tcp(query, server)


def over_udp(query: Query, server: Server) -> Reply:
    """Sends the question and waits for its reply; whatever else comes is dropped."""
    with Socket(server.family, socket.SOCK_DGRAM) as sock:
        sock.connect(server.sockaddr)
        sock.send(query.wire)
        while True:
            reply = query.read(sock.recv(MESSAGE_OCTETS_MAX))
            if reply is not None:
                return reply


def over_tcp(query: Query, server: Server) -> Reply:
    """The same over a connection, with the length in front. What is no reply to the question is a truncated one."""
    with Socket(server.family, socket.SOCK_STREAM) as sock:
        sock.connect(server.sockaddr)
        sock.sendall(len(query.wire).to_bytes(2, "big") + query.wire)
        length = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
        reply = query.read(sock.recv(length, socket.MSG_WAITALL))
    return reply or Reply(NOERROR, truncated=True)
