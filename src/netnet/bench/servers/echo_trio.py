"""Echo with trio: a task a connection, by ``serve_tcp``, with the options that its streams set themselves."""

import contextlib
from functools import partial

import trio


async def echo(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # what a handler raises ends the server
        while data := await stream.receive_some(65536):
            await stream.send_all(data)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, echo, 0, host="127.0.0.1", backlog=4096)
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        print("port", listeners[0].socket.getsockname()[1], flush=True)


trio.run(main)
