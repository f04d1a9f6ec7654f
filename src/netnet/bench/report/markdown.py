"""The report as Markdown, ``report.md``: as GitHub shows it, with the charts beside it in ``charts/``; their SVG follows the
reader's light or dark theme, the PNG files are for what shows no SVG.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from netnet.bench.report.content import document
from netnet.bench.report.document import Block, Cell, Chart, Code, Graph, Grid, Heading, Listing, Paragraph
from netnet.bench.results import Results

#: what means something in Markdown, within a line
_SPECIAL = re.compile(r"([\\`*_<>|\[\]])")

#: and what would begin a list, a heading or a quotation
_BEGINS = re.compile(r"^(\s*)([-+#]|\d+[.)])(?=\s)")


def render(results: Results) -> str:
    """The whole file."""
    return "\n\n".join(_WRITERS[type(block)](block) for block in document(results)) + "\n"


def plain(text: str) -> str:
    """*text* as one line that Markdown leaves as it is."""
    line = " ".join(text.split())
    return _BEGINS.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", line))


def code(text: str) -> str:
    """*text* as it is, set as code within a line."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _heading(block: Heading) -> str:
    return f"{'#' * block.level} {plain(block.text)}"


def _paragraph(block: Paragraph) -> str:
    return plain(block.text)


def _code(block: Code) -> str:
    return f"```\n{block.text}\n```"


def _listing(block: Listing) -> str:
    return "\n".join(f"- {plain(text)}" + (f" {code(command)}" if command else "") for text, command in block.items)


def _grid(block: Grid) -> str:
    lines = [
        _line([plain(column.head) for column in block.columns]),
        _line(["---:" if column.number else "---" for column in block.columns]),
        *(_line([_cell(cell, strong=row.ours) for cell in row.cells]) for row in block.rows),
    ]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell, *, strong: bool) -> str:
    text = f"**{plain(cell.text)}**" if strong else plain(cell.text)
    return f"{text} ({plain(cell.aside)})" if cell.aside else text


def _chart(block: Chart) -> str:
    return f"![{plain(block.alt)}](charts/{block.stem}.svg)"


def _graph(block: Graph) -> str:
    place = quote(block.flame.file)
    return f"{plain(block.flame.title)}: [{plain(block.flame.file)}]({place})\n\n![{plain(block.flame.title)}]({place})"


_WRITERS: dict[type[Block], Callable[[Any], str]] = {
    Heading: _heading,
    Paragraph: _paragraph,
    Code: _code,
    Listing: _listing,
    Grid: _grid,
    Chart: _chart,
    Graph: _graph,
}

__all__ = ["code", "plain", "render"]
