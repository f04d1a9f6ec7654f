"""Relays each connection to one port, with netnet."""

import sys

import netnet

target = ("127.0.0.1", int(sys.argv[1]))


def handle(conn: netnet.Socket) -> None:
    netnet.relay(conn, netnet.connect(target))


def main() -> None:
    with netnet.listen("127.0.0.1:0") as listener:
        print("port", listener.getsockname()[1], flush=True)
        netnet.serve(listener, handle)


netnet.run(main)
