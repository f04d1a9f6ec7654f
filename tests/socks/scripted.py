"""Proxies that follow a script. What they expect and answer is written down here from the RFCs and memos, byte by byte, and
not made by the code under test.
"""

from __future__ import annotations

import contextlib
import socket
import struct

import netnet

FIRST_DATA = b"220 what the target says first\r\n"

IPV4 = "192.0.2.7"
IPV6 = "2001:db8::7"
NAME = "target.test"


def packed(host):
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def at(port):
    return struct.pack(">H", port)


GREETING = b"\5\1\0"
GREETING_LOGIN = b"\5\2\0\2"
GRANTED4 = b"\0\x5a\x1f\x90" + packed("198.51.100.1")
GRANTED5 = b"\5\0\0\1" + packed("198.51.100.1") + at(8080)
GRANTED5_IPV6 = b"\5\0\0\4" + packed("2001:db8::1") + at(8080)
GRANTED5_NAME = b"\5\0\0\3\x09gate.test" + at(8080)
GRANTED5_NO_NAME = b"\5\0\0\3\0" + at(0)
GRANTED_HTTP = b"HTTP/1.1 200 Connection established\r\n\r\n"
GRANTED_HTTP_LONG = b"HTTP/1.0 200 OK\r\nServer: squid\r\nVia: 1.1 a\r\n\r\n"

NAME4A = b"\4\1\0\x50\0\0\0\1\0" + NAME.encode() + b"\0"
NAME5 = b"\5\1\0\3\x0b" + NAME.encode() + at(80)
IPV4_5 = b"\5\1\0\1" + packed(IPV4) + at(80)
IPV6_5 = b"\5\1\0\4" + packed(IPV6) + at(80)


def http(target, login=b""):
    return b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (target, target, login)


HTTP_NAME = http(NAME.encode() + b":80")

NAMES = {"known.test": [IPV4], "two.test": [IPV4, "192.0.2.8"], "mixed.test": [IPV6, IPV4], "gate.test": ["127.0.0.1"]}


def known_names():
    """For some lines: the names above, and nobody else is asked."""
    return netnet.use_resolver(netnet.HostTable(NAMES))


def read_exactly(conn, count):
    data = b""
    while len(data) < count and (chunk := conn.recv(count - len(data))):
        data += chunk
    return data


def send_whole(conn, data):
    conn.sendall(data)


def send_bytewise(conn, data):
    for byte in data:
        conn.sendall(bytes([byte]))
        for _ in range(3):  # the client reads it before the next one goes
            netnet.sleep(0)


class Peer:
    """A proxy that follows a script, one connection at a time: what it has ``heard``, how many connections have ended."""

    def __init__(self, listener):
        self.address = str(listener.local_address)
        self.heard = []
        self.ended = 0
        self.news = netnet.Event()

    def url(self, scheme="socks5h://@"):
        return scheme.replace("@", self.address, 1) if scheme.endswith("//@") else scheme + self.address

    def wait_ended(self, count=1):
        while self.ended < count:
            self.news.clear()
            self.news.wait()


@contextlib.contextmanager
def peer(script):
    """*script(conn, peer)* is what happens on each connection."""
    with netnet.listen("127.0.0.1:0") as listener:
        made = Peer(listener)

        def serve():
            while True:
                conn, _ = listener.accept()
                with conn:
                    with contextlib.suppress(ConnectionError):
                        script(conn, made)
                made.ended += 1
                made.news.set()

        task = netnet.spawn(serve)
        try:
            yield made
        finally:
            task.cancel()
            task.join()
        with contextlib.suppress(netnet.TaskCancelledError):
            task.result()


def answering(conn, made, exchanges, send=send_whole, then=b""):
    """Hears each question and answers it, with *then* behind the last answer; returns whether all were as expected."""
    last = len(exchanges) - 1
    for number, (question, answer) in enumerate(exchanges):
        made.heard.append(read_exactly(conn, len(question)))
        if made.heard[-1] != question:
            return False
        send(conn, answer + (then if number == last else b""))
    return True


def following(exchanges, send=send_whole, then=b""):
    """A script: what ``answering`` does, and echoes."""

    def script(conn, made):
        if answering(conn, made, exchanges, send, then):
            for chunk in conn:
                conn.sendall(chunk)

    return script


def questions(exchanges):
    return [question for question, _ in exchanges]
