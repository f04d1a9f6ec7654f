"""The table of answers that are still good: time, clocks and room."""

from __future__ import annotations

import pytest

from netnet.net.dns_cache import Cache


@pytest.mark.parametrize(("now", "good"), [(9.9, False), (10, True), (69.9, True), (70, False), (1e9, False)])
def test_an_entry_lives_from_its_beginning_to_its_end(now, good):
    """An instant before its beginning is one of another clock."""
    cache: Cache[str] = Cache(2)
    cache.put("key", "value", 10, 60)
    assert cache.get("key", now) == ("value" if good else None)
    assert len(cache) == good


@pytest.mark.parametrize("seconds", [0, -1])
def test_what_lives_for_no_time_is_not_kept(seconds):
    cache: Cache[str] = Cache(2)
    cache.put("key", "value", 10, seconds)
    assert len(cache) == 0


def test_there_is_room_for_so_many():
    cache: Cache[int] = Cache(3)
    for number in range(100):
        cache.put(number % 7, number, 0, 60)
        assert len(cache) <= 3
    assert [cache.get(key, 1) for key in range(7)] == [98, 99, None, None, None, None, 97]


def test_the_least_used_goes_first():
    cache: Cache[str] = Cache(2)
    cache.put("a", "1", 0, 60)
    cache.put("b", "2", 0, 60)
    assert cache.get("a", 1) == "1"
    cache.put("c", "3", 0, 60)
    assert [cache.get(key, 1) for key in "abc"] == ["1", None, "3"]
    cache.put("a", "new", 2, 60)
    assert cache.get("a", 61) == "new"
    cache.clear()
    assert len(cache) == 0


def test_without_room_nothing_is_kept():
    cache: Cache[str] = Cache(0)
    cache.put("a", "1", 0, 60)
    assert cache.get("a", 0) is None
    with pytest.raises(ValueError, match="entries"):
        Cache(-1)
