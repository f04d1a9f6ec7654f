"""The files that show stacks: well-formed, whole, the same each time, and safe whatever frames are called."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from netnet.errors import UsageError
from netnet.flame import page, speedscope, svg
from netnet.flame.frames import ROOMS
from netnet.flame.stacks import Stacks, parse
from netnet.flame.writing import FORMATS, SUFFIXES, About, format_of, table, write

NASTY = '<script>alert("x")</script> & ]]> \x01\n\ud800 \' --> é (x.py:3)'

CASES = {
    "nothing": Stacks(),
    "one": Stacks({("main (x.py:1)",): 1}),
    "no frames": Stacks({(): 3}),
    "two": Stacks({("main (x.py:1)", "a (x.py:2)"): 30, ("main (x.py:1)", "b (x.py:3)"): 10}),
    "nasty": Stacks({("task: " + NASTY, NASTY): 3, (NASTY,): 2}),
    "deep": Stacks({tuple(f"f{n} (x.py:{n})" for n in range(1500)): 1}),
    "rooms": Stacks({("task: a", "f (netnet/net/x.py:1)", "g (netnet/runtime/y.py:2)", "send (libc.so.6)"): 9}),
}

ABOUT = About(NASTY, "python <server>.py & more", 200.0, 1.5, "a sampler")

SPACE = "{http://www.w3.org/2000/svg}"


def frames(text):
    """Of each frame of a picture: its name, samples, row, left edge and width."""
    root = ElementTree.fromstring(text)
    found = []
    for group in root.iter(f"{SPACE}g"):
        if group.get("data-n") is not None:
            box = group.find(f"{SPACE}rect")
            found.append(
                (
                    group.get("data-n"),
                    int(group.get("data-w")),
                    int(group.get("data-r")),
                    float(box.get("x")),
                    float(box.get("width")),
                )
            )
    return found


@pytest.mark.parametrize("case", CASES)
def test_svg_is_well_formed(case):
    text = svg.render(CASES[case], title=NASTY, subtitle=NASTY)
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SPACE}svg"
    assert [one.tag for one in root.iter(f"{SPACE}script")] == [f"{SPACE}script"]
    assert text == svg.render(CASES[case], title=NASTY, subtitle=NASTY)


def test_svg_widths_are_shares():
    found = {name: (samples, row, left, width) for name, samples, row, left, width in frames(svg.render(CASES["two"]))}
    whole = found["main (x.py:1)"]
    assert whole[:2] == (40, 1)
    assert found["a (x.py:2)"][:2] == (30, 2)
    assert found["b (x.py:3)"][:2] == (10, 2)
    assert found["a (x.py:2)"][3] == pytest.approx(whole[3] * 0.75, abs=1)
    assert found["b (x.py:3)"][2] == pytest.approx(whole[2] + whole[3] * 0.75, abs=1)


def test_svg_leaves_out_what_is_too_thin():
    stacks = Stacks({("wide",): 1_000_000, ("thin", "below"): 1})
    assert [name for name, *_ in frames(svg.render(stacks))] == ["all", "wide"]


def test_svg_tells_each_frame_and_has_both_schemes():
    text = svg.render(CASES["two"], title="A title", subtitle="how it was made")
    root = ElementTree.fromstring(text)
    titles = {one.findtext(f"{SPACE}title") for one in root.iter(f"{SPACE}g")}
    assert "a (x.py:2): 30 samples, 75.00 %" in titles
    assert "prefers-color-scheme: dark" in root.findtext(f"{SPACE}style")
    assert {"A title", "how it was made"} <= {one.text for one in root.iter(f"{SPACE}text")}


def test_svg_needs_no_other_file():
    text = svg.render(CASES["rooms"])
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"\b(src|href)=|@import|url\(", text)


def test_svg_legend_has_the_rooms_that_are_there():
    text = svg.render(CASES["rooms"])
    shown = {one.text for one in ElementTree.fromstring(text).iter(f"{SPACE}text") if one.get("class") == "key"}
    assert shown == {ROOMS[name] for name in ("task", "net", "runtime", "native")}
    styles = svg._part("graph.css")
    assert all(f".flame .{name} rect" in styles and f"--{name}:" in styles for name in ROOMS)


def test_every_frame_has_the_colour_of_its_room():
    root = ElementTree.fromstring(svg.render(CASES["rooms"]))
    classes = {one.get("data-n"): one.get("class").split()[1] for one in root.iter(f"{SPACE}g") if one.get("data-n")}
    assert classes == {
        "all": "all",
        "task: a": "task",
        "f (netnet/net/x.py:1)": "net",
        "g (netnet/runtime/y.py:2)": "runtime",
        "send (libc.so.6)": "native",
    }


class Elements(HTMLParser):
    """The elements of a page that are open, and all that were."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("case", [name for name in CASES if name != "deep"])
