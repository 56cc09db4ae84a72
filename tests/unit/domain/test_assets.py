"""An asset that breaks a rule cannot be constructed."""

from typing import Any

import pytest

from trioder.domain.assets import Asset

GOOD: dict[str, Any] = {
    "id": "a",
    "name": "a",
    "site_id": "s",
    "capacity_mwhr": 100.0,
    "max_mw": 25.0,
    "min_mw": -20.0,
    "charge_efficiency": 0.9,
    "discharge_efficiency": 0.8,
    "ramp_rate_mw_per_min": 60.0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity_mwhr": 0.0}, "capacity_mwhr is 0.0; it must be > 0"),
        ({"capacity_mwhr": float("inf")}, "capacity_mwhr is inf; it must be a finite number"),
        ({"max_mw": float("nan")}, "max_mw is nan; it must be a finite number"),
        ({"max_mw": -1.0}, "max_mw is -1.0; it must be >= 0"),
        ({"min_mw": 1.0}, "min_mw is 1.0; it must be <= 0"),
        ({"max_mw": 0.0, "min_mw": 0.0}, "min_mw is 0.0; it must be < max_mw, which is 0.0"),
        ({"charge_efficiency": 0.0}, "charge_efficiency is 0.0; it must be within"),
        ({"discharge_efficiency": 1.01}, "discharge_efficiency is 1.01; it must be within"),
        ({"ramp_rate_mw_per_min": 0.0}, "ramp_rate_mw_per_min is 0.0; it must be > 0"),
        ({"min_soc_pct": -1.0}, "min_soc_pct is -1.0; it must be within 0..100"),
        ({"max_soc_pct": 101.0}, "max_soc_pct is 101.0; it must be within 0..100"),
        ({"min_soc_pct": 60.0, "max_soc_pct": 60.0}, "min_soc_pct is 60.0; it must be < max_soc_pct"),
        ({"aux_load_mw": -0.1}, "aux_load_mw is -0.1; it must be >= 0"),
        ({"aux_load_mw": 20.1}, "aux_load_mw is 20.1; it must be <= -min_mw, which is 20.0"),
        ({"self_discharge_pct_per_day": 100.0}, "self_discharge_pct_per_day is 100.0; it must be within"),
    ],
)
def test_a_broken_rule_is_reported_with_its_numbers(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Asset(**GOOD | change)
    assert str(caught.value).startswith(message)


def test_every_broken_rule_is_reported() -> None:
    with pytest.raises(ValueError, match=r"capacity_mwhr is -1.0; .*; ramp_rate_mw_per_min is -2.0; "):
        Asset(**GOOD | {"capacity_mwhr": -1.0, "ramp_rate_mw_per_min": -2.0})


def test_the_round_trip_is_the_square_of_the_one_way_efficiency() -> None:
    assert Asset(**GOOD).efficiency ** 2 == pytest.approx(0.9 * 0.8)
    assert Asset(**GOOD | {"discharge_efficiency": 0.9}).efficiency == 0.9


def test_the_whole_window_is_the_whole_capacity_to_the_last_bit() -> None:
    asset = Asset(**GOOD | {"capacity_mwhr": 0.1 + 0.2})
    assert (asset.min_soc_mwhr, asset.max_soc_mwhr) == (0.0, 0.1 + 0.2)
