"""How many descriptors there are, and how many connections they allow."""

from __future__ import annotations

import resource

import pytest

from netnet.kernel.limits import raise_descriptor_limit
from netnet.socks import settings
from netnet.socks.settings import connections_max


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(1, 1), (4, 1), (256, 96), (1024, 384), (20_000, 9680), (1 << 20, (1024 * 1024 - 640) // 2)],
)
def test_connections_max(descriptors, connections):
    assert connections_max(descriptors) == connections


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch):
    now = [(1024, 20_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: now.append(pair))
    assert raise_descriptor_limit() == 20_000
    assert now[-1] == (20_000, 20_000)


def test_a_limit_that_is_high_already_is_left_alone(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (20_000, 20_000))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("changed"))
    assert raise_descriptor_limit() == 20_000


def test_no_limit_at_all_is_still_a_number(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert raise_descriptor_limit() == 1 << 20
    assert connections_max(1 << 20) > 500_000


def test_an_unlimited_soft_limit_is_not_lowered(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("changed"))
    assert raise_descriptor_limit() >= 1 << 20


def test_the_numbers_have_their_unit_in_their_name():
    assert settings.DESCRIPTORS_A_CONNECTION == 2
