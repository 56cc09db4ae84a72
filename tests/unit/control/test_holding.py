"""What batteries can hold, in a group or alone: bounded by what they report, and the same in both forms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_group,
    dispatch_one,
    only,
    report_sample,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import asset_id, make_samples
from trioder.domain.dispatch import DispatchRequest, DispatchTarget, GroupRequest


def test_a_battery_that_reports_nothing_available_gets_no_share() -> None:
    parts = still_parts()
    connect(parts, 0, 1)
    report_sample(parts, 0, available_mw=0.0)
    report_sample(parts, 1)
    dispatch = dispatch_group(parts, 20.0, duration_s=60)
    assert [(setpoint.mw, setpoint.code) for setpoint in dispatch.setpoints.values()] == [
        (0.0, "limited_by_available"),
        (10.0, "limited_by_nameplate"),
    ]
    assert (dispatch.allocated_mw, dispatch.shortfall_mw) == (10.0, 10.0)


@settings(max_examples=200, deadline=None)
@given(
    batteries=st.lists(
        st.tuples(st.floats(0.0, 40.0), st.floats(-10.0, 10.0), st.floats(0.0, 30.0)), min_size=1, max_size=6
    ),
    mw=st.floats(-100.0, 100.0),
    duration_s=st.sampled_from((None, 1, 60, 3600, 86_400)),
    strategy=st.sampled_from(("headroom", "capacity", "equal")),
)
def test_no_split_exceeds_what_is_available_and_it_adds_up(
    batteries: list[tuple[float, float, float]], mw: float, duration_s: int | None, strategy: str
) -> None:
    parts = still_parts(assets=len(batteries))
    connect(parts, *range(len(batteries)))
    for key, (soc, now_mw, available_mw) in enumerate(batteries):
        report_sample(parts, key, soc=soc, mw=now_mw, available_mw=available_mw)
    dispatch = dispatch_group(parts, mw, duration_s=duration_s, strategy=strategy)
    assert dispatch.allocated_mw + dispatch.shortfall_mw == pytest.approx(mw, abs=1e-6)
    for key, setpoint in dispatch.setpoints.items():
        assert abs(setpoint.mw) <= batteries[key][2]
        assert setpoint.mw * mw >= 0.0


@settings(max_examples=200, deadline=None)
@given(
    soc=st.floats(0.0, 40.0),
    now_mw=st.floats(-10.0, 10.0),
    available_mw=st.floats(0.0, 10.0),
    mw=st.floats(-10.0, 10.0),
    duration_s=st.sampled_from((None, 1, 60, 3600, 86_400)),
)
def test_one_battery_is_reported_of_alike_alone_and_as_a_group(
    soc: float, now_mw: float, available_mw: float, mw: float, duration_s: int | None
) -> None:
    parts = still_parts(assets=1)
    session = connect(parts, 0)
    report_sample(parts, 0, soc=soc, mw=now_mw, available_mw=available_mw)
    many = parts.dispatcher.dispatch_group(
        GroupRequest(target=DispatchTarget(kind="assets"), keys=[0], mw=mw, duration_s=duration_s),
        dry_run=True,
    )
    one = parts.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=mw, duration_s=duration_s))
    assert (one.allocated_mw, one.shortfall_mw) == pytest.approx((many.allocated_mw, many.shortfall_mw))
    if one.shortfall_mw:
        assert (only(one).code, only(one).allocation) == (only(many).code, only(many).allocation)
    # The user named the battery and the power: it does what it can of it.
    assert [reported.mw for reported in take_setpoints(session)] == [mw]


def test_without_fresh_good_telemetry_no_shortfall_is_reported() -> None:
    parts = still_parts(assets=3)
    connect(parts, 1, 2)
    report_sample(parts, 1, soc=0.0, available_mw=0.0)
    advance(parts, 13)
    report_sample(parts, 2, soc=0.0, available_mw=0.0, quality=1)
    assert [dispatch_one(parts, 5.0, key=key, duration_s=60).shortfall_mw for key in range(3)] == [
        0.0,
        0.0,
        0.0,
    ]


def test_the_smaller_nameplate_rules() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    report_sample(parts, 0, 1)
    limits = parts.dispatcher.limits
    assert limits.report(0, capacity_mwhr=5.0, max_mw=2.0, min_mw=-3.0)
    assert limits.report(1, capacity_mwhr=50.0, max_mw=20.0, min_mw=-20.0)
    assert limits.different == 2
    assert [(limits.asset(key).min_mw, limits.asset(key).max_mw) for key in (0, 1)] == [
        (-3.0, 2.0),
        (-10.0, 10.0),
    ]
    group = dispatch_group(parts, 20.0, duration_s=60, dry_run=True)
    assert [setpoint.mw for setpoint in group.setpoints.values()] == [2.0, 10.0]
    single = dispatch_one(parts, 7.0, duration_s=60)
    acknowledge(parts, session, only(single), "clamped")
    assert (only(single).held_mw, single.shortfall_mw) == (2.0, 5.0)
    limits.reset(0)
    assert limits.asset(0) is parts.fleet.assets[0]
    assert not limits.report(1, capacity_mwhr=40.0, max_mw=10.0, min_mw=-10.0)
    assert limits.different == 0


@pytest.mark.parametrize("reported", [float("nan"), float("inf"), -1.0])
def test_an_invalid_nameplate_is_ignored(reported: float) -> None:
    parts = still_parts()
    limits = parts.dispatcher.limits
    assert limits.report(0, capacity_mwhr=reported, max_mw=reported, min_mw=-reported)
    assert limits.asset(0) is parts.fleet.assets[0]


def test_a_nameplate_of_nothing_leaves_nothing_to_ask_for() -> None:
    parts = still_parts(assets=1)
    connect(parts, 0)
    report_sample(parts, 0)
    assert parts.dispatcher.limits.report(0, capacity_mwhr=5.0, max_mw=0.0, min_mw=0.0)
    for mw in (5.0, -5.0):
        assert dispatch_group(parts, mw, duration_s=60, dry_run=True).shortfall_mw == pytest.approx(mw)


def test_what_the_model_made_is_no_report() -> None:
    parts = still_parts(assets=1)
    now_ms = parts.wall.now_ms()
    parts.latest.apply_synthesized(make_samples(0, ts_ms=now_ms, source="synthesized"))
    connect(parts, 0)
    assert parts.latest.reported(0, now_ms) is None
    assert dispatch_group(parts, 5.0).excluded[0][0] == "no_telemetry"
    report_sample(parts, 0, soc=7.0, mw=1.0, setpoint=2.0, available_mw=3.0)
    assert parts.latest.reported(0, now_ms) == (7.0, 1.0, 2.0, 3.0, 3.0, 0.0)
