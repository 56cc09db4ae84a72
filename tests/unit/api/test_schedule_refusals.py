"""`POST /schedules`: what is refused, with which words, and that it is recorded."""

from typing import Any

import msgspec
import pytest

from tests.unit.api.schedules import ASSET, EVENING, JSON, OPERATOR, VIEWER, audit, create
from tests.unit.api.tenants import open_tenants


def without(*names: str, **fields: Any) -> dict[str, Any]:
    return {name: value for name, value in EVENING.items() if name not in names} | fields


def steps(*values: Any) -> dict[str, Any]:
    return EVENING | {"steps": list(values)}


REFUSED: list[tuple[object, str]] = [
    ([], "the body does not fit"),
    ("FREQ=DAILY", "the body does not fit"),
    ({}, "missing required field `start`"),
    (
        without("asset_id"),
        "must name exactly one of `asset_id`, `asset_ids`, `site_id`, `fleet`; it names none",
    ),
    (EVENING | {"fleet": True}, "it names 2: asset_id, fleet"),
    (without("asset_id", fleet=False), "fleet is false"),
    (without("asset_id", asset_ids=[]), "asset_ids is empty"),
    (without("asset_id", asset_ids=[ASSET, ASSET]), "more than once"),
    (EVENING | {"asset_id": "battery"}, "asset_id is 'battery'; it must be a UUID"),
    (EVENING | {"speed": 1}, "unknown field"),
    (EVENING | {"priority": "emergency"}, "unknown field"),
    (without("steps"), "the body has no steps; it must have steps, or both mw and duration_s"),
    (without("steps", mw=1.0), "or both mw and duration_s"),
    (EVENING | {"mw": 1.0}, "the body has steps, and mw or duration_s"),
    (EVENING | {"duration_s": 1}, "the body has steps, and mw or duration_s"),
    (without("steps", mw=1.0, duration_s=0), "duration_s is 0; it must be 1 to 2678400 s"),
    (steps(), "steps has 0 entries; it must have 1 to 1000"),
    (steps(*[{"duration_s": 1, "mw": 0.0}] * 10_000), "steps has 10000 entries; it must have 1 to 1000"),
    (steps({"duration_s": -5, "mw": 0.0}), "steps[0].duration_s is -5; it must be 1 to"),
    (steps({"duration_s": 0, "mw": 0.0}), "steps[0].duration_s is 0"),
    (steps({"duration_s": 10**15, "mw": 0.0}), "steps[0].duration_s is 1000000000000000"),
    (steps(*[{"duration_s": 2_678_400, "mw": 0.0}] * 2), "the steps last 5356800 s together"),
    (steps({"duration_s": 1.5, "mw": 0.0}), "Expected `int`, got `float` - at `$.steps[0].duration_s`"),
    (steps({"duration_s": "60", "mw": 0.0}), "Expected `int`, got `str`"),
    (steps({"duration_s": 60, "mw": True}), "Expected `float`, got `bool`"),
    (steps({"duration_s": 60, "mw": None}), "Expected `float`, got `null`"),
    (steps({"duration_s": 60}), "missing required field `mw`"),
    (steps({"duration_s": 60, "mw": 1, "kw": 2}), "unknown field `kw`"),
    (steps({"duration_s": 60, "mw": 10.5}), "steps[0].mw is 10.5; asset"),
    (steps({"duration_s": 60, "mw": -8.5}), "takes -8.0 to 10.0 MW"),
    (steps([60, 1.0]), "Expected `object`, got `array`"),
    (EVENING | {"start": None}, "Expected `str`, got `null`"),
    (EVENING | {"start": 1_767_225_600}, "Expected `str`, got `int`"),
    (EVENING | {"start": ""}, "start is ''; it must be a time such as"),
    (EVENING | {"start": "18:00"}, "start is '18:00'"),
    (EVENING | {"start": "2026-01-01"}, "start is '2026-01-01'"),
    (EVENING | {"start": "2026-02-30T18:00:00"}, "start is '2026-02-30T18:00:00'"),
    (EVENING | {"start": "2026-01-01T24:00:00"}, "start is '2026-01-01T24:00:00'"),
    (EVENING | {"start": "2026-01-01T18:00:00\n"}, "start is '2026-01-01T18:00:00\\n'"),
    (EVENING | {"start": "\u0662026-01-01T18:00:00"}, "it must be a time such as"),
    (EVENING | {"start": "9999-12-31T23:59:59Z"}, "it must be in the years 2000 to 2099"),
    (EVENING | {"start": "0001-01-01T00:00:00Z"}, "it must be in the years 2000 to 2099"),
    (EVENING | {"start": "2026-01-01T18:00:00.5Z"}, "it must be a whole second"),
    (EVENING | {"start": "2025-01-01T18:00:00"}, "no occurrence starts after now"),
    (EVENING | {"start": "2099-01-01T18:00:00"}, "within ten years"),
    (EVENING | {"start": "2026-03-29T02:30:00"}, "Europe/Berlin has no such time: its clock skips it"),
    (EVENING | {"start": "2026-10-25T01:30:00Z"}, "the second 02:30:00 of this day in Europe/Berlin"),
    (without("timezone"), "without an offset; timezone must name its time zone"),
    (EVENING | {"timezone": "Berlin"}, "timezone is 'Berlin'; it must be the IANA name"),
    (EVENING | {"timezone": "../../../etc/passwd"}, "it must be the IANA name"),
    (EVENING | {"timezone": ""}, "timezone is ''"),
    (EVENING | {"timezone": "+01:00"}, "timezone is '+01:00'"),
    (EVENING | {"timezone": "U" * 100_000}, "it must be the IANA name"),
    (EVENING | {"recurrence": ""}, "recurrence is empty"),
    (EVENING | {"recurrence": "daily"}, "recurrence has the part 'DAILY'"),
    (EVENING | {"recurrence": "FREQ=DAILY\nRDATE:20260101T000000"}, "on one line"),
    (EVENING | {"recurrence": "FREQ=SECONDLY"}, "FREQ is 'SECONDLY'"),
    (EVENING | {"recurrence": "FREQ=DAILY;" * 1000}, "recurrence has 11000 characters"),
    (EVENING | {"recurrence": "FREQ=WEEKLY;BYDAY=MO"}, "its first occurrence is 2026-01-05T18:00:00"),
    (EVENING | {"recurrence": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "it has no occurrence from start"),
    (EVENING | {"recurrence": "FREQ=DAILY;UNTIL=20251231T000000Z"}, "it has no occurrence from start"),
    (EVENING | {"recurrence": {"freq": "daily"}}, "Expected `str | null`"),
    (EVENING | {"misfire_s": -1}, "misfire_s is -1; it must be 0 to 604800 s"),
    (EVENING | {"misfire_s": 604_801}, "misfire_s is 604801"),
    (EVENING | {"misfire_s": "60"}, "Expected `int | null`"),
    (EVENING | {"strategy": "equal"}, "strategy is given with asset_id"),
    (EVENING | {"strategy": "greedy"}, "Invalid enum value"),
    (b"", "the body is empty"),
    (b"{", "the body is not JSON"),
    (b"[" * 100_000, "Expected `object`, got `array`"),
    (b'{"start":' * 100_000, "the body does not fit"),
    (b'{"start": "\xff"}', "the body is not JSON"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED, ids=range(len(REFUSED)))
async def test_what_is_refused_is_recorded_and_creates_nothing(
    autojump_clock: object, body: object, message: str
) -> None:
    async with open_tenants() as tenants:
        status, answer = await create(tenants, body)
        assert (status, message in answer["message"]) == (400, True), answer
        assert len(answer["message"]) < 400
        assert await tenants.get("/schedules", secret=VIEWER) == []
        [row] = await audit(tenants)
        assert (row["action"], row["outcome"], row["principal"]) == (
            "schedule.create",
            "failed",
            "alpha-operator",
        )


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000]
)
@pytest.mark.parametrize("field", ["duration_s", "mw"])
async def test_numbers_that_are_no_numbers(autojump_clock: object, field: str, number: str) -> None:
    async with open_tenants() as tenants:
        other = '"mw": 1' if field == "duration_s" else '"duration_s": 60'
        body = msgspec.json.encode(without("steps"))[:-1] + (
            f',"steps":[{{"{field}": {number}, {other}}}]}}'.encode()
        )
        status, answer = await create(tenants, body)
        assert status == 400, answer
        assert len(answer["message"]) < 400


async def test_a_field_given_twice_is_refused_in_a_step_too(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        body = (
            msgspec.json.encode(without("steps"))[:-1] + b',"steps":[{"duration_s": 60, "mw": 1, "mw": 5}]}'
        )
        status, answer = await create(tenants, body)
        assert (status, answer["message"]) == (400, "the body has the field 'mw' more than once")


async def test_query_parameters_are_refused(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, answer = await tenants.ask(
            "POST",
            "/schedules?dry_run=true",
            secret=OPERATOR,
            data=msgspec.json.encode(EVENING),
            headers=JSON,
        )
        assert (status, "no query parameter 'dry_run'" in answer["message"]) == (400, True)
        assert await tenants.get("/schedules", secret=VIEWER) == []
