"""Limits by key: rates, and how many are open at once."""

import pytest

from trioder.access.limits import OpenLimit, Rate, RateLimit


def test_a_burst_passes_and_then_the_rate() -> None:
    limit = RateLimit(Rate(per_s=2.0, burst=3))
    assert [limit.take("a", 10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.take("a", 10.0) == 0.5
    assert limit.take("a", 10.5) == 0.0
    assert limit.take("a", 10.5) == 0.5


def test_a_refusal_takes_nothing() -> None:
    limit = RateLimit(Rate(per_s=1.0, burst=1))
    limit.take("a", 0.0)
    for _ in range(100):
        assert limit.take("a", 0.5) == 0.5
    assert limit.take("a", 1.0) == 0.0


def test_each_key_has_a_bucket_of_its_own() -> None:
    limit = RateLimit(Rate(per_s=1.0, burst=1))
    assert (limit.take("a", 0.0), limit.take("b", 0.0)) == (0.0, 0.0)
    assert limit.take("a", 0.0) == 1.0


def test_after_a_pause_the_burst_passes_again_and_no_more() -> None:
    limit = RateLimit(Rate(per_s=10.0, burst=2))
    limit.take("a", 0.0)
    assert [limit.take("a", 1e6) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]


def test_the_longest_idle_keys_are_forgotten() -> None:
    limit = RateLimit(Rate(per_s=1.0, burst=1), max_keys=2)
    for key in ("a", "b", "c"):
        limit.take(key, 0.0)
    assert len(limit) == 2
    assert limit.take("c", 0.0) == 1.0
    assert limit.take("a", 0.0) == 0.0


def test_only_so_many_are_open_at_once() -> None:
    limit = OpenLimit(2)
    assert [limit.acquire("a"), limit.acquire("a"), limit.acquire("a"), limit.acquire("b")] == [
        True,
        True,
        False,
        True,
    ]
    limit.release("a")
    assert limit.acquire("a")
