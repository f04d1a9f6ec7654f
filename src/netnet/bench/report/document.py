"""What a report consists of, without any output format: headings, paragraphs, lists, grids of cells, charts and flame
graphs. ``content`` makes them of results; ``markdown``, ``page`` and ``terminal`` write them.
"""

from __future__ import annotations

from dataclasses import dataclass

from netnet.bench.results import Flame


@dataclass(frozen=True)
class Heading:
    """*level* 1 is the report's own title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Listing:
    """A list of plain texts; *code*, where there is any, stands behind its text as a command."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    """The head of a column; numbers stand on the right."""

    head: str
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """A text, with an *aside* of less weight; *value* is what a column of numbers is sorted by."""

    text: str
    aside: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """The cells of a row; *ours* is what the report is about."""

    cells: tuple[Cell, ...]
    ours: bool = False


@dataclass(frozen=True)
class Grid:
    """A table."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Chart:
    """A chart: its files are ``charts/STEM.svg``, ``.png`` and ``-dark.png``; *alt* says what it shows."""

    title: str
    family: str
    stem: str
    alt: str


@dataclass(frozen=True)
class Graph:
    """A flame graph."""

    flame: Flame


Block = Heading | Paragraph | Code | Listing | Grid | Chart | Graph

__all__ = ["Block", "Cell", "Chart", "Code", "Column", "Graph", "Grid", "Heading", "Listing", "Paragraph", "Row"]
