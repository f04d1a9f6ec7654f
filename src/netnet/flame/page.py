"""A flame graph as a page: the picture, what was sampled and how, and a table of the top frames. One file, no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from netnet.flame import svg
from netnet.flame.frames import ROOMS, room
from netnet.flame.stacks import Stacks

TOP: Final = 40

_STYLE: Final = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --quiet: #57606a; --edge: #d0d7de; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --ink: #e8eaed; --quiet: #9aa4b0; --edge: #333a44; } }
body { margin: 2rem auto; max-width: 1240px; padding: 0 1rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 ui-sans-serif, system-ui, sans-serif; }
.flame { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--edge); }
th { text-align: left; color: var(--quiet); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.f { font-family: ui-monospace, monospace; font-size: 13px; overflow-wrap: anywhere; }
"""


def render(stacks: Stacks, title: str, facts: Iterable[tuple[str, str]] = ()) -> str:
    """The whole file. *facts* are told above the graph: name and value."""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>',
            '<meta name="viewport" content="width=device-width">',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            "<dl>",
            *(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts),
            "</dl>",
            svg.picture(stacks, title, "A click on a frame zooms, Escape goes back. Outermost calls are on top."),
            "<h2>Top frames</h2>",
            *_table(stacks),
            "</body></html>\n",
        )
    )


def _table(stacks: Stacks) -> Iterator[str]:
    total = max(1, stacks.total)
    yield '<table><thead><tr><th class="n">self</th><th class="n">total</th><th>frame</th><th>part</th></tr></thead><tbody>'
    for one in stacks.top(TOP):
        own, whole = (f"{100 * samples / total:.1f} %" for samples in (one.self_samples, one.total_samples))
        yield (
            f'<tr><td class="n">{own}</td><td class="n">{whole}</td><td class="f">{_text(one.name)}</td>'
            f"<td>{_text(ROOMS[room(one.name)])}</td></tr>"
        )
    yield "</tbody></table>"


def _text(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode())
