"""A flame graph as one SVG file: outermost frames on top, the width of a frame is its share of the samples.

Without scripts it is a picture, with titles that tell each frame's samples; with them (``graph.js``, which is part of the
file) a click zooms, and frames can be searched for. Colours say which room of the program a frame is in, and follow the
light or dark scheme of who looks (``graph.css``). Frames thinner than a tenth of a pixel are left out.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from netnet.flame.frames import ROOMS, room

WIDTH: Final = 1200
ROW: Final = 18
MARGIN: Final = 10
#: where the frames begin, below title, legend and the line of what is pointed at
HEAD: Final = 92
#: a letter of the frames' type, and the narrowest frame that gets any
LETTER: Final = 6.65
LETTERS_MIN: Final = 3
#: pixels below which a frame is not drawn
THIN: Final = 0.1
#: the shades of one room, so that neighbours can be told apart
SHADES: Final = 4

_CONTROLS: Final = dict.fromkeys((*range(32), 127, 0xFFFE, 0xFFFF), " ")


@dataclass(slots=True)
class _Node:
    """A frame in its place: its samples, and what it has called."""

    name: str
    row: int = 0
    start: int = 0
    samples: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def _tree(stacks: Mapping[tuple[str, ...], int]) -> _Node:
    root = _Node("all")
    for stack, samples in sorted(stacks.items()):
        node = root
        node.samples += samples
        for name in stack:
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = _Node(name, node.row + 1)
            child.samples += samples
            node = child
    return root


def _placed(root: _Node) -> Iterator[_Node]:
    """Every frame that is wide enough, each after the one that has called it, with its place from the left."""
    scale = _width() / max(1, root.samples)
    pile = [root]
    while pile:
        node = pile.pop()
        yield node
        start = node.start
        for child in node.children.values():
            child.start = start
            start += child.samples
            if child.samples * scale >= THIN:
                pile.append(child)


def _width() -> int:
    return WIDTH - 2 * MARGIN


def render(stacks: Mapping[tuple[str, ...], int], title: str = "Flame graph", subtitle: str = "") -> str:
    """The whole file for *stacks*; it needs no other. *subtitle* is a second, smaller line."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + picture(stacks, title, subtitle)


def picture(stacks: Mapping[tuple[str, ...], int], title: str, subtitle: str = "") -> str:
    """The ``svg`` element, which can stand in a page as well."""
    root = _tree(stacks)
    nodes = list(_placed(root))
    height = HEAD + ROW * (1 + max(node.row for node in nodes)) + MARGIN
    rooms = {room(node.name) for node in nodes if node.row}
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="flame" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH}" height="{height}"'
            f' data-total="{root.samples}" data-left="{MARGIN}" data-width="{_width()}" data-letter="{LETTER}">',
            f"<title>{_text(title)}</title>",
            f"<style>{escape(_part('graph.css'))}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            f'<text class="head" x="{MARGIN}" y="24">{_text(_cut(title, 120))}</text>',
            f'<text class="sub" x="{MARGIN}" y="42">{_text(_cut(subtitle, 170))}</text>',
            *_legend(rooms),
            f'<text class="told" x="{MARGIN}" y="84"></text>',
            f'<text class="found" x="{WIDTH - MARGIN}" y="84" text-anchor="end"></text>',
            '<g class="frames">',
            *(_frame(node, root.samples) for node in nodes),
            "</g>",
            f"<script><![CDATA[\n{_part('graph.js')}]]></script>",
            "</svg>\n",
        )
    )


def _legend(rooms: set[str]) -> Iterator[str]:
    left = MARGIN
    for name, says in ROOMS.items():
        if name in rooms:
            yield f'<rect class="{name} s0" x="{left}" y="55" width="11" height="11" rx="2"/>'
            yield f'<text class="key" x="{left + 16}" y="64">{_text(says)}</text>'
            left += 40 + round(LETTER * len(says))
    for says, action, right in (("Reset", "reset", 110), ("Search", "search", 50)):
        yield f'<text class="button" data-does="{action}" x="{WIDTH - MARGIN - right}" y="64">{says}</text>'


def _frame(node: _Node, total: int) -> str:
    scale = _width() / max(1, total)
    left, wide, top = MARGIN + node.start * scale, node.samples * scale, HEAD + ROW * node.row
    share = 100 * node.samples / max(1, total)
    told = f"{node.name}: {node.samples:,} samples, {share:.2f} %"
    kind = f"{room(node.name) if node.row else 'all'} s{zlib.crc32(_legal(node.name).encode()) % SHADES}"
    return (
        f'<g class="f {kind}" data-n={_attribute(node.name)} data-x="{node.start}" data-w="{node.samples}"'
        f' data-r="{node.row}"><title>{_text(told)}</title>'
        f'<rect x="{left:.2f}" y="{top}" width="{max(THIN, wide - 0.4):.2f}" height="{ROW - 1}" rx="1.5"/>'
        f'<text x="{left + 3:.2f}" y="{top + 12.5}">{_text(_cut(node.name, int((wide - 6) / LETTER)))}</text></g>'
    )


def _cut(text: str, letters: int) -> str:
    """*text*, or its beginning, or nothing where there is no room to read any."""
    if len(text) <= letters:
        return text
    return "" if letters < LETTERS_MIN else f"{text[: letters - 2]}.."


def _text(text: str) -> str:
    return escape(_legal(text))


def _attribute(text: str) -> str:
    return quoteattr(_legal(text))


def _legal(text: str) -> str:
    """*text* with the characters only that a file of XML may have."""
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()


@functools.cache
def _part(name: str) -> str:
    """A file of this package that becomes a part of the picture."""
    return (files("netnet.flame") / name).read_text(encoding="utf-8")
