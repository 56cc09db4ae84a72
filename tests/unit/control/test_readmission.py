"""A group while it lasts: who does not deliver is relied on no more, and who can deliver again takes part."""

import pytest

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_group,
    dispatch_one,
    report_sample,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import Parts, asset_id
from trioder.control.model import Dispatch
from trioder.gateway.sessions import Session
from trioder.wire.records import Acknowledgement


class BatteryPool:
    """Batteries with an agent each, tracking unless a test makes them deviate, on a pulse of 4 s."""

    def __init__(self, count: int) -> None:
        self.parts: Parts = still_parts(assets=count)
        self.sessions: dict[int, Session] = {}
        self.setpoints = dict.fromkeys(range(count), 0.0)
        self.factors: dict[int, float] = {}
        self.available: dict[int, float] = {}
        self.quality: dict[int, int] = {}
        self.numbers = 0

    def connect(self, *keys: int) -> None:
        for key in keys:
            self.numbers += 1
            session = connect(self.parts, key, agent_id=f"a{key}", number=self.numbers)
            self.sessions[key] = session
        self.pulse()

    def cut(self, key: int) -> None:
        self.parts.disconnect(self.sessions.pop(key))

    def pulse(self) -> None:
        for key, session in self.sessions.items():
            for reported in take_setpoints(session):
                self.setpoints[key] = reported.mw
                setpoint = self.parts.dispatcher.in_force(key)
                if setpoint is not None and setpoint.wire_id == reported.dispatch_id:
                    acknowledge(self.parts, session, setpoint, "applied")
            available_mw = self.available.get(key, 10.0)
            mw = self.setpoints[key] * self.factors.get(key, 1.0)
            report_sample(
                self.parts,
                key,
                mw=min(max(mw, -available_mw), available_mw),
                setpoint=self.setpoints[key],
                available_mw=available_mw,
                quality=self.quality.get(key, 0),
            )

    def run(self, seconds: float) -> None:
        for step in range(round(seconds)):
            advance(self.parts, 1)
            if step % 4 == 3:
                self.pulse()

    def delivered_mw(self) -> float:
        return sum(self.setpoints[key] * self.factors.get(key, 1.0) for key in self.setpoints)


def pool_of(count: int, *, connected: int | None = None) -> BatteryPool:
    pool = BatteryPool(count)
    pool.connect(*range(count if connected is None else connected))
    return pool


def shares(dispatch: Dispatch) -> dict[int, float]:
    return {key: setpoint.mw for key, setpoint in dispatch.setpoints.items() if not setpoint.dropped_out}


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1.5])
def test_the_share_of_a_setpoint_that_does_something_else_goes_to_the_others(factor: float) -> None:
    pool = pool_of(3)
    pool.factors[2] = factor
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600)
    pool.run(17)
    assert shares(dispatch) == {0: 6.0, 1: 6.0}
    setpoint = dispatch.setpoints[2]
    assert setpoint.state == "not_tracked"
    assert f"{factor * 4.0:g} MW instead of 4 MW" in (setpoint.reason or "")
    # It does not act beside the others.
    assert pool.setpoints[2] == 0.0
    [resplit] = dispatch.reallocations
    assert [dropped for dropped, _ in resplit.dropped] == [asset_id(2)]


def test_a_setpoint_that_trips_in_the_middle_has_failed() -> None:
    pool = pool_of(3)
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600)
    pool.run(40)
    assert dispatch.state == "tracking"
    pool.factors[1] = 0.0
    pool.run(22)
    assert shares(dispatch) == {0: 6.0, 2: 6.0}
    assert dispatch.setpoints[1].state == "failed"
    assert "dropped out: deviating: 0 MW instead of 4 MW" in (dispatch.setpoints[1].reason or "")


def test_a_setpoint_that_delivers_a_part_keeps_that_part_and_the_rest_goes_to_the_others() -> None:
    pool = pool_of(2)
    pool.factors[1] = 0.5
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=600)
    pool.run(13)
    assert shares(dispatch) == {0: 10.0, 1: 4.0}
    assert dispatch.setpoints[1].code == "limited_by_delivery"
    assert dispatch.shortfall_mw == 2.0
    assert [who for who, _ in dispatch.reallocations[0].adjusted] == [asset_id(1)]


def test_a_setpoint_that_delivers_a_part_is_not_reduced_below_it() -> None:
    pool = pool_of(2)
    pool.factors[1] = 0.5
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600)
    pool.run(13)
    # Not 2.8 MW, its part of the headroom: it has shown that it can do 3 MW.
    assert shares(dispatch) == {0: 9.0, 1: 3.0}
    assert dispatch.setpoints[1].code == "limited_by_delivery"
    assert dispatch.shortfall_mw == 0.0