def test_page_is_whole(case):
    text = page.render(CASES[case], NASTY, [("Sampled", NASTY)])
    elements = Elements()
    elements.feed(text)
    assert elements.open == []
    assert elements.seen.count("script") == 1
    assert elements.seen.count("svg") == 1
    assert not re.search(r"\b(src|href)=", text)


def test_page_has_facts_and_the_top_frames():
    text = page.render(CASES["two"], "A title", [("Sampled", "python server.py")])
    assert "<dt>Sampled</dt><dd>python server.py</dd>" in text
    assert '<td class="n">75.0 %</td>' in text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_speedscope(case, rate):
    """The keys that https://www.speedscope.app/file-format-schema.json requires, and that numbers fit together."""
    stacks = CASES[case]
    whole = json.loads(speedscope.render(stacks, "title", rate))
    assert whole["$schema"] == speedscope.SCHEMA
    (profile,) = whole["profiles"]
    assert set(profile) >= {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
    assert profile["type"] == "sampled"
    assert profile["unit"] in ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes")
    assert len(profile["samples"]) == len(profile["weights"]) == len(stacks)
    assert profile["endValue"] == sum(profile["weights"])
    assert sum(profile["weights"]) * (rate or 1) == pytest.approx(stacks.total)
    shared = whole["shared"]["frames"]
    assert all(isinstance(frame["name"], str) for frame in shared)
    assert {number for stack in profile["samples"] for number in stack} == set(range(len(shared)))


def test_speedscope_knows_files_and_lines():
    whole = json.loads(speedscope.render(Stacks({("task: a", "f (x/y.py:12)", "send (libc.so.6)"): 1})))
    assert sorted(whole["shared"]["frames"], key=lambda one: one["name"]) == [
        {"name": "f", "file": "x/y.py", "line": 12},
        {"name": "send", "file": "libc.so.6"},
        {"name": "task: a"},
    ]


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [(f"out{ending}", None, kind) for ending, kind in SUFFIXES.items()]
    + [("OUT.SVG", None, "svg"), ("out", "html", "html"), ("out.svg", "folded", "folded")],
)
def test_format_of(tmp_path, name, wanted, expected):
    assert format_of(tmp_path / name, wanted) == expected


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("out", None, "the name says no format"),
        ("out.png", None, r"one of .*\.svg"),
        ("out.svg", "pdf", "no format 'pdf'"),
        ("no/such/folder/out.svg", None, "there is no folder"),
        ("folder.svg", None, "is a folder"),
    ],
)
def test_format_of_refuses(tmp_path, name, wanted, message):
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match=message):
        format_of(tmp_path / name, wanted)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_write(tmp_path, kind, case):
    out = tmp_path / "out"
    out.write_text("before")
    write(out, CASES[case], ABOUT, kind)
    assert out.read_bytes() != b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    if kind == "folded":
        assert parse(out.read_text()).total == CASES[case].total


def test_write_says_where_it_cannot(tmp_path):
    with pytest.raises(UsageError, match=r"/proc/no\.svg cannot be written"):
        write("/proc/no.svg", CASES["one"], ABOUT)


def test_table():
    assert table(CASES["two"], 2).splitlines() == [
        "   self   total  frame",
        " 75.0 %  75.0 %  a (x.py:2)",
        " 25.0 %  25.0 %  b (x.py:3)",
    ]
    assert table(Stacks(), 5) == "   self   total  frame"
