"""Start of a proxy: the wall time from its exec until it listens and until it answers, and the CPU time until then. The
disk's cache is warm. What a proxy needs beforehand, as a configuration or keys, is made before the clock runs.
"""

from __future__ import annotations

import socket
import time

from netnet.bench.families import proxies
from netnet.bench.families.importing import PYTHON_ALONE, import_milliseconds
from netnet.bench.families.proxies import HERE, PEERS, Ready, listening
from netnet.bench.figures import Case, Quantity, Sample, Size, Table
from netnet.bench.processes import BenchError, free_port, said

#: a proxy that listens answers by then
ANSWER_SECONDS = 10.0

#: between two looks whether a proxy listens: its start is known no better than that
LOOK_SECONDS = 0.002

_PEERS = (proxies.OURS, proxies.PLAIN, proxies.MICROSOCKS, proxies.DANTE, proxies.SSH, proxies.PPROXY)

_QUANTITIES = (Quantity("time", "ms"), Quantity("answer", "ms"), Quantity("CPU", "ms"))


def start_proxy(size: Size) -> list[Case]:
    """From exec to the first connection that is accepted, and to the first answer."""
    table = Table("start", "start of the proxy, to the first connection", _QUANTITIES, base=PYTHON_ALONE)
    table.note(f"answer: until it answers a client's first bytes; both are known to {LOOK_SECONDS * 1000:.0f} ms")
    others = proxies.measures(table, _PEERS, _measure)
    return [Case(table, {PYTHON_ALONE: _python_alone, **others}, rounds=size.starts)]


def _python_alone() -> Sample:
    return {"time": import_milliseconds("")}


def _measure(name: str) -> Sample:
    with PEERS[name].prepare(HERE, free_port()) as ready:
        return started(ready)


def started(ready: Ready) -> Sample:
    """Starts a proxy, and asks it for something. Raises ``BenchError``."""
    told = said(ready.command)
    began = time.perf_counter()
    with listening(ready.command, ready.port, quiet=ready.quiet, look_seconds=LOOK_SECONDS) as process:
        listens = time.perf_counter()
        try:
            with socket.create_connection(("127.0.0.1", ready.port), ANSWER_SECONDS) as client:
                client.sendall(b"\x05\x01\x00")
                if client.recv(2) != b"\x05\x00":
                    raise BenchError(f"{told} does not answer as a SOCKS5 proxy")
        except OSError as error:
            process.still_runs()
            raise BenchError(f"{told} does not answer: {error}") from None
        answers = time.perf_counter()
        used = process.total_cpu_seconds()
        return {"time": (listens - began) * 1e3, "answer": (answers - began) * 1e3, "CPU": used * 1e3}


__all__ = ["ANSWER_SECONDS", "LOOK_SECONDS", "start_proxy", "started"]