def test_when_all_deviate_nobody_is_released() -> None:
    pool = pool_of(2)
    pool.factors = {0: -1.0, 1: 0.0}
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600)
    pool.run(60)
    assert (dispatch.state, dispatch.reallocations) == ("deviating", [])
    assert shares(dispatch) == {0: 6.0, 1: 6.0}


def test_without_re_splitting_deviating_setpoints_are_still_reported() -> None:
    pool = pool_of(2)
    pool.factors = {0: -1.0}
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600, resplit=False)
    pool.run(30)
    assert [setpoint.state for setpoint in dispatch.setpoints.values()] == ["deviating", "tracking"]
    assert dispatch.reallocations == []


def test_what_a_setpoint_reports_that_it_cannot_do_goes_to_the_others_at_a_bounded_rate() -> None:
    pool = pool_of(2)
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600)
    pool.run(20)
    for step in range(40):
        # It derates, a little more each pulse.
        pool.available[1] = 6.0 - 0.14 * step
        pool.run(4)
    assert dispatch.setpoints[1].code == "limited_by_available"
    assert sum(shares(dispatch).values()) + dispatch.shortfall_mw == pytest.approx(12.0)
    assert pool.parts.counters.dispatches_deviating == 0
    assert 1 < len(dispatch.reallocations) <= 16


def test_a_battery_that_connects_later_takes_over_what_is_short() -> None:
    pool = pool_of(2, connected=1)
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=600)
    assert dispatch.shortfall_mw == 6.0
    pool.run(10)
    pool.connect(1)
    pool.run(20)
    assert shares(dispatch) == {0: 8.0, 1: 8.0}
    assert (dispatch.shortfall_mw, dispatch.excluded) == (0.0, {})
    assert dispatch.reallocations[-1].joined == [asset_id(1)]
    assert pool.parts.counters.dispatches_joined == 1


def test_without_a_shortfall_nobody_joins() -> None:
    pool = pool_of(2, connected=1)
    dispatch = dispatch_group(pool.parts, 6.0, duration_s=600)
    pool.connect(1)
    pool.run(120)
    assert shares(dispatch) == {0: 6.0}
    assert dispatch.reallocations == []


def test_a_disconnected_setpoint_returns_when_it_has_been_connected_for_a_while() -> None:
    pool = pool_of(2)
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=6000)
    pool.run(20)
    pool.cut(1)
    pool.run(10)
    assert (dispatch.setpoints[1].state, dispatch.shortfall_mw) == ("failed", 6.0)
    pool.connect(1)
    pool.run(4)
    assert shares(dispatch) == {0: 10.0}
    pool.run(30)
    assert shares(dispatch) == {0: 8.0, 1: 8.0}
    assert [setpoint.state for setpoint in dispatch.setpoints.values()] == ["tracking", "tracking"]
    assert dispatch.shortfall_mw == 0.0


def test_a_flapping_connection_moves_shares_ever_more_rarely() -> None:
    pool = pool_of(2)
    dispatch = dispatch_group(pool.parts, 16.0)
    for _ in range(60):
        pool.run(30)
        pool.cut(1)
        pool.run(8)
        pool.connect(1)
    assert len(dispatch.reallocations) <= 8


def test_a_setpoint_with_a_swapped_sign_is_tried_again_ever_more_rarely() -> None:
    pool = pool_of(2)
    pool.factors[1] = -1.0
    dispatch = dispatch_group(pool.parts, 16.0)
    pool.run(65)
    assert [len(resplit.dropped) for resplit in dispatch.reallocations] == [1]
    pool.run(3_600)
    # After 60, 120, 240 and 480 s, and then no more.
    assert sum(len(resplit.dropped) for resplit in dispatch.reallocations) == 5
    assert (shares(dispatch), pool.setpoints[1]) == ({0: 10.0}, 0.0)


def test_a_setpoint_that_delivers_again_gets_more_after_a_while() -> None:
    pool = pool_of(2)
    pool.factors[1] = 0.5
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=6000)
    pool.run(20)
    pool.factors[1] = 1.0
    pool.run(30)
    assert dispatch.shortfall_mw == 2.0
    pool.run(60)
    assert (shares(dispatch), dispatch.shortfall_mw) == ({0: 8.0, 1: 8.0}, 0.0)


