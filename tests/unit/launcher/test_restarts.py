import random

from hypothesis import given
from hypothesis import strategies as st

from trioder.launcher.restarts import RestartLimits, RestartPolicy


class Highest(random.Random):
    """Always draws the upper bound, so that the back-off's ceiling can be seen."""

    def uniform(self, a: float, b: float) -> float:
        return b


PATIENT = RestartLimits(most_restarts=1000)


def test_the_ceiling_doubles_up_to_the_longest() -> None:
    policy = RestartPolicy(PATIENT, Highest())
    delays = [policy.delay_after(ran_for_s=1, now_s=0) for _ in range(9)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_healthy_run_begins_again_at_the_first_delay() -> None:
    policy = RestartPolicy(PATIENT, Highest())
    for _ in range(5):
        policy.delay_after(ran_for_s=29.9, now_s=0)
    assert policy.delay_after(ran_for_s=30, now_s=0) == 0.5


@given(st.integers(), st.integers(0, 2000))
def test_the_delay_is_anything_up_to_the_ceiling(seed: int, attempts: int) -> None:
    policy = RestartPolicy(RestartLimits(most_restarts=5000), random.Random(seed))
    for attempt in range(attempts):
        delay_s = policy.delay_after(ran_for_s=0, now_s=0)
        assert not policy.quarantined
        assert 0 <= delay_s <= min(30.0, 0.5 * 2.0 ** min(attempt, 10))


def quarantined() -> RestartPolicy:
    policy = RestartPolicy(RestartLimits(), random.Random(1))
    for now_s in range(5):
        policy.delay_after(ran_for_s=1, now_s=now_s)
        assert not policy.quarantined
    policy.delay_after(ran_for_s=1, now_s=59.9)
    assert policy.quarantined
    return policy


def test_from_the_sixth_restart_within_a_minute_on_it_is_tried_once_a_minute() -> None:
    policy = quarantined()
    # However long ago the others were, and however long it ran, unless it was healthy.
    assert [policy.delay_after(ran_for_s=1, now_s=now_s) for now_s in (60, 120, 1e6)] == [60.0] * 3
    assert policy.delay_after(ran_for_s=3600, now_s=2e6) == 60.0


def test_a_refused_configuration_is_quarantined_at_once() -> None:
    policy = RestartPolicy(RestartLimits(), random.Random(1))
    assert policy.delay_after(ran_for_s=1, now_s=0, refused=True) == 60.0
    assert policy.quarantined


def test_a_healthy_agent_resets_its_restarts_after_the_quarantine() -> None:
    policy = quarantined()
    policy.recover()
    for now_s in range(5):
        assert policy.delay_after(ran_for_s=1, now_s=60 + now_s) <= 0.5 * 2**now_s
    assert not policy.quarantined


def test_restarts_longer_ago_do_not_count() -> None:
    policy = RestartPolicy(RestartLimits(), random.Random(1))
    for now_s in range(0, 2000, 12):
        policy.delay_after(ran_for_s=11, now_s=now_s)
        assert not policy.quarantined
