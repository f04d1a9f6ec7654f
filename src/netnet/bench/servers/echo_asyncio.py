"""Echo with asyncio's protocols or streams, on asyncio's own loop or uvloop: ``protocol|streams asyncio|uvloop``.

On asyncio's own loop the protocol is one with a buffer of its own, its documentation's choice for speed. On uvloop it is the
plain one, as in uvloop's documentation. How much the plain one and the streams receive at once the loops choose: up to
256 KB.
"""

import asyncio
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


#: one for all connections: what it holds is taken out as soon as it has come
BUFFER = memoryview(bytearray(65536))


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(BUFFER[:nbytes]))  # a copy: the transport may keep it until it can be sent


#: by loop
PROTOCOLS = {"asyncio": BufferedEcho, "uvloop": Echo}


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main(kind: str, loop: str) -> None:
    if kind == "protocol":
        server = await asyncio.get_running_loop().create_server(PROTOCOLS[loop], "127.0.0.1", 0, backlog=4096)
    else:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=4096)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if sys.argv[2] == "uvloop":
    import uvloop

    uvloop.run(main(*sys.argv[1:]))
else:
    asyncio.run(main(*sys.argv[1:]))