def test_setpoints_that_can_do_more_by_now_take_over_what_is_short() -> None:
    pool = pool_of(2)
    pool.available[1] = 1.0
    pool.pulse()
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=6000)
    assert dispatch.shortfall_mw == 5.0
    pool.run(40)
    assert dispatch.reallocations == []
    pool.available[1] = 9.0
    pool.run(20)
    assert (shares(dispatch), dispatch.shortfall_mw) == (
        {0: pytest.approx(16.0 * 10 / 19), 1: pytest.approx(16.0 * 9 / 19)},
        0.0,
    )


def test_a_setpoint_that_was_dispatched_on_its_own_does_not_return() -> None:
    pool = pool_of(2)
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=6000)
    pool.run(8)
    dispatch_one(pool.parts, 1.0, key=1, duration_s=10)
    pool.run(200)
    assert (shares(dispatch), dispatch.shortfall_mw) == ({0: 10.0}, 6.0)


def test_a_setpoint_that_was_rejected_is_not_sent_again() -> None:
    pool = pool_of(2)
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=6000)
    acknowledge(pool.parts, pool.sessions[1], dispatch.setpoints[1], "rejected", reason="in maintenance")
    take_setpoints(pool.sessions[1])
    pool.run(200)
    assert (shares(dispatch), dispatch.setpoints[1].state) == ({0: 10.0}, "rejected")


def test_suspect_values_keep_a_battery_out_of_a_split_and_let_it_drop_out() -> None:
    pool = pool_of(3)
    pool.quality[0] = 1
    pool.pulse()
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=6000)
    assert dispatch.excluded == {0: ("suspect", "none: what its agent reported last cannot be")}
    pool.run(8)
    pool.quality[1] = 2
    pool.run(8)
    assert dispatch.reallocations == []
    pool.run(16)
    assert shares(dispatch) == {2: 10.0}
    assert dispatch.reallocations[0].dropped[0][1].startswith("suspect, without a good sample for")
    pool.quality.clear()
    pool.run(40)
    assert (len(shares(dispatch)), dispatch.shortfall_mw) == (3, 0.0)


def test_a_split_does_not_rest_on_what_an_earlier_session_reported() -> None:
    pool = pool_of(2)
    pool.cut(1)
    again = connect(pool.parts, 1, agent_id="a1", number=99)
    dispatch = dispatch_group(pool.parts, 16.0, duration_s=600)
    assert {key: code for key, (code, _) in dispatch.excluded.items()} == {1: "no_telemetry"}
    assert take_setpoints(again) == ()


def test_a_setpoint_whose_new_session_reports_nothing_drops_out() -> None:
    pool = pool_of(2)
    dispatch = dispatch_group(pool.parts, 12.0, duration_s=600)
    pool.run(8)
    pool.cut(1)
    connect(pool.parts, 1, agent_id="a1", number=99)
    pool.run(8)
    assert dispatch.reallocations == []
    pool.run(8)
    assert dispatch.reallocations[0].dropped[0][1].startswith("without a sample in this session for 13")


def test_an_earlier_share_still_applied_is_released_when_the_later_one_was_lost() -> None:
    parts = still_parts(assets=3)
    sessions = [connect(parts, key, agent_id=f"agent-{key}") for key in range(3)]
    first, second, third = sessions
    report_sample(parts, 0, 1, 2)
    group = dispatch_group(parts, 12.0)
    earlier_id = group.setpoints[0].wire_id
    for session, keys in ((first, (0,)), (second, (1,)), (third, (2,))):
        take_setpoints(session)
        for key in keys:
            acknowledge(parts, session, group.setpoints[key], "accepted")
    parts.disconnect(second)
    for _ in range(2):
        report_sample(parts, 0, 2, mw=4.0, setpoint=4.0)
        advance(parts, 4)
    assert group.setpoints[0].wire_id != earlier_id
    # The agent never reads that share: it falls silent, drops out, and registers again.
    for _ in range(5):
        report_sample(parts, 2, mw=4.0, setpoint=4.0)
        advance(parts, 4)
    assert group.setpoints[0].state == "failed"
    parts.disconnect(first)
    again = connect(parts, 0, agent_id="agent-0", number=1)
    take_setpoints(again)
    in_force = Acknowledgement(
        dispatch_id=earlier_id, asset_id=asset_id(0), status="active", ts_unix_ms=0, setpoint_mw=4.0
    )
    parts.dispatcher.acknowledged(in_force, session=again)
    assert [(setpoint.asset_id, setpoint.mw) for setpoint in take_setpoints(again)] == [(asset_id(0), 0.0)]
