"""The bench in its smallest size: each family runs with the peers that are here and gives a figure for each. Says
nothing of speed. Peers from PyPI that the tests do not install count as missing, and are named so."""

from __future__ import annotations

import re
import shutil
import sys

import pytest

from netnet.bench import __main__ as command
from netnet.bench import families, report
from netnet.bench.families import FAMILIES, SMOKE, Figures

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("handshake", "idle")])
def test_family(name):
    for figures in FAMILIES[name](SMOKE, lambda what: None):
        assert figures.samples["netnet"]
        assert figures.base in figures.samples
        assert report.table(figures)


@pytest.mark.client("microsocks")
@pytest.mark.parametrize("name", ["handshake", "idle"])
def test_family_against_microsocks(name):
    (figures,) = FAMILIES[name](SMOKE, lambda what: None)
    assert set(figures.samples) == {"netnet", "microsocks"}
    assert not any("failed" in note for note in figures.notes)


def test_nothing_is_lost():
    (figures,) = families.hold(SMOKE, lambda what: None)
    assert figures.samples["netnet"] == [0]


def test_missing_peers_are_named(monkeypatch):
    monkeypatch.setattr(families, "_has", lambda *modules: False)
    figures = Figures("t", "u")
    peers = families._echo_peers(figures)
    assert set(peers) == {"C epoll", "netnet", "asyncio streams"}
    assert "pip install gevent" in figures.missing.values()
    assert "missing: pip install gevent" in report.table(figures)


def test_targets_tell_reached_and_missed(capsys):
    figures = Figures("relay of bulk data, one way, one stream", "s", {"C splice": [1.0, 3.0, 2.0], "netnet": [2.2]})
    report.targets([figures], print)
    assert re.search(r"1\.10× +target 1\.15×: reached", capsys.readouterr().out)
    figures.samples["netnet"] = [2.4]
    report.targets([figures], print)
    assert re.search(r"1\.20× +target 1\.15×: missed", capsys.readouterr().out)


def test_unknown_family_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["nonsense"])
    assert stop.value.code == 2
    assert "no such family: nonsense; there are: echo" in capsys.readouterr().err
