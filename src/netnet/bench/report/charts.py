"""Draws the charts that ``plan`` has laid out: each as one SVG that follows the light or dark scheme of who looks, and as
a light and a dark PNG. Needs matplotlib, of which it uses no state that others share.

The same results give the same SVG, byte for byte. Text stays text in it, ids begin with the chart's stem, so that several
can stand in one page, and it refers to nothing outside.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from netnet.bench.report.document import Chart
from netnet.bench.report.palette import DARK, FOLLOWING, LIGHT, STYLE, Theme, look, variables
from netnet.bench.report.plan import SPAN_OF_BARS, SPAN_OF_PLACES, Panel, Plan, Value, peers_of, plans, spans
from netnet.bench.results import Results
from netnet.bench.wording import heading, number, sense, tick

#: the folder of the charts within that of the results
FOLDER = "charts"

_DOTS_PER_INCH = 160

#: inches: a chart's width; a panel of lines; what a bar takes, and what a panel of bars takes besides
_WIDTH = 10.0
_NARROW = 7.2
_LINES_HEIGHT = 3.6
_BAR_HEIGHT, _BARS_BESIDES = 0.27, 0.85
_HEAD, _TITLE_ROW = 0.6, 0.22
_LEGEND_ROW = 0.24

#: of a title
_LETTERS_AN_INCH = 8.5

#: panels beside each other, by their number: lines, bars
_LINES_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2}
_BARS_COLUMNS = {1: 1}

#: marks with little in them, and their size
_THIN, _LARGE = "PX*<>v^", 7.5

#: between ticks, in any decade
_STEPS = (1, 2, 2.5, 5, 10)

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Segoe UI", "Helvetica Neue", "Arial"],
    "font.size": 9.5,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "netnet",
    "axes.unicode_minus": True,
    "hatch.linewidth": 0.8,
}


def draw(results: Results, folder: Path) -> list[Chart]:
    """Writes the charts of *results* into ``charts`` in *folder*, and returns them. Raises ``OSError``."""
    where = folder / FOLDER
    where.mkdir(parents=True, exist_ok=True)
    drawn = plans(results.tables)
    for plan in drawn:
        (where / f"{plan.chart.stem}.svg").write_text(svg(plan), encoding="utf-8")
        for name, theme in (("", LIGHT), ("-dark", DARK)):
            (where / f"{plan.chart.stem}{name}.png").write_bytes(png(plan, theme))
    return [plan.chart for plan in drawn]


def svg(plan: Plan) -> str:
    """The chart as an SVG that follows the scheme of who looks."""
    out = io.StringIO()
    with _settings():
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        _figure(plan, FOLLOWING).savefig(out, format="svg", metadata=nothing)
    return _settled(out.getvalue(), plan.chart)


def png(plan: Plan, theme: Theme) -> bytes:
    """The chart as a PNG in the colours of *theme*."""
    out = io.BytesIO()
    with _settings():
        _figure(plan, theme).savefig(out, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return out.getvalue()


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """matplotlib as it comes, whatever this machine's user has set, with settings of ours; undone at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update(_SETTINGS)
        yield


#: what matplotlib begins a file with: declarations that name places elsewhere, and a style for all that is on a page
_PROLOGUE = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_OWN_STYLE = re.compile(r"<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", re.DOTALL)
_LINKS = re.compile(r' xmlns:xlink="[^"]*"')
_IDS = re.compile(r'(\bid="|href="#|url\(#)')


def _settled(text: str, chart: Chart) -> str:
    """The SVG with a style, ids and a description of its own."""
    style = f"<style>\n{STYLE}.chart * {{ stroke-linejoin: round; stroke-linecap: butt; }}\n</style>"
    described = f"<title>{escape(chart.title)}</title>\n<desc>{escape(chart.alt)}</desc>"
    text = _PROLOGUE.sub("", text, count=1)
    text = _OWN_STYLE.sub(lambda _: f"{described}\n{style}", text, count=1)
    text = _LINKS.sub("", text).replace("xlink:href", "href")
    text = _IDS.sub(lambda found: f"{found.group(1)}{chart.stem}-", text)
    root = f'<svg class="chart" role="img" aria-label={quoteattr(chart.title)} '
    return '<?xml version="1.0" encoding="utf-8"?>\n' + variables(text.replace("<svg ", root, 1))


# -- the figure


