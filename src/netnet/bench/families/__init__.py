"""What is measured. Each family runs its peers in turn and returns tables of figures.

echo        CPU of the server for one 64-byte round trip, µs
relay       CPU of the relay for one gigabyte, one way, s
handshake   CPU of the proxy for connect + request + one byte echoed + close, 50 at a time, µs
proxybulk   CPU of the proxy for one gigabyte through it, one way, s
latency     wall time that the proxy adds to a 64-byte round trip, quiet and with 100 others busy, µs
idle        memory of the proxy for one idle proxied connection, kB
hold        many proxied connections at once in one worker, traffic on some of them: how many live
proxystart  wall time from exec of the proxy to its first connection, ms
proxyworkers  SOCKS5 handshakes with two workers of the proxy instead of one, a second
tasks       CPU to spawn and join a task, and for two tasks to take turns, µs; memory of a sleeping task, kB
timeout     CPU that a time-out adds to a receive, µs, and as a share of an echo's round trip
channel     CPU to hand an item from one task to another, µs
import      wall time that ``import netnet`` adds to an empty program, ms
workers     echo with two worker processes instead of one, round trips a second
"""

from netnet.bench.families import channel, echo, latency, proxy, relay, start, tasks, timeout, workers
from netnet.bench.figures import Family

FAMILIES: dict[str, Family] = {
    "echo": echo.echo,
    "relay": relay.relay,
    "handshake": proxy.handshake,
    "proxybulk": proxy.bulk,
    "latency": latency.latency,
    "idle": proxy.idle,
    "hold": proxy.hold,
    "proxystart": proxy.start,
    "proxyworkers": workers.proxy_workers,
    "tasks": tasks.tasks,
    "timeout": timeout.timeout,
    "channel": channel.channel,
    "import": start.importing,
    "workers": workers.workers,
}

__all__ = ["FAMILIES"]
