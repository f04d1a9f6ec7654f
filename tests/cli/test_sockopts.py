"""``netnet sockopts``: every option in the table and in JSON, one in full, a filter that finds nothing, and that the
documentation page is what the command prints."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import netnet
from netnet.cli import sockopts
from netnet.cli.main import main

ROOT = Path(netnet.__file__).parent.parent.parent


def told(capsys, *arguments):
    """What the command prints."""
    assert main(["sockopts", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_table_has_a_line_for_every_option(capsys):
    lines = told(capsys).splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ")} == set(netnet.OPTIONS)
    assert sum(line in sockopts.HEADINGS.values() for line in lines) == 7
    supported, missing = (int(word) for word in lines[-1].split() if word.isdigit())
    assert supported + missing == len(netnet.OPTIONS)
    assert missing == sum("not here: " in line for line in lines)


def test_json_has_everything_that_is_known(capsys):
    rows = json.loads(told(capsys, "--json"))
    assert {row["name"] for row in rows} == set(netnet.OPTIONS)
    (row,) = (row for row in rows if row["name"] == "keepidle")
    assert (row["constant"], row["type"], row["access"], row["on"]) == (
        "TCP_KEEPIDLE",
        "integer, seconds",
        "read, set",
        "TCP",
    )
    with netnet.Socket() as sock:
        assert row["default"] == sock.keepidle
    assert row["supported"] is True
    assert row["reason"] is None
    assert all(row["supported"] or row["reason"] for row in rows)
    (info,) = (row for row in rows if row["name"] == "info")
    assert info["default"]["state"] == "CLOSED"


@pytest.mark.parametrize("text", ["nodelay", "NODELAY", "TCP_NODELAY", "tcp_nodel"])
def test_few_are_told_in_full(capsys, text):
    out = told(capsys, text)
    assert out.startswith("nodelay (TCP_NODELAY, number 1 of ")
    assert netnet.find_option("nodelay").meaning.split()[0] in out
    assert "yes, by default False" in out


def test_a_filter_may_find_many(capsys):
    out = told(capsys, "multicast")
    assert "multicast_ttl" in out
    assert "nodelay" not in out


def test_a_filter_that_finds_nothing_is_an_error_with_a_hint(capsys):
    assert main(["sockopts", "nodelya"]) == 1
    assert capsys.readouterr().err == (
        "netnet: no socket option has 'nodelya' in its name; near it: nodelay, tcp_nodelay, nodefrag\n"
    )


def test_it_opens_nothing_for_good(capsys):
    before = set(os.listdir("/proc/self/fd"))
    told(capsys, "--json")
    assert set(os.listdir("/proc/self/fd")) == before


def test_lines_fit_the_terminal():
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as reader:
        environment = os.environ | {"COLUMNS": "80"}
        with subprocess.Popen(
            [sys.executable, "-m", "netnet", "sockopts", "multicast"], stdout=theirs, env=environment
        ) as process:
            os.close(theirs)
            out = b""
            try:
                while chunk := reader.read(65536):
                    out += chunk
            except OSError:  # the other end is closed
                pass
        assert process.returncode == 0
    lines = out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("...") for line in lines)


def test_the_documentation_page_is_what_the_command_prints(capsys):
    assert (ROOT / "docs" / "options.md").read_text() == told(capsys, "--markdown")


def test_the_documentation_page_has_every_option_and_nothing_of_this_machine():
    page = sockopts.markdown()
    for name, option in netnet.OPTIONS.items():
        row = f"| `{name}`<br>`{option.constant}` | {option.value.says} |"
        assert row in page
    assert page.count("\n| `") == len(netnet.OPTIONS)


@pytest.mark.parametrize("name", sorted(netnet.OPTIONS))
def test_rows_of_the_page_are_not_broken_by_what_stands_in_them(name):
    option = netnet.OPTIONS[name]
    assert not any("|" in text or "\n" in text for text in sockopts.about(option).values() if isinstance(text, str))