def _figure(plan: Plan, theme: Theme) -> Figure:
    table = _LINES_COLUMNS if plan.axis else _BARS_COLUMNS
    columns = table.get(len(plan.panels), 3 if plan.axis else 2)
    rows = [plan.panels[start : start + columns] for start in range(0, len(plan.panels), columns)]
    heights = [_row_height(plan, row) for row in rows]
    legend = _legend(plan, theme)
    legend_columns = 6 if columns > 1 else 4
    legend_height = _LEGEND_ROW * (math.ceil(len(legend) / legend_columns) + 0.5) if legend else 0.0
    width = _WIDTH if columns > 1 else _NARROW
    title = textwrap.wrap(_subject(plan), round(width * _LETTERS_AN_INCH)) or [""]
    head = _HEAD + _TITLE_ROW * (len(title) - 1)
    height = head + sum(heights) + legend_height
    figure = Figure(figsize=(width, height), facecolor=theme["ground"], layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.09, h_pad=0.08, rect=(0.0, 0.0, 1.0, 1.0 - head / height))  # type: ignore[call-arg]
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for number_of_panel, panel in enumerate(plan.panels):
        axes = figure.add_subplot(grid[divmod(number_of_panel, columns)])
        _panel(axes, plan, panel, theme)
    _title(figure, plan, title, theme)
    if legend:
        shown = figure.legend(
            handles=legend,
            loc="outside lower left",
            ncols=legend_columns,
            frameon=False,
            fontsize=9,
            labelcolor=theme["ink"],
            handlelength=2.4,
            columnspacing=1.6,
        )
        for text in shown.get_texts():
            if text.get_text() == plan.ours:
                text.set(color=theme["ours"], fontweight="bold")
    return figure


def _row_height(plan: Plan, row: Sequence[Panel]) -> float:
    if plan.axis:
        return _LINES_HEIGHT
    titles = max(panel.title.count("\n") for panel in row)
    return _BARS_BESIDES + 0.16 * titles + _BAR_HEIGHT * max(len(panel.values) for panel in row)


def _subject(plan: Plan) -> str:
    return plan.chart.title.removesuffix(f": {heading(plan.quantity)}")


def _title(figure: Figure, plan: Plan, title: Sequence[str], theme: Theme) -> None:
    told = f"{heading(plan.quantity)}; {sense(plan.quantity)}; median, and range of the runs"
    left, inch = 0.13 / figure.get_figwidth(), 1 / figure.get_figheight()
    figure.text(left, 1 - 0.13 * inch, "\n".join(title), va="top", fontsize=13, fontweight="bold", color=theme["ink"])
    below = 0.41 + _TITLE_ROW * (len(title) - 1)
    figure.text(left, 1 - below * inch, told, va="top", fontsize=9.5, color=theme["quiet"])


def _panel(axes: Axes, plan: Plan, panel: Panel, theme: Theme) -> None:
    axes.set_facecolor(theme["ground"])
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelcolor=theme["quiet"], labelsize=9)
    for side in axes.spines.values():
        side.set_visible(False)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontsize=10, color=theme["ink"], pad=7)
    if plan.axis:
        _draw_lines(axes, plan, panel, theme)
    else:
        _draw_bars(axes, plan, panel, theme)


# -- lines


def _draw_lines(axes: Axes, plan: Plan, panel: Panel, theme: Theme) -> None:
    assert plan.axis is not None
    places = sorted({place for values in panel.values.values() for place in values})
    drawn = [peer for peer in peers_of(plan) if peer in panel.values]
    for layer, peer in enumerate(reversed(drawn)):
        found = sorted(panel.values[peer].items())
        middles = [value.middle for _, value in found]
        axes.errorbar(
            [place for place, _ in found],
            middles,
            yerr=_ranges([value for _, value in found]),
            elinewidth=1.0,
            capsize=2.5,
            zorder=3 + layer,
            **_line(peer, plan, theme),
        )
    _scale_of_places(axes, plan.axis, places, theme)
    _scale_of_values(axes, plan, [value for values in panel.values.values() for value in values.values()])
    axes.grid(axis="y", color=theme["grid"], linewidth=0.8)
    axes.spines["bottom"].set(visible=True, color=theme["quiet"], linewidth=0.8)
    axes.set_xlabel(plan.axis, color=theme["quiet"], fontsize=9)
    subplot = axes.get_subplotspec()
    if subplot is not None and subplot.is_first_col():
        axes.set_ylabel(heading(plan.quantity), color=theme["quiet"], fontsize=9)


def _line(peer: str, plan: Plan, theme: Theme) -> dict[str, Any]:
    """The properties of a peer's line and marks: ours is the heavier one."""
    one = look(peer)
    ours = peer == plan.ours
    return {
        "color": theme[one.role],
        "marker": one.mark,
        "linestyle": one.line,
        "linewidth": 2.6 if ours else 1.4,
        "markersize": 7.5 if ours else _LARGE if one.mark in _THIN else 6,
        "markeredgecolor": theme["ground"],
        "markeredgewidth": 0.5,
    }


def _legend(plan: Plan, theme: Theme) -> list[Line2D]:
    """What the lines mean; bars are named where they are."""
    if not plan.axis:
        return _published_legend(plan, theme)
    return [Line2D([], [], label=peer, **_line(peer, plan, theme)) for peer in peers_of(plan)]


def _ranges(values: Sequence[Value]) -> list[list[float]]:
    return [[one.middle - one.least for one in values], [one.most - one.middle for one in values]]


