"""The proxy's protocols under a search for bytes that they cannot take: a short one here, each time the same; a long one
is ``python tests/socks/fuzz_handshake.py``. And that what is checked there can fail.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from netnet import ProtocolError
from netnet.socks import ClientHandshake, ServerHandshake, socks5
from netnet.socks.http import HttpClient, HttpServer
from netnet.socks.proxy_protocol import ProxyHeader
from tests.socks import fuzz_targets
from tests.socks.fuzz_targets import SEEDS, TARGETS, check

SCRIPT = Path(__file__).with_name("fuzz_handshake.py")

#: about 5 seconds
RUNS = 15_000

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it is in the 'dev' extra, and has wheels for Linux on x86-64 only",
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_seeds(target):
    inputs = [seed for seed in SEEDS if TARGETS[seed[0]] is target]
    assert inputs
    for seed in inputs:
        check(seed)
        for place in range(2, len(seed)):
            check(seed[:place])


def search(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=50, cwd=SCRIPT.parent
    )


@needs_atheris
def test_a_search_finds_nothing(tmp_path):
    done = search(f"-runs={RUNS}", "-seed=1928", f"-artifact_prefix={tmp_path}/")
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stderr


@needs_atheris
def test_a_file_is_tried_again(tmp_path):
    (tmp_path / "found").write_bytes(SEEDS[0])
    done = search(str(tmp_path / "found"))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Executed" in done.stderr


def faults():
    """Ways to be wrong: what is replaced, where, by what."""
    parse, feed = socks5.parse_request, HttpServer.feed

    def reads_one_byte_too_many(buffer):
        found = parse(buffer)
        return found and (found[0], min(found[1] + 1, len(buffer)))

    def raises_another_error(self, data):
        try:
            return feed(self, data)
        except ProtocolError as error:
            raise IndexError from error

    def takes_single_bytes_only(kind):
        feed_one = kind.feed

        def feed(self, data):
            if len(data) > 1:
                raise ProtocolError("too much at once")
            return feed_one(self, data)

        return feed

    return [
        (socks5, "parse_request", reads_one_byte_too_many),
        (ServerHandshake, "refusal", lambda self: b""),
        (ServerHandshake, "trailing", b""),
        (ClientHandshake, "bytes_wanted", property(lambda self: 4096, lambda self, value: None)),
        (ClientHandshake, "feed", takes_single_bytes_only(ClientHandshake)),
        (HttpServer, "feed", raises_another_error),
        (HttpServer, "_forward", lambda self: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n"),
        (HttpServer, "bad_request", lambda self, error: b"HTTP/1.1 400 no\r\n\r\n"),
        (HttpClient, "head_bytes", lambda self, peeked: len(peeked)),
        (ProxyHeader, "trailing", property(lambda self: b"", lambda self, value: None)),
        (ProxyHeader, "feed", takes_single_bytes_only(ProxyHeader)),
        (fuzz_targets, "unwrap", lambda data: ("10.1.2.3", bytes(4), 80, 10)),
        (fuzz_targets, "wrap", lambda packed, port: b""),
    ]


@pytest.mark.parametrize("number", range(len(faults())), ids=lambda number: "{1} {0}".format(*faults()[number][:2]))
def test_what_is_wrong_is_found(number, monkeypatch):
    holder, name, value = faults()[number]
    monkeypatch.setattr(holder, name, value)
    with pytest.raises((AssertionError, IndexError)):
        for seed in SEEDS:
            check(seed)
