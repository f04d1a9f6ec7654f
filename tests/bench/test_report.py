"""Reports: where netnet stands, what a report says of a run, and its forms: terminal, Markdown and page."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from netnet.bench import report, wording
from netnet.bench.figures import Quantity, Table
from netnet.bench.report import content, growth, markdown, page, terminal
from netnet.bench.report.document import Grid, Heading
from netnet.bench.report.standing import standings
from netnet.bench.results import Flame, Results
from netnet.errors import UsageError
from tests.bench.tables import table, told

CPU, RATE = Quantity("CPU", "µs each"), Quantity("throughput", "a second", higher=True)


def handshakes():
    """netnet behind microsocks in CPU, level in throughput; one peer missing, one failed."""
    made = Table("handshake", "SOCKS5 handshakes, 50 at a time", (CPU, RATE), base="microsocks")
    for peer, cost in {"netnet": 110, "microsocks": 80, "pproxy": 600, "netnet plain": 70}.items():
        for share in (0.9, 1.0, 1.1):
            made.add(peer, {"CPU": cost * share, "throughput": 9000 * share})
    made.missing["dante"] = "apt install dante-server"
    made.failed["ssh -D"] = "ssh ended with status 255: <no> *route*"
    made.note("the load was busy")
    return made


def downloads():
    made = table(
        "download of 5 MB",
        "MB/s",
        {"direct": [10.0], "netnet": [8.0], "ssh -D": [2.0]},
        "direct",
        higher=True,
        family="seed",
    )
    made.published = {"direct": 1.0, "netnet": 0.61}
    return made


def rules(count, value):
    return table(
        f"growth: handshake with {count} rules",
        "µs",
        {"netnet": [value], "dante": [value * count]},
        base="netnet",
        family="growth",
        subject="rules",
        place={"rules": count},
    )


def run(*tables, flames=()):
    return Results(
        made="2030-01-02T03:04:05Z",
        netnet="9.9",
        size="quick",
        seed=7,
        command="netnet bench run --quick --seed 7",
        environment="CPython 3.11",
        machine={"processor": "Some Processor", "memory": "8 GiB"},
        versions={"microsocks": "1.0.3"},
        tables=list(tables),
        flames=list(flames),
    )


def everything(**more):
    return run(handshakes(), downloads(), *(rules(count, 5.0) for count in (10, 100, 1000)), **more)


# -- words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (5.0, "5"),
        (0.00123, "0.00123"),
        (0.123456, "0.123"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (123.45, "123"),
        (1234.5, "1,234"),
        (1234567.0, "1,234,567"),
        (-1.5, "-1.50"),
        (float("inf"), "inf"),
    ],
)
def test_numbers(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([1.0], ""),
        ([9.0, 10.0, 11.0], "±10 %"),
        ([0.0, 0.0], ""),
        ([5.0, 5.0], "±0 %"),
        ([-9.0, -10.0, -11.0], "±10 %"),
    ],
)
def test_deviation(samples, text):
    assert wording.deviation(samples) == text


@pytest.mark.parametrize(
    ("axis", "value", "long", "short"),
    [
        ("connections", 1, "1 connection", "1"),
        ("connections", 5000, "5,000 connections", "5k"),
        ("timers", 1_000_000, "1,000,000 timers", "1M"),
        ("at a time", 50, "50 at a time", "50"),
        ("at a time", 1, "1 at a time", "1"),
        ("bytes", 64, "64 bytes", "64 B"),
        ("bytes", 102_400, "100 KiB", "100 KiB"),
        ("bytes of a message", 1 << 20, "1 MiB", "1 MiB"),
        ("rules", 1234, "1,234 rules", "1234"),
    ],
)
def test_places(axis, value, long, short):
    assert wording.at(axis, value) == long
    assert wording.tick(axis, value) == short


# -- where netnet stands


def test_a_loss_is_told_also_where_the_base_is_the_winner():
    (one,) = standings([handshakes()])
    assert (one.base.peer, one.base.standing) == ("microsocks", "behind")
    assert one.base.ratio == pytest.approx(110 / 80)
    assert (one.other.peer, one.other.standing) == ("pproxy", "ahead")
    assert one.first == one.base
    assert one.best["throughput"].standing == "level"
    row = content.overview([handshakes()]).rows[0]
    assert [cell.text for cell in row.cells] == [
        "handshake",
        "1",
        "1",
        "0",
        "0",
        "1.38×",
        handshakes().title,
        "1 ahead",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "higher", "ratio", "standing"),
    [
        ([2.0], [1.0], False, 2.0, "behind"),
        ([1.0], [2.0], False, 0.5, "ahead"),
        ([2.0], [1.0], True, 0.5, "ahead"),
        ([1.0], [2.0], True, 2.0, "behind"),
        ([1.0, 3.0], [2.5, 4.0], False, 2 / 3.25, "level"),
        ([2.0], [2.0], False, 1.0, "level"),
    ],
)
def test_ratios_are_of_costs(ours, theirs, higher, ratio, standing):
    (one,) = standings([table("t", "s", {"netnet": ours, "a": theirs}, base="a", higher=higher)])
    assert one.first.ratio == pytest.approx(ratio)
    assert one.first.standing == standing


@pytest.mark.parametrize(
    "made",
    [
        table("t", "s", {"netnet": [1.0]}),
        table("t", "s", {"gevent": [1.0]}),
        table("t", "s", {"netnet": [1.0], "netnet plain": [1.0]}, base="netnet"),
        table("t", "lost", {"netnet": [0.0], "gevent": [0.0]}),
    ],
)
def test_nothing_to_stand_beside(made):
    assert standings([made]) == []


def test_the_worst_comes_first():
    made = [table(f"case {cost}", "s", {"netnet": [cost], "gevent": [2.0]}, base="gevent") for cost in (1.0, 9.0, 3.0)]
    assert [one.table.title for one in standings(made)] == ["case 9.0", "case 3.0", "case 1.0"]


def test_what_is_ours_and_what_the_base_may_be_workers():
    made = table(
        "w", "a second", {"1 worker": [1.0], "2 workers": [1.9]}, base="1 worker", ours="2 workers", higher=True
    )
    (one,) = standings([made])
    assert (one.first.peer, one.first.standing, one.other) == ("1 worker", "ahead", None)


def test_growth_is_fitted_for_every_peer_and_ours_is_first():
    found = growth.growths([rules(count, 5.0) for count in (10, 100, 1000)])
    assert [(one.subject, one.peer, one.ours, one.fit.model) for one in found] == [
        ("growth: rules", "netnet", True, "flat"),
        ("growth: rules", "dante", False, "linear"),
    ]
    assert growth.growths([rules(10, 5.0)]) == []
    assert growth.growths([handshakes()]) == []


# -- tables


def test_a_table_has_the_base_first_and_then_the_best():
    grid = content.grid(handshakes())
    assert [column.head for column in grid.columns] == [
        "peer",
        "CPU, µs each (less is better)",
        "to microsocks",
        "throughput, a second (more is better)",
        "runs",
    ]
    assert [row.cells[0].text for row in grid.rows] == ["microsocks", "netnet plain", "netnet", "pproxy"]
    assert [row.ours for row in grid.rows] == [False, False, True, False]
    netnet = grid.rows[2].cells
    assert [cell.text for cell in netnet] == ["netnet", "110", "1.38×", "9,000", "3"]
    assert netnet[1].aside == "99 – 121"
    assert netnet[1].value == 110


def test_tables_of_one_chart_at_a_glance():
    one = table("one", "µs", {"C": [1.0], "netnet": [2.0, 4.0]}, base="C", subject="s", place={"connections": 1})
    many = table("many", "µs", {"netnet": [5.0], "Go": [6.0]}, base="C", subject="s", place={"connections": 1000})
    grid = content.by_place([one, many])
    assert [column.head for column in grid.columns] == ["peer", "1 connection", "1,000 connections"]
    assert [[cell.text for cell in row.cells] for row in grid.rows] == [
        ["netnet", "3", "5"],
        ["C", "1", "–"],
        ["Go", "–", "6"],
    ]
    assert [row.ours for row in grid.rows] == [True, False, False]


def test_tables_without_a_chart_at_a_glance():
    grid = content.by_case([table("a", "µs", {"netnet": [1.0]}), table("b", "ms", {"trio": [2.0], "netnet": [3.0]})])
    assert [column.head for column in grid.columns] == ["case", "netnet", "trio"]
    assert [[cell.text for cell in row.cells] for row in grid.rows] == [["a", "1", "–"], ["b", "3", "2"]]


def test_more_is_better_turns_the_order_round():
    rows = content.grid(downloads()).rows
    assert [[cell.text for cell in row.cells] for row in rows] == [
        ["direct", "10", "1.00×", "1.00×", "1"],
        ["netnet", "8", "0.80×", "0.61×", "1"],
        ["ssh -D", "2", "0.20×", "–", "1"],
    ]


def test_a_quantity_that_a_peer_did_not_tell_is_a_dash():
    made = Table("seed", "t", (RATE, CPU, Quantity("never", "s")), base="direct")
    made.add("direct", {"throughput": 2.0})
    made.add("netnet", {"throughput": 1.0, "CPU": 3.0})
    grid = content.grid(made)
    assert [column.head.partition(",")[0] for column in grid.columns] == [
        "peer",
        "throughput",
        "to direct",
        "CPU",
        "runs",
    ]
    assert [row.cells[3].text for row in grid.rows] == ["–", "3"]


def every_row_fits(grid):
    return all(len(row.cells) == len(grid.columns) for row in grid.rows)


def test_every_row_of_a_report_has_a_cell_for_each_column():
    blocks = content.document(everything())
    grids = [block for block in blocks if isinstance(block, Grid)]
    assert len(grids) > 8
    assert all(every_row_fits(grid) for grid in grids)


def test_what_stands_where():
    titles = [block.text for block in content.document(everything()) if isinstance(block, Heading) and block.level == 2]
    assert titles == [
        "Where netnet stands",
        "Targets",
        "How it was measured",
        "handshake",
        "seed",
        "growth",
        "What was not measured",
    ]


def test_a_report_of_nothing_is_one():
    text = markdown.render(run())
    assert "netnet bench run --quick --seed 7" in text
    assert "Where netnet stands" not in text
    assert "</html>" in page.render(run(), None, {})


# -- the terminal


def printed(width, tell, *what):
    out = io.StringIO()
    tell(*what, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_a_table_on_the_terminal():
    text = printed(120, terminal.table, handshakes())
    assert text.startswith("SOCKS5 handshakes, 50 at a time\n")
    assert re.search(r"^microsocks +80 ±10 % +1\.00× +72 – 88 +9,000 ±10 % *$", text, re.MULTILINE)
    assert re.search(r"^netnet +110 ±10 % +1\.38× +99 – 121 ", text, re.MULTILINE)
    assert "  dante is missing: apt install dante-server\n" in text
    assert "  ssh -D failed: ssh ended with status 255: <no> *route*\n" in text
    assert text.endswith("  note: the load was busy\n")
    assert "\x1b" not in text


def test_published_figures_on_the_terminal():
    text = printed(80, terminal.table, downloads())
    assert re.search(r"^netnet +8 +0\.80× +0\.61× *$", text, re.MULTILINE)


def test_a_table_that_nobody_filled():
    made = table("empty", "s", {})
    made.missing["gevent"] = "pip install gevent"
    assert printed(80, terminal.table, made) == "empty\n  gevent is missing: pip install gevent\n"


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_table_keeps_to_the_width_and_loses_nothing(width):
    quantities = tuple(Quantity(f"quantity {number}", "µs a round trip") for number in range(7))
    made = Table("echo", "wide", quantities, base="C epoll")
    for peer in ("C epoll", "asyncio protocol"):
        for share in (0.9, 1.1):
            made.add(peer, {one.name: share * 123456 for one in quantities})
    lines = printed(width, terminal.table, made).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "…" not in text
    assert all(one.name in text for one in quantities)
    parts = sum(line.startswith("C epoll") for line in lines)
    assert parts == sum(line.startswith("asyncio protocol") for line in lines)
    assert (parts > 1) is (width < 200)


def test_colours_are_for_terminals():
    out = io.StringIO()
    terminal.table(
        handshakes(), Console(file=out, width=120, force_terminal=True, color_system="standard", _environ={})
    )
    assert "\x1b[1mnetnet" in out.getvalue()


def test_the_machine_on_the_terminal():
    text = told(terminal.machine, everything())
    assert "netnet 9.9, size quick, seed 7, made 2030-01-02 03:04:05 UTC\n" in text
    assert "  microsocks  1.0.3\n" in text
    assert "  netnet bench run --quick --seed 7\n" in text


def test_standing_and_growth_on_the_terminal():
    text = told(terminal.standing, everything().tables)
    assert re.search(r"handshake +1 cases: +1 behind, +0 level, +0 ahead; worst 1\.38× \(microsocks\), SOCKS5", text)
    assert told(terminal.standing, []) == ""
    text = told(terminal.growth, everything().tables)
    assert "  growth: rules, netnet: flat: 5 to 5 µs from 10 to 1,000 rules\n" in text
    assert told(terminal.growth, [handshakes()]) == ""


# -- Markdown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo, 64 bytes", "echo, 64 bytes"),
        ("a|b", r"a\|b"),
        ("<no> *route* [x] `y` _z_", r"\<no\> \*route\* \[x\] \`y\` \_z\_"),
        ("two\nlines", "two lines"),
        ("- no list", r"\- no list"),
        ("# no heading", r"\# no heading"),
        ("1. no list", r"\1. no list"),
    ],
)
def test_what_means_something_in_markdown_is_escaped(text, expected):
    assert markdown.plain(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("pip install a", "`pip install a`"), ("a `b`", "`` a `b` ``")])
def test_code_in_markdown(text, expected):
    assert markdown.code(text) == expected


def test_markdown():
    text = markdown.render(everything())
    assert "| processor | Some Processor |" in text
    assert "| microsocks | 1.0.3 |" in text
    assert "```\nnetnet bench run --quick --seed 7\n```" in text
    assert "| **netnet** | **110** (99 – 121) | **1.38×** | **9,000** (8,100 – 9,900) | **3** |" in text
    assert "- dante is missing: `apt install dante-server`" in text
    assert r"\<no\> \*route\*" in text
    assert "- the load was busy" in text
    assert "| SOCKS5 handshakes, 50 at a time | microsocks | 1.38× | at most 1.6× | reached |" in text
    assert "linear: +5,000 µs per 1,000 rules; 50 to 5,000 µs from 10 to 1,000 rules" in text
    assert re.search(r"^!\[growth: rules.*\]\(charts/growth-rules\.svg\)$", text, re.MULTILINE)
    columns = [line.count("|") for line in text.splitlines() if line.startswith("| ")]
    assert min(columns) > 2


def test_a_flame_graph_in_markdown():
    text = markdown.render(everything(flames=[Flame("the proxy", "flame-the proxy.svg")]))
    assert "## Flame graphs\n\nthe proxy: [flame-the proxy.svg](flame-the%20proxy.svg)" in text


# -- the page

SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 300"><text>"a" &amp; b</text></svg>\n'

#: elements that have no end
VOID = {"meta", "br", "source", "img"}


class Outline(HTMLParser):
    """What a page consists of; complains of ends that fit no beginning."""

    def __init__(self):
        super().__init__()
        self.open, self.names, self.links, self.frames = [], [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]
        self.frames += [given["srcdoc"]] if "srcdoc" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(text):
    found = Outline()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


FLAMES = [Flame("the proxy", "flame.svg"), Flame("another", "lost.svg")]


@pytest.fixture(scope="module")
def written(fonts, tmp_path_factory):
    """A report in a folder, with a flame graph that is there and one that is not."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "flame.svg").write_text(SVG)
    report.write(everything(flames=FLAMES), folder)
    return folder


