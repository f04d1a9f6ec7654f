"""Lines of a TOML document: a table of forms, and generated documents in which every value says its own line."""

from __future__ import annotations

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netnet.proxy.toml_lines import lines_of

CASES = [
    ("", {}),
    ("# nothing\n\n", {}),
    ("a = 1", {("a",): 1}),
    ("\n# x\n a = 1 # y\r\nb=2", {("a",): 3, ("b",): 4}),
    ("a.b = 1\na.c = 2", {("a",): 1, ("a", "b"): 1, ("a", "c"): 2}),
    ('a . "b.c" . \'d\' = 1', {("a",): 1, ("a", "b.c"): 1, ("a", "b.c", "d"): 1}),
    (r'"a\"\u00e4]" = 1', {('a"ä]',): 1}),
    ("[a]\nb = 1\n[a.c]\nd = 1", {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", "d"): 4}),
    ("[a.b]\nc = 1\n[a]\nd = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 2, ("a", "d"): 4}),
    (
        "[[a]]\nb = 1\n[[a]]\n\nb = 2\n[a.c]\nd = 3",
        {
            ("a",): 1,
            ("a", 0): 1,
            ("a", 0, "b"): 2,
            ("a", 1): 3,
            ("a", 1, "b"): 5,
            ("a", 1, "c"): 6,
            ("a", 1, "c", "d"): 7,
        },
    ),
    (
        "[[a]]\n[[a.b]]\n[[a.b]]\n[[a]]\n[[a.b]]\nc = 1",
        {
            ("a",): 1,
            ("a", 0): 1,
            ("a", 0, "b"): 2,
            ("a", 0, "b", 0): 2,
            ("a", 0, "b", 1): 3,
            ("a", 1): 4,
            ("a", 1, "b"): 5,
            ("a", 1, "b", 0): 5,
            ("a", 1, "b", 0, "c"): 6,
        },
    ),
    ("a = [ # x ]\n 1,\n\n [2, # ]\n 3],]\nb = 1", {
        ("a",): 1, ("a", 0): 2, ("a", 1): 4, ("a", 1, 0): 4, ("a", 1, 1): 5, ("b",): 6,
    }),
    ("a = []\nb = [\n]\nc = {}\nd = { }", {("a",): 1, ("b",): 2, ("c",): 4, ("d",): 5}),
    ("a = { b = 1, c.d = [\n1,\n2] }\ne = 1", {
        ("a",): 1, ("a", "b"): 1, ("a", "c"): 1, ("a", "c", "d"): 1, ("a", "c", "d", 0): 2, ("a", "c", "d", 1): 3, ("e",): 4,
    }),
    ('a = """\n[x]\nb = 1"""\nc = 1', {("a",): 1, ("c",): 4}),
    ('a = """x\\"""" \nc = """"y""""" # "\nd = """"""\ne = 1', {("a",): 1, ("c",): 2, ("d",): 3, ("e",): 4}),
    ("a = '''x\n'y\\''''\nc = ''''''\nd = ''\ne = 1", {("a",): 1, ("c",): 3, ("d",): 4, ("e",): 5}),
    ('a = "]#\\"\\\\"\nb = \'"#\'\nc = 1979-05-27 07:32:00\nd = -inf\ne = true', {
        ("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4, ("e",): 5,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_lines(text, expected):
    tomllib.loads(text)
    assert lines_of(text) == expected


# -- documents in which every value says its own line: "@@" becomes the number of the line that it stands in

BLANKS = st.sampled_from(["", " ", "\t "])
BREAKS = st.sampled_from(["", " ", "\n", ' # ] } = "\n', "\n\n  "])
LINES = st.sampled_from(["", "\n", "# [[x]]\n", "  # '''\n\n"])
VALUES = st.sampled_from(
    [
        "@@",
        '"L@@"',
        "'L@@'",
        '"L@@ \\" ] # \\\\"',
        "'L@@ \" } \\'",
        '"""L@@\n[[x]]\n"" y = 1 \\""""""',
        "'''L@@\n'' # \\\n = ''''",
        '"""L@@\\\n   x"""',
    ]
)
KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,3}", fullmatch=True).filter(lambda key: key != "_at"),
    st.sampled_from(["", "a.b", "# x", "[y]", 'q"u', "ä", "\\", "=", "'", "\t"]),
)


@st.composite
def written_keys(draw, key):
    if re.fullmatch(r"[A-Za-z0-9_-]+", key) and draw(st.booleans()):
        return key
    if "'" not in key and draw(st.booleans()):
        return f"'{key}'"
    escaped = key.replace("\\", "\\\\").replace('"', '\\"').replace("ä", "\\u00e4").replace("\t", "\\t")
    return f'"{escaped}"'


@st.composite
def values(draw, depth=2):
    kind = draw(st.sampled_from(["value", "value", "array", "table"])) if depth else "value"
    if kind == "value":
        return draw(VALUES)
    if kind == "array":
        items = draw(st.lists(values(depth=depth - 1), max_size=3))
        text = ",".join(draw(BREAKS) + item + draw(BREAKS) for item in items)
        return f"[{text}{draw(BREAKS)}]"
    keys = draw(st.lists(KEYS, max_size=3, unique=True))
    return "{" + ",".join([draw(statements(key, depth - 1, end=draw(BLANKS))) for key in keys]) + "}"


@st.composite
def statements(draw, key, depth=2, end="\n"):
    left = draw(written_keys(key))
    if draw(st.integers(0, 4)) == 0:
        left += draw(BLANKS) + "." + draw(BLANKS) + draw(written_keys(draw(KEYS)))
    return f"{draw(BLANKS)}{left}{draw(BLANKS)}={draw(BLANKS)}{draw(values(depth=depth))}{end}"


@st.composite
def tables(draw, prefix=(), depth=2):
    keys = draw(st.lists(KEYS, max_size=4, unique=True))
    split = draw(st.integers(0, len(keys)))
    text = "".join(draw(LINES) + draw(statements(key)) for key in keys[:split])
    for key in keys[split:] if depth else ():
        path = (*prefix, key)
        several = draw(st.integers(0, 2))
        for _ in range(several or 1):
            name = ".".join([draw(written_keys(part)) for part in path])
            header = f"[[{name}]]" if several else f"[ {name} ]"
            text += f"{draw(LINES)}{header} # x\n_at = @@\n{draw(tables(path, depth - 1))}"
    return text


def check(value, path, lines):
    if isinstance(value, dict):
        for key, inner in value.items():
            assert (*path, key) in lines
            check(inner, (*path, key), lines)
        if "_at" in value:
            table = value["_at"] - 1
            assert lines[path] == table if isinstance(path[-1], int) else lines[path] <= table
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check(inner, (*path, index), lines)
    else:
        assert lines[path] == int(re.match(r"L?(\d+)", str(value))[1])


@given(tables(), st.sampled_from(["\n", "\r\n"]))
def test_every_value_is_where_it_says(text, end):
    text = "\n".join(line.replace("@@", str(number)) for number, line in enumerate(text.split("\n"), 1))
    text = text.replace("\n", end)
    document = tomllib.loads(text)
    lines = lines_of(text)
    check(document, (), lines)
    assert set(lines) == paths(document)


def paths(value, path=()):
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return {(*path, key) for key, _ in inner}.union(*(paths(one, (*path, key)) for key, one in inner))
