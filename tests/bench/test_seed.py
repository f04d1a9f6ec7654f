"""The family "seed": downloads on loopback and over a far link, their hashes, what was published, and flame graphs."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from xml.etree import ElementTree

import pytest

from netnet.bench.families import proxies, seed
from netnet.bench.figures import FULL, SMOKE
from netnet.bench.link import LinkMissing
from netnet.bench.processes import BenchError
from netnet.errors import UsageError
from netnet.flame.stacks import Stacks

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the downloads need a C compiler"),
]

PEERS = ["direct", "netnet", "microsocks", "dante", "ssh -D", "pproxy", "pproxy uvloop", "C fork"]


def peers(case):
    return {*case.measures, *case.table.missing}


# -- the cases


def test_what_is_compared():
    cases = seed.seed(dataclasses.replace(FULL, link_mbit_s=120.0))
    assert [case.table.title for case in cases] == [
        "download of 5 MB on loopback",
        "download of 100 MB on loopback",
        "download of 5 MB over a link of 97 ms and 120 Mbit/s",
        "download of 100 MB over a link of 97 ms and 120 Mbit/s",
    ]
    assert [case.rounds for case in cases] == [None, None, None, 3]
    for case in cases:
        assert peers(case) == set(PEERS)
        assert set(case.table.published) == {"direct", "netnet", "ssh -D", "C fork"}


@pytest.mark.parametrize(("place", "expected"), [(0, [1, 0.906, 0.535, 0.961]), (1, [1, 0.613, 0.221, 0.752])])
def test_what_was_published_is_told_as_ratios(place, expected):
    published = seed.seed(FULL)[place].table.published
    ratios = [published[peer] for peer in ("direct", "netnet", "ssh -D", "C fork")]
    assert ratios == pytest.approx(expected, abs=0.001)


def test_of_other_downloads_nothing_was_published():
    assert [case.table.published for case in seed.seed(SMOKE)] == [{}, {}]


def test_the_queue_holds_what_is_on_its_way():
    assert seed.queue_kb(120) == pytest.approx(1455)


def test_where_no_link_can_be_made(monkeypatch):
    monkeypatch.setattr(seed, "no_link", lambda: "needs root")
    case = seed.seed(SMOKE)[1]
    assert case.measures == {}
    assert case.table.missing["direct"] == "needs root"
    assert set(case.table.missing) == set(PEERS)


def test_why_no_link_can_be_made(monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "/dev/net/tun" in (seed.no_link() or "")
    monkeypatch.setattr("os.access", lambda path, mode: True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert seed.no_link() == "apt install util-linux"


# -- measuring


@pytest.mark.parametrize("peer", PEERS)
def test_on_loopback(peer):
    case = seed.seed(SMOKE)[0]
    if peer in case.table.missing:
        pytest.skip(case.table.missing[peer])
    sample = case.measures[peer]()
    assert sample["throughput"] == pytest.approx(0.1 / sample["time"])
    assert 0 < sample["first byte"] <= sample["time"] * 1000
    assert f"hash of what came, in each download: {seed.expected_hash(SMOKE.seed, 100_000)}" in case.table.notes


@pytest.mark.parametrize("peer", PEERS)
def test_over_the_link(peer):
    case = seed.seed(SMOKE)[1]
    if peer in case.table.missing:
        pytest.skip(case.table.missing[peer])
    try:
        sample = case.measures[peer]()
    except LinkMissing as reason:
        pytest.skip(str(reason))
    assert sample["first byte"] >= 2 * seed.DELAY_MS
    assert sample["time"] >= 2 * seed.DELAY_MS / 1000


@pytest.mark.parametrize(("peer", "told"), [("direct", False), ("netnet", True)])
def test_processor_time_is_told_where_there_is_enough(peer, told):
    size = dataclasses.replace(SMOKE, download_bytes=(50_000_000,), seconds=0)
    sample = seed.seed(size)[0].measures[peer]()
    assert ("CPU" in sample) is told


def test_the_seed_makes_other_files():
    assert len({seed.expected_hash(*what) for what in ((1, 1000), (2, 1000), (1, 1001))}) == 3


def test_wrong_bytes_are_found(monkeypatch):
    monkeypatch.setattr(seed, "expected_hash", lambda number, count: "0123456789abcdef")
    with pytest.raises(BenchError, match=r"brought 1 with hash \w+, not 0123456789abcdef"):
        seed.seed(SMOKE)[0].measures["direct"]()


@contextlib.contextmanager
def refusing(place, port):
    source = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print('port', s.getsockname()[1], flush=True)\n"
    )
    yield proxies.Ready([sys.executable, "-c", f"{source}while True: s.accept()[0].close()"], 0)


def test_a_download_that_fails_is_told(monkeypatch):
    monkeypatch.setitem(proxies.PEERS, proxies.OURS, proxies.PEERS[proxies.OURS]._replace(prepare=refusing))
    with pytest.raises(BenchError, match="ended with status 1: .*proxy"):
        seed.seed(SMOKE)[0].measures["netnet"]()


# -- flame graphs


def test_flame_graphs(tmp_path):
    size = dataclasses.replace(SMOKE, seconds=0.05, download_bytes=(10_000_000,))
    try:
        flames = seed.flames(size, tmp_path)
    except UsageError as error:  # py-spy, or the right to look into other processes, is missing
        pytest.skip(str(error))
    assert [flame.file for flame in flames] == [
        "flame-downloads.svg",
        "flame-downloads-by-task.svg",
        "flame-handshakes.svg",
        "flame-handshakes-by-task.svg",
    ]
    assert len({flame.title for flame in flames}) == 4
    for flame in flames:
        ElementTree.parse(tmp_path / flame.file)
    assert "group: " in (tmp_path / "flame-handshakes-by-task.svg").read_text()


def test_a_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="choose another --out"):
        seed._drawn(Stacks({("a",): 1}), "t", "s", file / "flame.svg")
