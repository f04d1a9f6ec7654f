"""Which address first: RFC 6724, by its own examples, with the source addresses told instead of asked for."""

from __future__ import annotations

import pytest

from netnet.net.dns_order import merit, ordered, source_of

#: RFC 6724, section 10.2: destinations with the source each would have, best first; and what decides
EXAMPLES = [
    ("matching scope", [("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78")]),
    ("matching scope, the other way", [("198.51.100.121", "198.51.100.117"), ("2001:db8:1::1", "fe80::1")]),
    ("precedence", [("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4")]),
    ("smaller scope", [("fe80::1", "fe80::2"), ("2001:db8:1::1", "2001:db8:1::2")]),
    ("longest prefix", [("2001:db8:1::1", "2001:db8:1::2"), ("2001:db8:3ffe::1", "2001:db8:3f44::2")]),
    ("matching label", [("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2002:c633:6401::2")]),
    ("precedence of the native", [("2001:db8:1::1", "2001:db8:1::2"), ("2002:c633:6401::1", "2002:c633:6401::2")]),
    ("usable", [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", None)]),
    ("usable, the other way", [("2001:db8::1", "2001:db8::2"), ("192.0.2.1", None)]),
    ("loopback", [("::1", "::1"), ("127.0.0.1", "127.0.0.1")]),
    ("unique local last", [("10.1.2.3", "10.1.2.4"), ("fd00::1", "2001:db8::2")]),
]


@pytest.mark.parametrize(("rule", "best_first"), EXAMPLES)
def test_the_examples_of_the_document(monkeypatch, rule, best_first):
    sources = dict(best_first)
    assert [merit(*pair) for pair in best_first] == sorted(merit(*pair) for pair in best_first)
    monkeypatch.setattr("netnet.net.dns_order.source_of", sources.get)
    for given in (list(sources), list(reversed(sources))):
        assert list(ordered(given)) == [address for address, _ in best_first]


def test_what_is_equal_stays_as_it_came(monkeypatch):
    monkeypatch.setattr("netnet.net.dns_order.source_of", lambda address: "192.0.2.99")
    given = ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
    assert list(ordered(given)) == given


@pytest.mark.parametrize(
    ("address", "source"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("fe80::1%none-such", None)],
)
def test_sources_are_those_of_the_kernel(address, source):
    assert source_of(address) == source


@pytest.mark.parametrize("given", [[], ["192.0.2.1"]])
def test_of_one_there_is_nothing_to_ask(monkeypatch, given):
    monkeypatch.setattr("netnet.net.dns_order.source_of", lambda address: pytest.fail("asked"))
    assert list(ordered(given)) == given


def test_addresses_of_this_machine_come_before_those_without_a_route():
    assert ordered(["fe80::1%none-such", "127.0.0.1"]) == ("127.0.0.1", "fe80::1%none-such")
