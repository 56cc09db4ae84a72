"""Which batteries take part in a group's dispatch, with how much, and for how long it must last."""

import pytest

from tests.unit.headend.parts import make_fleet
from trioder.control.allocation import Candidate, Exclusion, ramp_window_s
from trioder.control.allocator import Known, candidates_of, horizon_s

# 40 MWh, 10 MW, lossless, and fast.
[ASSET] = make_fleet(1).assets
KNOWN = Known(0, ASSET, 20.0, 0.0, 1.0, connected=True)


def candidates(*known: Known, charging: bool = False, hold_s: float = 900.0) -> list[Candidate]:
    return candidates_of(known, charging=charging, hold_s=hold_s, stale_after_s=12.0)


def test_a_battery_is_a_candidate_with_what_it_can_hold_in_the_direction_asked_for() -> None:
    known = KNOWN._replace(soc_mwhr=1.0)
    assert candidates(known) == [Candidate(0, 40.0, 4.0, "energy", None, 1.0)]
    assert candidates(known, charging=True) == [Candidate(0, 40.0, 10.0, "nameplate", None, 1.0)]


@pytest.mark.parametrize(
    ("known", "excluded"),
    [
        (KNOWN._replace(connected=False), "not_connected"),
        (KNOWN._replace(age_s=None), "no_telemetry"),
        (KNOWN._replace(age_s=12.1), "stale"),
        (KNOWN._replace(commanded_otherwise=True), "commanded_otherwise"),
        # The reason that must be remedied first is reported.
        (KNOWN._replace(connected=False, age_s=None, commanded_otherwise=True), "not_connected"),
        (KNOWN._replace(age_s=99.0, commanded_otherwise=True), "stale"),
    ],
)
def test_what_keeps_a_battery_out_is_reported(known: Known, excluded: Exclusion) -> None:
    assert candidates(known) == [Candidate(0, 40.0, 0.0, "nameplate", excluded, known.age_s)]


def test_a_battery_that_was_just_not_stale_takes_part() -> None:
    [candidate] = candidates(KNOWN._replace(age_s=12.0))
    assert candidate.excluded is None


def test_the_order_is_kept() -> None:
    known = [KNOWN._replace(asset_key=key, connected=key != 2) for key in (3, 2, 1)]
    assert [candidate.asset_key for candidate in candidates(*known)] == [3, 2, 1]


def test_the_state_of_an_excluded_battery_is_not_looked_at() -> None:
    [candidate] = candidates(KNOWN._replace(soc_mwhr=float("nan"), connected=False))
    assert candidate.limit_mw == 0.0


def test_a_dispatch_must_last_its_duration_or_a_settlement_period() -> None:
    assert horizon_s(30) == 30.0
    assert horizon_s(None) == 900.0


@pytest.mark.parametrize(("hold_s", "ramp_s"), [(900.0, 60.0), (240.0, 60.0), (60.0, 15.0), (1.0, 0.25)])
def test_the_ramp_may_take_a_minute_but_no_more_than_a_quarter(hold_s: float, ramp_s: float) -> None:
    assert ramp_window_s(hold_s) == ramp_s
