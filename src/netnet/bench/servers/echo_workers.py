"""Echo with netnet in so many worker processes: the same handler as ``echo_netnet``."""

import sys

import netnet


def echo(conn: netnet.Socket) -> None:
    while data := conn.recv(65536):
        conn.sendall(data)


def main() -> None:
    with netnet.listen("127.0.0.1:0") as listener:
        print("port", listener.getsockname()[1], flush=True)
        netnet.serve(listener, echo, workers=int(sys.argv[1]))


netnet.run(main)
