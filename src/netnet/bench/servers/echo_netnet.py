"""Echo with netnet: one green thread a connection."""

import netnet


def echo(conn: netnet.Socket) -> None:
    while data := conn.recv(65536):
        conn.sendall(data)


def main() -> None:
    with netnet.listen("127.0.0.1:0") as listener:
        print("port", listener.getsockname()[1], flush=True)
        netnet.serve(listener, echo)


netnet.run(main)
