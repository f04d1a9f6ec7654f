"""Echo with gevent: a greenlet a connection, by its own server class."""

import socket
from typing import Any

from gevent.server import StreamServer


def echo(conn: Any, _address: Any) -> None:
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := conn.recv(65536):
        conn.sendall(data)


server = StreamServer(("127.0.0.1", 0), echo, backlog=4096)
server.init_socket()
print("port", server.server_port, flush=True)
server.serve_forever()
