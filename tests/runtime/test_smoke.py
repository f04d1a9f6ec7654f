"""The few lines that everything else rests on, on every poller."""

from __future__ import annotations

import netnet


def test_echo(backend, run):
    def echo(conn):
        with conn:
            for chunk in conn:
                conn.sendall(chunk)

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            server = netnet.spawn(netnet.serve, listener, echo)
            with netnet.connect(listener.getsockname()) as conn:
                for size in (1, 1000, 300_000):
                    conn.sendall(b"x" * size)
                    got = 0
                    while got < size:
                        got += len(conn.recv(65536))
                conn.shutdown(1)
                assert conn.recv(1) == b""
            server.cancel()

    run(main)
