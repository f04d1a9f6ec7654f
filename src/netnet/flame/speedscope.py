"""Stacks as a file for https://www.speedscope.app, of the kind "sampled": frames once, and each stack by their numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"

_PLACE = re.compile(r" \(([^()]+?)(?::(\d+))?\)$")


def render(stacks: Mapping[tuple[str, ...], int], title: str = "", rate: float = 0.0) -> str:
    """The file's text. With a *rate*, in samples a second, weights are seconds; else they are samples."""
    names = {name: number for number, name in enumerate(sorted({name for stack in stacks for name in stack}))}
    ordered = sorted(stacks.items())
    weights = [samples / rate if rate else samples for _, samples in ordered]
    profile = {
        "type": "sampled",
        "name": title,
        "unit": "seconds" if rate else "none",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": [[names[name] for name in stack] for stack, _ in ordered],
        "weights": weights,
    }
    whole = {
        "$schema": SCHEMA,
        "name": title,
        "exporter": "netnet",
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(name) for name in names]},
        "profiles": [profile],
    }
    return json.dumps(whole)


def _frame(name: str) -> dict[str, Any]:
    place = _PLACE.search(name)
    if place is None:
        return {"name": name}
    frame: dict[str, Any] = {"name": name[: place.start()], "file": place[1]}
    if place[2] is not None:
        frame["line"] = int(place[2])
    return frame
