"""Echo with eventlet: a green thread a connection, by its own ``serve``, on the hub that it calls its fastest on Linux."""

import contextlib
import socket
from typing import Any

import eventlet
import eventlet.hubs

#: connections that are served at once; the pool makes nothing in advance
CONCURRENCY = 1_000_000


def echo(conn: Any, _address: Any) -> None:
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(ConnectionError):  # what a handler raises ends the server
        while data := conn.recv(65536):
            conn.sendall(data)


eventlet.hubs.use_hub("epolls")
listener = eventlet.listen(("127.0.0.1", 0), backlog=4096)
print("port", listener.getsockname()[1], flush=True)
eventlet.serve(listener, echo, concurrency=CONCURRENCY)
