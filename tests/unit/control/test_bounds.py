"""The dispatches in memory are bounded by the fleet and the limits of the history."""

from tests.unit.control.driver import acknowledge, connect, dispatch_one, only, report_sample, still_parts
from trioder.control.history import DispatchHistory
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.dispatch import DispatchTarget


def ended_group(number: int, *, setpoints: int) -> Dispatch:
    dispatch = Dispatch(
        dispatch_id=f"group-{number}",
        target=DispatchTarget(kind="fleet"),
        mw=1.0,
        expires_in_s=60.0,
        dispatched_ms=0,
        queue_until_ms=60_000,
        ends_ms=None,
    )
    for key in range(setpoints):
        dispatch.add(
            AssetSetpoint(
                dispatch=dispatch,
                key=key,
                mw=1.0,
                reversion_mw=0.0,
                wire_id=dispatch.dispatch_id,
                queue_until_ms=60_000,
                state="failed",
            )
        )
    return dispatch


def test_long_leases_that_are_renewed_over_and_over_are_not_kept_until_they_would_have_ended() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    for _ in range(1_000):
        acknowledge(parts, session, only(dispatch_one(parts, 5.0, duration_s=86_400)), "applied")
    assert len(parts.dispatcher._registry.active._due) < 100


def test_the_newest_lease_still_ends_in_time_after_many_renewals() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    for _ in range(100):
        dispatch = dispatch_one(parts, 5.0, duration_s=60)
        acknowledge(parts, session, only(dispatch), "applied")
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    parts.wall.passed_s += 62  # type: ignore[attr-defined]  # a still clock
    parts.dispatcher.maintain()
    assert dispatch.state == "completed"


def test_a_forgotten_dispatch_is_forgotten_under_each_of_its_names() -> None:
    log = DispatchHistory(max_dispatches=2)
    for number in range(5):
        dispatch = ended_group(number, setpoints=2)
        for share in range(3):
            log.add_wire_id(dispatch, f"share-{number}-{share}")
        log.add(dispatch)
    known = [f"share-{number}-0" for number in range(5) if log.has_wire_id(f"share-{number}-0")]
    assert known == ["share-3-0", "share-4-0"]
    assert len(log._by_wire_id) == 8
    assert len(log._wire_ids) == 2
