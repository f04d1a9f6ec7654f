"""Relay: CPU time for bulk data that goes through, against splice(2) and a copy loop in C."""

from __future__ import annotations

from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.native import program
from netnet.bench.processes import load, python_server, serving, window


def relay(size: Size, progress: Progress) -> list[Figures]:
    """One stream, one way."""
    figures = Figures("relay of bulk data, one way, one stream", "s CPU a GB", base="C splice")
    with load("source") as source:
        port = source.port()
        peers = {
            "C splice": [str(program("relay")), "splice", str(port)],
            "C copy": [str(program("relay")), "copy", str(port)],
            "netnet": python_server("relay_netnet", port),
        }
        for _ in range(size.rounds):
            for name, command in peers.items():
                progress(f"{figures.title}: {name}")
                with (
                    serving(command) as server,
                    load("pull", 0, server.port(), port, 1, size.warmup_seconds, size.seconds) as client,
                ):
                    used, words = window(server, client)
                    figures.add(name, used / max(1, int(words[1])) * 1e9)
    return [figures]
