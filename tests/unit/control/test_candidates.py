"""Which batteries take part in a group's dispatch, with how much, and for how long it must last."""

import pytest

from tests.unit.control.driver import advance, connect, dispatch_group, report_sample, still_parts
from tests.unit.headend.parts import Parts
from trioder.control.allocation import Candidate, Exclusion, Split, ramp_window_s
from trioder.control.model import Dispatch
from trioder.domain.dispatch import DispatchTarget


def split(parts: Parts, mw: float = 1.0, *, duration_s: int | None = None, elsewhere: bool = False) -> Split:
    """Split over all batteries; `elsewhere`: they have a setpoint of another dispatch."""
    dispatch = dispatch_group(parts, 0.0, dry_run=True, duration_s=duration_s)
    keys = dispatch.candidate_keys if elsewhere else ()
    return parts.dispatcher._allocator.split(dispatch, mw, elsewhere=keys)


@pytest.fixture
def parts() -> Parts:
    """One battery of 40 MWh and 10 MW, lossless and fast."""
    return still_parts(assets=1)


def test_a_battery_is_a_candidate_with_what_it_can_hold_in_the_direction_asked_for(parts: Parts) -> None:
    connect(parts, 0)
    report_sample(parts, 0, soc=1.0)
    assert split(parts).candidates == [Candidate(0, 40.0, 4.0, "energy", None, 0.0)]
    assert split(parts, -1.0).candidates == [Candidate(0, 40.0, 10.0, "nameplate", None, 0.0)]


@pytest.mark.parametrize(
    ("age_s", "quality", "elsewhere", "excluded"),
    [
        (None, 0, False, "no_telemetry"),
        (12.1, 0, False, "stale"),
        (1.0, 0, True, "commanded_otherwise"),
        (1.0, 1, False, "suspect"),
        # The reason that must be remedied first is reported.
        (99.0, 0, True, "stale"),
        (99.0, 1, True, "suspect"),
    ],
)
def test_what_keeps_a_battery_out_is_reported(
    parts: Parts, age_s: float | None, quality: int, elsewhere: bool, excluded: Exclusion
) -> None:
    connect(parts, 0)
    if age_s is not None:
        report_sample(parts, 0, quality=quality)
        advance(parts, age_s)
    [candidate] = split(parts, elsewhere=elsewhere).candidates
    assert candidate[:5] == (0, 40.0, 0.0, "nameplate", excluded)


def test_a_battery_that_is_not_connected_is_reported_as_such_first(parts: Parts) -> None:
    assert split(parts, elsewhere=True).candidates == [Candidate(0, 40.0, 0.0, "nameplate", "not_connected")]


def test_a_battery_that_was_just_not_stale_takes_part(parts: Parts) -> None:
    connect(parts, 0)
    report_sample(parts, 0)
    advance(parts, 12.0)
    [candidate] = split(parts).candidates
    assert candidate.excluded is None


def test_the_order_is_kept() -> None:
    parts = still_parts(assets=3)
    connect(parts, 2, 0)
    report_sample(parts, 2, 0)
    assert [(one.asset_key, one.excluded) for one in split(parts).candidates] == [
        (0, None),
        (1, "not_connected"),
        (2, None),
    ]


def test_the_state_of_an_excluded_battery_is_ignored(parts: Parts) -> None:
    connect(parts, 0)
    report_sample(parts, 0, soc=float("nan"))
    dispatch = Dispatch(
        dispatch_id="d",
        target=DispatchTarget(kind="fleet"),
        mw=1.0,
        expires_in_s=60.0,
        dispatched_ms=0,
        queue_until_ms=0,
        ends_ms=None,
        candidate_keys=(0,),
    )
    [candidate] = parts.dispatcher._allocator.split(dispatch, 1.0, elsewhere=(0,)).candidates
    assert candidate.limit_mw == 0.0


def test_a_dispatch_must_last_its_duration_or_a_settlement_period(parts: Parts) -> None:
    assert split(parts, duration_s=30).hold_s == 30.0
    assert split(parts).hold_s == 900.0


@pytest.mark.parametrize(("hold_s", "ramp_s"), [(900.0, 60.0), (240.0, 60.0), (60.0, 15.0), (1.0, 0.25)])
def test_the_ramp_may_take_a_minute_but_no_more_than_a_quarter(hold_s: float, ramp_s: float) -> None:
    assert ramp_window_s(hold_s) == ramp_s
