"""Charts: which there are and what they show, and that a drawing is well-formed, the same each time, and all there.

What they look like is for eyes; here every kind is drawn, from one lone figure to many decades.
"""

from __future__ import annotations

import re
import struct
import warnings
import xml.etree.ElementTree as ElementTree

import pytest

from netnet.bench.figures import Quantity, Table
from netnet.bench.report import palette, plan
from netnet.bench.report.plan import plans
from netnet.bench.results import Results
from tests.bench.tables import table

pytestmark = pytest.mark.usefixtures("fonts")

ECHO = (Quantity("CPU", "µs a round trip"), Quantity("throughput", "a second", higher=True), Quantity("p99", "µs"))
NAMES = "{http://www.w3.org/2000/svg}"


def echo(connections, size=64, peers=("C epoll", "netnet", "gevent"), **more):
    """A table of the family "echo" at one place."""
    made = Table(
        "echo",
        f"echo, {size} bytes, {connections} connections",
        ECHO,
        "C epoll",
        subject="echo",
        place={"connections": connections, "bytes": size},
        **more,
    )
    for number, peer in enumerate(peers, 1):
        for share in (0.9, 1.0, 1.2):
            cost = number * share * 4
            made.add(peer, {"CPU": cost, "throughput": 1e6 / cost, "p99": 100 * cost * connections})
    return made


def grown(things, count, value, subject="rules"):
    return table(
        f"growth: {things} of {subject}",
        "µs",
        {"netnet": [value] * count},
        family="growth",
        subject=subject,
        place={subject: things},
    )


# -- which charts


def test_a_family_with_an_axis_has_lines_and_a_panel_for_each_combination_of_the_others():
    found = plans([echo(connections, size) for size in (64, 102_400) for connections in (1, 100, 5000)])
    assert [one.chart.stem for one in found] == ["echo", "echo-throughput", "echo-p99"]
    assert [one.chart.title for one in found] == [
        "echo: CPU, µs a round trip",
        "echo: throughput, a second",
        "echo: p99, µs",
    ]
    first = found[0]
    assert first.axis == "connections"
    assert [panel.title for panel in first.panels] == ["64 bytes", "100 KiB"]
    assert set(first.panels[0].values) == {"C epoll", "netnet", "gevent"}
    netnet = first.panels[0].values["netnet"]
    assert list(netnet) == [1, 100, 5000]
    assert (netnet[1].least, netnet[1].middle, netnet[1].most) == pytest.approx((7.2, 8.0, 9.6))
    assert plan.peers_of(first) == ["netnet", "C epoll", "gevent"]
    assert "less is better" in first.chart.alt
    assert "Lines along the number of connections in 2 panels" in first.chart.alt


@pytest.mark.parametrize(
    ("tables", "axis"),
    [
        ([echo(1), echo(2), echo(3)], "connections"),
        ([echo(1), echo(2)], None),  # too few places
        ([echo(1), echo(2), echo(3), echo(3)], None),  # two tables at one place
        ([echo(1), echo(2), table("without a place", "µs a round trip", {}, subject="echo")], None),
        ([grown(10, 2, 1.0), grown(100, 2, 1.0)], "rules"),
        ([grown(10, 2, 1.0)], None),
        ([table("one", "µs", {})], None),
    ],
)
def test_when_there_are_lines(tables, axis):
    assert plan.axis_of(tables) == axis


def test_tables_without_subject_share_a_chart_where_they_measure_the_same():
    there = [
        table("spawn", "µs", {"netnet": [1.0], "gevent": [2.0]}, family="runtime"),
        table("turns", "µs", {"netnet": [1.0], "gevent": [2.0]}, family="runtime"),
        table("sleepers", "kB", {"netnet": [1.0], "gevent": [2.0]}, family="runtime"),
        table("alone", "µs", {"netnet": [1.0], "gevent": [2.0]}, family="start"),
    ]
    found = plans(there)
    assert [(one.chart.stem, [panel.title for panel in one.panels]) for one in found] == [
        ("runtime", ["spawn", "turns"]),
        ("runtime-sleepers", [""]),
        ("start-alone", [""]),
    ]


def test_stems_are_unique():
    there = [
        table(title, unit, {"netnet": [1.0], "a": [2.0]}) for title in ("a b", "a-b") for unit in ("µs", "ms", "s")
    ]
    stems = [one.chart.stem for one in plans(there)]
    assert len(set(stems)) == len(stems) == 3
    assert all(re.fullmatch(r"[a-z0-9-]+", stem) for stem in stems)


@pytest.mark.parametrize(
    "there",
    [
        [],
        [table("nothing was measured", "s", {})],
        [table("one figure", "s", {"netnet": [0.0, 0.0]})],
    ],
)
def test_what_has_no_chart(there):
    assert plans(there) == []


def test_published_ratios_become_figures():
    made = table("download", "MB/s", {"direct": [10.0, 20.0, 14.0], "netnet": [12.0]}, base="direct", higher=True)
    made.published = {"direct": 1.0, "netnet": 0.5}
    (found,) = plans([made])
    assert found.panels[0].published == {"direct": 14.0, "netnet": 7.0}


