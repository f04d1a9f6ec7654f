"""What is measured: the families, by name, in the order of a run. Each makes the cases of a run of a size; making them
starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from netnet.bench.families import echo, growth, handshake, idle, latency, relay, runtime, scale, seed, start
from netnet.bench.figures import Case, Cases, Size


class Family(NamedTuple):
    """One family: what it is about, and its cases."""

    about: str
    cases: Cases


FAMILIES: dict[str, Family] = {
    "seed": Family("downloads direct, through proxies and ssh -D; on loopback and over a far link", seed.seed),
    "echo": Family("echo servers: CPU and delay of a round trip, by connections and size of message", echo.echo),
    "relay": Family(
        "data that are passed on: CPU of a gigabyte, one way and both, by streams and messages", relay.relay
    ),
    "handshake": Family("connect through a proxy, one byte echoed, close: CPU, rate and delay", handshake.handshake),
    "churn": Family("connections that are replaced while others stand: CPU, rate and delay", handshake.churn),
    "latency": Family("what a proxy adds to a small round trip, quiet and busy", latency.latency),
    "idle": Family("memory of an idle proxied connection; many at once, and none lost", idle.idle),
    "scale": Family("two workers instead of one, of an echo server and of the proxy", scale.scale),
    "start": Family("until the proxy serves; what an import takes", start.start),
    "runtime": Family("tasks, turns, timers, channels and time-outs", runtime.runtime),
    "growth": Family("what an operation costs as connections, rules, users and timers grow", growth.growth),
}


def cases(names: Sequence[str], size: Size) -> list[Case]:
    """The cases of these families, in the order of a run."""
    return [case for name, family in FAMILIES.items() if name in names for case in family.cases(size)]


__all__ = ["FAMILIES", "Family", "cases"]