def test_a_report_is_written(written):
    names = {path.name for path in written.iterdir()}
    assert names == {"report.md", "report.html", "charts", "flame.svg"}
    stems = set(re.findall(r"\(charts/([^)]+)\.svg\)", (written / "report.md").read_text()))
    assert stems
    files = {f"{stem}{ending}" for stem in stems for ending in (".svg", ".png", "-dark.png")}
    assert files == {path.name for path in (written / "charts").iterdir()}


def test_a_page_is_whole_and_refers_to_nothing_outside(written):
    text = (written / "report.html").read_text()
    found = outline(text)
    assert set(re.findall(r'[a-z]+="?[a-z]+://[^"&]+', text)) <= {'xmlns="http://www.w3.org/2000/svg'}
    assert len(re.findall("://", text)) == len(re.findall(r'xmlns=(?:"|&quot;)http://', text))
    assert found.links
    assert all(link.startswith("#") for link in found.links)
    assert len(set(found.names)) == len(found.names)
    assert {link.removeprefix("#") for link in found.links} <= set(found.names)
    assert "prefers-color-scheme: dark" in text


def test_a_page_says_what_the_markdown_says(written):
    text = (written / "report.html").read_text()
    assert (
        '<tr class="ours"><td>netnet</td><td class="number" data-value="110">110 <small>99 – 121</small></td>' in text
    )
    assert "<li>dante is missing: <code>apt install dante-server</code></li>" in text
    assert "&lt;no&gt; *route*" in text
    for block in content.document(everything()):
        if isinstance(block, Heading):
            assert f">{block.text}</h{block.level}>" in text


def test_flame_graphs_are_in_the_page(written):
    text = (written / "report.html").read_text()
    (frame,) = outline(text).frames
    assert '<text>"a" &amp; b</text></svg>' in frame
    assert "<?xml" not in frame
    assert "aspect-ratio: 1200 / 300" in text
    assert "The flame graph “another” is missing." in text


def test_charts_that_are_not_there_are_told(tmp_path):
    text = page.render(everything(), tmp_path, {})
    assert "The chart “growth: rules: figure, µs” is missing." in text


def test_the_same_results_make_the_same_report(written):
    before = {path: path.read_bytes() for path in written.rglob("*.*")}
    report.write(everything(flames=FLAMES), written)
    assert {path: path.read_bytes() for path in written.rglob("*.*")} == before


def test_a_folder_that_cannot_be_written_to_is_told(fonts, tmp_path):
    (tmp_path / "charts").touch()
    with pytest.raises(UsageError, match=r"charts: cannot be written: .*; choose another --out"):
        report.write(everything(), tmp_path)
