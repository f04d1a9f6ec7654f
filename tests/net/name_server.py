"""Name servers for tests: one that answers from a script, in the running loop, and the zones that it may answer from."""

from __future__ import annotations

import contextlib
import errno
import socket

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

import netnet
from netnet.net.dns import DnsResolver

SOA = "ns.test. admin.test. 1 3600 600 86400 {minimum}"
PORTS_TRIED_MAX = 50


def answer(query, *records, rcode="NOERROR", soa=None, soa_ttl=3600):
    """A reply to *query*; records are ``(name, ttl, type, value...)``. *soa*: the minimum of an SOA record."""
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.from_text(rcode))
    for name, ttl, kind, *values in records:
        reply.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *values))
    if soa is not None:
        reply.authority.append(dns.rrset.from_text("test.", soa_ttl, "IN", "SOA", SOA.format(minimum=soa)))
    return reply


def zone(table, minimum=60):
    """Answers from *table*, ``(name, type)`` → ``(ttl, value...)``; follows no alias. What is not there does not exist."""
    names = {name for name, _ in table}

    def reply(query, over):
        name, kind = asked(query)
        for found in (kind, "CNAME"):
            if (name, found) in table:
                ttl, *values = table[name, found]
                return answer(query, (name, ttl, found, *values))
        return answer(query, rcode="NOERROR" if name in names else "NXDOMAIN", soa=minimum)

    return reply


def asked(query):
    """The name and the type that a query asks for."""
    (question,) = query.question
    return str(question.name).rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)


class NameServer:
    """Answers by *script*, ``(query, "udp" or "tcp")`` → a message, bytes, a list of these, or ``None``: silence.

    ``asked`` tells all questions so far: name, type, how; ``peers`` who asked by datagrams.
    """

    def __init__(self, script):
        self.script = script
        self.asked = []
        self.peers = []
        self.udp, self.tcp = _both()
        self.address = "{}:{}".format(*self.tcp.getsockname())

    @property
    def names(self):
        return [name for name, *_ in self.asked]

    def _replies(self, wire, over):
        query = dns.message.from_wire(wire)
        self.asked.append((*asked(query), over))
        replies = self.script(query, over)
        if replies is None:
            return []
        several = replies if isinstance(replies, list) else [replies]
        return [reply if isinstance(reply, bytes) else reply.to_wire(max_size=65535) for reply in several]

    def serve_udp(self):
        while True:
            wire, peer = self.udp.recvfrom(65535)
            netnet.spawn(self._answer_udp, wire, peer)

    def _answer_udp(self, wire, peer):
        self.peers.append(peer)
        for reply in self._replies(wire, "udp"):
            self.udp.sendto(reply, peer)

    def serve_tcp(self):
        while True:
            conn, _ = self.tcp.accept()
            with conn:
                length = int.from_bytes(conn.recv(2, socket.MSG_WAITALL), "big")
                for reply in self._replies(conn.recv(length, socket.MSG_WAITALL), "tcp"):
                    conn.sendall(len(reply).to_bytes(2, "big") + reply)


def _both():
    """A datagram and a listening socket on one port."""
    for _ in range(PORTS_TRIED_MAX):
        tcp = netnet.listen("127.0.0.1:0")
        udp = netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError as error:
            udp.close()
            tcp.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return udp, tcp
    raise AssertionError("no port that is free for both")


@contextlib.contextmanager
def name_server(script, over_tcp=True):
    """A ``NameServer`` that serves for the lines of the statement."""
    server = NameServer(script)
    if not over_tcp:
        server.tcp.close()
    with server.udp, server.tcp:
        tasks = [netnet.spawn(serve) for serve in [server.serve_udp, *([server.serve_tcp] if over_tcp else [])]]
        try:
            yield server
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                task.join()


def resolver_of(*servers, conf=None, hosts=None, **options):
    """A resolver that asks these servers, and looks into no file that it is not told."""
    addresses = [server if isinstance(server, str) else server.address for server in servers] or None
    return DnsResolver(nameservers=addresses, hosts=hosts, resolv_conf=conf, look_seconds=0, **options)


def addresses(found):
    """The addresses in what ``getaddrinfo`` has found."""
    return [entry[4][0] for entry in found]
