"""A validation's reason has the numbers, and only an accepted setpoint changes anything."""

import math

import pytest

from tests.unit.agent.parts import START_UNIX_S, make_asset, make_setpoint
from trioder.agent.validation import validate
from trioder.domain.dispatch import Setpoint

REVERSION_OF_51 = "reversion 51 MW is outside of -40..50 MW; held at 50 MW"


def test_what_is_within_the_limits_is_applied() -> None:
    validation = validate(make_setpoint(50.0, reversion_mw=-40.0), make_asset(), START_UNIX_S)
    assert validation == ("applied", None)
    assert validation.is_accepted


@pytest.mark.parametrize(
    ("mw", "reversion_mw", "reason"),
    [
        (80.0, 0.0, "80 MW is outside of -40..50 MW; held at 50 MW"),
        (5.0, -99.0, "reversion -99 MW is outside of -40..50 MW; held at -40 MW"),
        (80.0, 51.0, "80 MW is outside of -40..50 MW; held at 50 MW; " + REVERSION_OF_51),
    ],
)
def test_what_is_outside_is_clamped_and_each_is_named(mw: float, reversion_mw: float, reason: str) -> None:
    validation = validate(make_setpoint(mw, reversion_mw=reversion_mw), make_asset(), START_UNIX_S)
    assert validation == ("clamped", reason)
    assert validation.is_accepted


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["mw", "reversion_mw"])
def test_no_number_is_rejected(field: str, value: float) -> None:
    values = {"mw": 1.0, "reversion_mw": 0.0} | {field: value}
    validation = validate(Setpoint(dispatch_id="d", asset_id="a", **values), make_asset(), START_UNIX_S)
    assert validation.status == "rejected"
    assert (validation.reason or "").startswith(f"{field} is {value}")
    assert not validation.is_accepted


def test_what_is_too_late_is_expired_and_by_how_much() -> None:
    validation = validate(make_setpoint(5.0, valid_until_s=10.0), make_asset(), START_UNIX_S + 12.5)
    until_ms = int(START_UNIX_S * 1000) + 10_000
    assert validation == ("expired", f"valid until {until_ms} (Unix ms); that was 2.500 s ago")
    assert not validation.is_accepted


@pytest.mark.parametrize(("now_s", "status"), [(9.999, "applied"), (10.0, "expired")])
def test_the_instant_itself_is_too_late(now_s: float, status: str) -> None:
    assert (
        validate(make_setpoint(5.0, valid_until_s=10.0), make_asset(), START_UNIX_S + now_s).status == status
    )


@pytest.mark.parametrize("until_ms", [-(2**63), 0, 2**63 - 1])
def test_no_instant_is_too_far_to_be_validated(until_ms: int) -> None:
    dispatch = Setpoint(dispatch_id="d", asset_id="a", mw=1.0, valid_until_ms=until_ms)
    expected = "expired" if until_ms <= 0 else "applied"
    assert validate(dispatch, make_asset(), START_UNIX_S).status == expected
