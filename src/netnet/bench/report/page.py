"""The report as one page, ``report.html``, that needs no other file: style, charts and flame graphs are in it, and it
refers to nothing outside. It follows the light or dark scheme of who looks; a script of its own sorts the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from netnet.bench.report.content import document
from netnet.bench.report.document import Block, Cell, Chart, Code, Graph, Grid, Heading, Listing, Paragraph
from netnet.bench.results import Results
from netnet.bench.wording import slug

#: headings up to this level are in the table of contents
_CONTENTS_LEVEL = 2

#: pixels of a flame graph that does not say its height
_FLAME_HEIGHT = 600

_CLASS_OURS, _CLASS_NUMBER = ' class="ours"', ' class="number"'

#: of the page that a flame graph has to itself
_WITHIN_FRAME = (
    ":root { color-scheme: light dark } body { margin: 0 } svg { display: block; width: 100%; height: auto }"
)

_PROLOGUE = re.compile(r"^\s*<\?xml.*?\?>\s*", re.DOTALL)
_VIEW = re.compile(r'<svg\b[^>]*\bviewBox="\s*\S+\s+\S+\s+([\d.]+)\s+([\d.]+)\s*"')


def render(results: Results, charts_folder: Path, flames: Mapping[str, str]) -> str:
    """The whole file. *charts_folder* has the charts' SVGs; *flames* is, by title, the SVG of each flame graph.

    A chart or flame graph that is not there is told as missing.
    """
    return "\n".join(_Page(charts_folder, flames).lines(document(results)))


class _Page:
    """Writes blocks as lines of HTML."""

    def __init__(self, charts_folder: Path, flames: Mapping[str, str]) -> None:
        self._charts_folder = charts_folder
        self._flames = flames
        self._anchors: dict[int, str] = {}

    def lines(self, blocks: Sequence[Block]) -> Iterator[str]:
        """The whole page."""
        headings = [block for block in blocks if isinstance(block, Heading)]
        self._anchors = dict(zip(map(id, headings), _anchors(headings), strict=True))
        title = headings[0].text if headings else ""
        yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield f"<title>{escape(title)}</title>\n<style>\n{_part('page.css')}</style>\n</head>\n<body>\n<main>"
        for number, block in enumerate(blocks):
            yield from self._block(block)
            if number == 0:
                yield from self._contents(headings)
        yield f"</main>\n<script>\n{_part('page.js')}</script>\n</body>\n</html>\n"

    def _contents(self, headings: Sequence[Heading]) -> Iterator[str]:
        yield '<nav style="padding: 0" aria-label="Contents"><ul>'
        for one in headings:
            if 1 < one.level <= _CONTENTS_LEVEL:
                yield f'<li><a href="#{self._anchors[id(one)]}">{escape(one.text)}</a></li>'
        yield "</ul></nav>"

    def _block(self, block: Block) -> Iterator[str]:
        match block:
            case Heading(level, text):
                yield f'<h{level} id="{self._anchors[id(block)]}">{escape(text)}</h{level}>'
            case Paragraph(text):
                yield f"<p>{escape(text)}</p>"
            case Code(text):
                yield f"<pre>{escape(text)}</pre>"
            case Listing(items):
                yield '<ul class="remarks">'
                yield from (f"<li>{escape(text)}{_command(command)}</li>" for text, command in items)
                yield "</ul>"
            case Grid():
                yield from _grid(block)
            case Chart():
                yield self._chart(block)
            case Graph():
                yield self._flame(block)

    def _chart(self, chart: Chart) -> str:
        path = self._charts_folder / f"{chart.stem}.svg"
        if not path.is_file():
            return f"<p>The chart “{escape(chart.title)}” is missing.</p>"
        return f"<figure>{_PROLOGUE.sub('', path.read_text(encoding='utf-8'))}</figure>"

    def _flame(self, graph: Graph) -> str:
        title = graph.flame.title
        svg = self._flames.get(title)
        if svg is None:
            return f"<p>The flame graph “{escape(title)}” is missing.</p>"
        view = _VIEW.search(svg)
        shape = f"aspect-ratio: {view.group(1)} / {view.group(2)}" if view else f"height: {_FLAME_HEIGHT}px"
        inner = (
            f"<!DOCTYPE html><html><head><meta charset='utf-8'><style>{_WITHIN_FRAME}</style></head>"
            f"<body>{_PROLOGUE.sub('', svg)}</body></html>"
        )
        return (
            f'<figure><iframe title="{escape(title)}" style="{shape}" sandbox="allow-scripts allow-modals" '
            f'srcdoc="{escape(inner)}"></iframe></figure>'
        )


def _anchors(headings: Sequence[Heading]) -> Iterator[str]:
    """A name for each, that no other has: their words, with a number behind those that are taken."""
    taken: set[str] = set()
    for one in headings:
        words = f"section-{slug(one.text)}"
        name, number = words, 2
        while name in taken:
            name, number = f"{words}-{number}", number + 1
        taken.add(name)
        yield name


def _grid(grid: Grid) -> Iterator[str]:
    yield '<div class="grid"><table>\n<thead><tr>'
    yield "".join(f"<th{_kind(column.number)}>{escape(column.head)}</th>" for column in grid.columns)
    yield "</tr></thead>\n<tbody>"
    for row in grid.rows:
        cells = (_cell(cell, column.number) for cell, column in zip(row.cells, grid.columns, strict=True))
        yield f"<tr{_CLASS_OURS if row.ours else ''}>{''.join(cells)}</tr>"
    yield "</tbody>\n</table></div>"


def _cell(cell: Cell, number: bool) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value:.9g}"'
    aside = f" <small>{escape(cell.aside)}</small>" if cell.aside else ""
    return f"<td{_kind(number)}{value}>{escape(cell.text)}{aside}</td>"


def _kind(number: bool) -> str:
    return _CLASS_NUMBER if number else ""


def _command(text: str) -> str:
    return f" <code>{escape(text)}</code>" if text else ""


def _part(name: str) -> str:
    return files("netnet.bench.report").joinpath(name).read_text(encoding="utf-8")


__all__ = ["render"]