#: peers that meet in a chart
MEETING = (
    "netnet; C epoll; Go; uvloop protocol; uvloop streams; gevent; eventlet; trio; asyncio protocol; asyncio streams",
    "netnet; netnet SOCKS4; netnet plain; microsocks; dante; ssh -D; pproxy; pproxy uvloop; C fork; direct",
    "netnet; netnet proxy; C splice; C copy; microsocks",
    "netnet; gevent; asyncio; trio; threads",
)


def test_looks_are_told_apart():
    """No two that meet have both colour and mark."""
    for peers in (meeting.split("; ") for meeting in MEETING):
        looks = [palette.look(peer) for peer in peers]
        assert len({(one.role, one.second, one.mark) for one in looks}) == len(peers)
        assert [peer for peer in peers if palette.look(peer).role == "ours"] == [
            peer for peer in peers if peer.startswith("netnet")
        ]
    assert palette.look("netnet, in another use").role == "ours"
    assert palette.look("somebody else") == palette.look("somebody else")


# -- drawing


def drawn(*tables):
    """The SVGs of all charts of these tables; every warning is an error."""
    from netnet.bench.report import charts

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [charts.svg(one) for one in plans(tables)]


LINES = [echo(connections) for connections in (1, 100, 5000)]
DRAWN = [
    LINES,
    [table("bars", "s", {"netnet": [1.0, 2.0], "C epoll": [1.5], "pproxy uvloop": [3.0]})],
    [table("decades", "s", {"netnet": [0.001, 0.002], "C epoll": [1500.0]})],
    [table("nothing", "lost", {"netnet": [0.0], "C epoll": [0.0]})],
    [table("differences", "%", {"netnet": [-1.0, 2.0, -0.5], "gevent": [-3.0]})],
    [table("a title of $many$ words & <signs> " * 4, "s", {"netnet": [1.0], "a peer that nobody knows": [2.0]})],
    [grown(10, 3, 1.0), grown(100, 3, 1000.0)],
    [grown(10, 1, 0.0), grown(100, 1, 0.0)],
    [table(f"panel {number}", "s", {"netnet": [1.0], "gevent": [2.0]}) for number in range(5)],
]


@pytest.mark.parametrize("tables", DRAWN)
def test_every_kind_is_drawn(tables):
    for text in drawn(*tables):
        root = ElementTree.fromstring(text)
        assert root.tag == f"{NAMES}svg"
        assert root.get("class") == "chart"
        assert root.find(f"{NAMES}title").text == root.get("aria-label")
        assert "#fe01" not in text, "a placeholder is left"
        assert "nan" not in text
        assert re.findall(r'[a-z]+://[^"]+', text) == ["http://www.w3.org/2000/svg"]
        names = re.findall(r'\bid="([^"]+)"', text)
        assert len(set(names)) == len(names)
        for name in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
            assert name in names


def test_text_stays_text_and_says_what_is_measured():
    text = drawn(*LINES)[0]
    told = {element.text for element in ElementTree.fromstring(text).iter(f"{NAMES}text")}
    assert {"echo", "64 bytes", "connections", "CPU, µs a round trip", "netnet", "C epoll", "1", "100", "5k"} <= told
    assert "CPU, µs a round trip; less is better; median, and range of the runs" in told


def test_bars_have_their_median_in_digits():
    (text,) = drawn(table("bars", "s", {"netnet": [1.21, 1.23, 1.29], "C epoll": [4500.2]}))
    told = {element.text for element in ElementTree.fromstring(text).iter(f"{NAMES}text")}
    assert {"1.23", "4,500", "netnet", "C epoll"} <= told


def test_a_drawing_follows_the_scheme_of_who_looks():
    text = drawn(*LINES)[0]
    assert "prefers-color-scheme: dark" in text
    declared = set(re.findall(r"(--chart-[a-z]+):", text))
    used = set(re.findall(r"var\((--chart-[a-z]+)\)", text))
    assert used <= declared
    assert {"--chart-ground", "--chart-ink", "--chart-ours"} <= used


def test_names_of_two_charts_do_not_clash():
    names = [set(re.findall(r'\bid="([^"]+)"', text)) for text in drawn(*LINES)]
    assert not set.intersection(*names)


def test_the_same_figures_make_the_same_drawing():
    assert drawn(*LINES) == drawn(*LINES)


def test_settings_are_as_before(monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "font.size", 33.0)
    before = dict(matplotlib.rcParams)
    text = drawn(*LINES)[0]
    assert dict(matplotlib.rcParams) == before
    assert "33px" not in text


def test_files(tmp_path):
    from netnet.bench.report import charts

    made = Results(
        "2030-01-01T00:00:00Z", "1", "smoke", 1, "", "", {}, {}, [table("t", "s", {"netnet": [1], "a": [2]})]
    )
    (chart,) = charts.draw(made, tmp_path)
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == [
        f"{chart.stem}{end}" for end in ("-dark.png", ".png", ".svg")
    ]
    for name in (f"{chart.stem}.png", f"{chart.stem}-dark.png"):
        head = (tmp_path / "charts" / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert 600 < struct.unpack(">I", head[16:20])[0] <= 1600