def _scale_of_places(axes: Axes, axis: str, places: Sequence[float], theme: Theme) -> None:
    if spans(places, SPAN_OF_PLACES):
        axes.set_xscale("log")
        axes.margins(x=0.06)
    else:
        axes.margins(x=0.08)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: tick(axis, place)))


def _scale_of_values(axes: Axes, plan: Plan, values: Sequence[Value]) -> None:
    least, most = min(one.least for one in values), max(one.most for one in values)
    axis = axes.yaxis
    if plan.logarithmic and least > 0:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.25, most * 1.3)
        wide = math.log10(most / least) > 2.6
        axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=30))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(min(0.0, least * 1.1), most * 1.1 if most > 0 else 1.0)
        axis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _: object = None) -> str:
    """A tick: a round number, so that no digits are lost."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 10 or (abs(value) >= size and letter != "k"):
            return f"{value / size:,.6g}{letter}"
    return f"{value:,.6g}"


# -- bars


def _draw_bars(axes: Axes, plan: Plan, panel: Panel, theme: Theme) -> None:
    values = {peer: places[0.0] for peer, places in panel.values.items()}
    order = sorted(values, key=lambda peer: values[peer].middle, reverse=not plan.quantity.higher)
    marks = spans([value.middle for value in values.values()], SPAN_OF_BARS)
    most = max(value.most for value in values.values())
    for row, peer in enumerate(order):
        _draw_bar(axes, plan, peer, row, values[peer], theme, mark=marks)
        if peer in panel.published:
            axes.plot(panel.published[peer], row, **_PUBLISHED, color=theme["ink"], zorder=6)
        end = _end(values[peer], panel.published.get(peer), most)
        _draw_digits(axes, number(values[peer].middle), end, row, theme, ours=peer == plan.ours)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_yticks(range(len(order)), order, fontsize=9.5)
    for label in axes.get_yticklabels():
        ours = label.get_text() == plan.ours
        label.set(color=theme["ours" if ours else "ink"], fontweight="bold" if ours else "normal")
    _scale_of_bars(axes, [*values.values()], panel.published, marks=marks)
    axes.grid(axis="x", color=theme["grid"], linewidth=0.8)
    axes.set_xlabel(heading(plan.quantity), color=theme["quiet"], fontsize=9)


def _draw_bar(axes: Axes, plan: Plan, peer: str, row: int, value: Value, theme: Theme, *, mark: bool) -> None:
    """A bar, or on a logarithmic scale, where a length says nothing, a mark; with the range."""
    one, ours = look(peer), peer == plan.ours
    colour = theme[one.role]
    if mark:
        axes.plot(value.middle, row, marker="o", color=colour, markersize=9 if ours else 7.5, zorder=4)
    else:
        axes.barh(
            row,
            value.middle,
            height=0.68,
            color=colour,
            edgecolor=theme["ground"],
            linewidth=0,
            hatch="////" if one.second else None,
            zorder=3,
        )
    axes.errorbar(
        value.middle,
        row,
        xerr=_ranges([value]),
        color=theme["ink"],
        elinewidth=1.0,
        capsize=2.5,
        linestyle="",
        zorder=5,
    )


def _draw_digits(axes: Axes, text: str, end: float, row: int, theme: Theme, *, ours: bool) -> None:
    """The median in digits, behind what is drawn up to *end*."""
    axes.annotate(
        text,
        (end, row),
        (6, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=9,
        color=theme["ours" if ours else "ink"],
        fontweight="bold" if ours else "normal",
    )


def _end(value: Value, published: float | None, most: float) -> float:
    """Where the digits may begin: not on the published figure, where that is close behind the bar."""
    end = max(value.most, 0.0)
    return published if published is not None and end - 0.02 * most < published < end + 0.15 * most else end


#: figures of others
_PUBLISHED: dict[str, Any] = {"marker": "d", "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.4}


def _published_legend(plan: Plan, theme: Theme) -> list[Line2D]:
    if not any(panel.published for panel in plan.panels):
        return []
    label = "published elsewhere, as a ratio to the base there"
    return [Line2D([], [], linestyle="", color=theme["ink"], label=label, **_PUBLISHED)]


def _scale_of_bars(axes: Axes, values: Sequence[Value], published: Mapping[str, float], *, marks: bool) -> None:
    least = min([one.least for one in values if one.least > 0] or [0.0])
    most = max([one.most for one in values] + list(published.values()))
    if marks:
        axes.set_xscale("log")
        decades = math.log10(most / least)
        axes.set_xlim(least / 10 ** (0.06 * decades), most * 10 ** (0.2 * decades))
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,), numticks=30))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        lowest = min(0.0, *(one.least for one in values)) if values else 0.0
        axes.set_xlim(lowest * 1.1, most * 1.18 if most > 0 else 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


__all__ = ["FOLDER", "draw", "svg"]
