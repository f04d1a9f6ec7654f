"""Echo with asyncio's protocols or streams, on asyncio's own loop or uvloop: ``protocol|streams asyncio|uvloop``."""

import asyncio
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main(kind: str) -> None:
    if kind == "protocol":
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=4096)
    else:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=4096)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if sys.argv[2] == "uvloop":
    import uvloop

    uvloop.run(main(sys.argv[1]))
else:
    asyncio.run(main(sys.argv[1]))
