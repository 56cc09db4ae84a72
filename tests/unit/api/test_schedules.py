"""`/schedules`: what is created, shown, skipped and cancelled, and by whom."""

from typing import Any

import msgspec
import pytest
import trio

from tests.unit.api.rest import uuid_of
from tests.unit.api.schedules import (
    ASSET,
    DAILY,
    EVENING,
    OPERATOR,
    SITE_OPERATOR,
    VIEWER,
    audit,
    create,
    created,
    skip,
)
from tests.unit.api.tenants import asset_ids, open_tenants, secret_of, site_id
from trioder.access.limits import Rate
from trioder.api import RestLimits, RestOptions


async def test_a_schedule_is_created_and_shown(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, DAILY)
        assert made["overlaps"] == []
        assert (made["target"], made["assets"]) == ({"kind": "asset", "id": ASSET}, None)
        assert (made["start"], made["timezone"]) == ("2026-01-01T18:00:00", "Europe/Berlin")
        assert (made["recurrence"], made["misfire_s"], made["strategy"]) == ("FREQ=DAILY", 60, None)
        assert (made["steps"], made["duration_s"]) == (EVENING["steps"], 1800)
        assert (made["active"], made["requested_by"], made["tenant"]) == (True, "alpha-operator", "alpha")
        assert len(made["next_occurrences"]) == 10
        first = {"start": "2026-01-01T17:00:00.000Z", "local_start": "2026-01-01T18:00:00+01:00"}
        assert (made["next_occurrences"][0], made["next_start"]) == (first, first["start"])
        shown = await tenants.get(f"/schedules/{made['schedule_id']}", secret=VIEWER)
        assert shown == {name: made[name] for name in shown}
        [row] = await tenants.get("/schedules", secret=VIEWER)
        assert row == {name: shown[name] for name in row}
        assert (row["step_count"], "steps" in row) == (2, False)


async def test_one_value_is_a_schedule_of_one_step(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        body = {name: value for name, value in EVENING.items() if name != "steps"}
        made = await created(tenants, body | {"mw": 4, "duration_s": 60})
        assert made["steps"] == [{"duration_s": 60, "mw": 4.0}]


@pytest.mark.parametrize(
    ("target", "kind", "assets"),
    [
        ({"asset_ids": asset_ids("alpha")[:3]}, "assets", 3),
        ({"site_id": site_id("alpha")}, "site", None),
        ({"fleet": True}, "fleet", None),
    ],
)
async def test_targets_of_many_assets(
    autojump_clock: object, target: dict[str, Any], kind: str, assets: int | None
) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, EVENING | {"asset_id": None} | target)
        assert (made["target"]["kind"], made["assets"], made["strategy"]) == (kind, assets, "headroom")
        assert made["asset_ids"] == target.get("asset_ids", [])


@pytest.mark.parametrize(
    ("start", "timezone", "local", "in_utc"),
    [
        ("2026-07-01T18:00", "Europe/Berlin", "2026-07-01T18:00:00", "2026-07-01T16:00:00.000Z"),
        ("2026-07-01T18:00:00Z", "Europe/Berlin", "2026-07-01T20:00:00", "2026-07-01T18:00:00.000Z"),
        ("2026-07-01T18:00:00-04:00", None, "2026-07-01T22:00:00", "2026-07-01T22:00:00.000Z"),
        ("2026-07-01 18:00:00", "UTC", "2026-07-01T18:00:00", "2026-07-01T18:00:00.000Z"),
        ("2026-10-25T00:30:00Z", "Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00.000Z"),
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00.000Z"),
    ],
)
async def test_the_start_is_wall_time_or_has_an_offset(
    autojump_clock: object, start: str, timezone: str | None, local: str, in_utc: str
) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, EVENING | {"start": start, "timezone": timezone})
        assert (made["start"], made["next_start"]) == (local, in_utc)


async def test_changes_of_clocks_show_in_the_occurrences(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, DAILY | {"start": "2026-03-28T02:30:00"})
        rows = await tenants.get(
            f"/schedules/{made['schedule_id']}/occurrences?start=2026-03-28T00:00:00Z&limit=3", secret=VIEWER
        )
        assert [(row["start"], row["local_start"], row["state"]) for row in rows] == [
            ("2026-03-28T01:30:00.000Z", "2026-03-28T02:30:00+01:00", "pending"),
            ("2026-03-29T01:30:00.000Z", "2026-03-29T03:30:00+02:00", "pending"),
            ("2026-03-30T00:30:00.000Z", "2026-03-30T02:30:00+02:00", "pending"),
        ]
        assert rows[0]["end"] == "2026-03-28T02:00:00.000Z"


async def test_occurrences_are_those_of_the_range(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, DAILY)
        path = f"/schedules/{made['schedule_id']}/occurrences"
        assert len(await tenants.get(path, secret=VIEWER)) == 30
        rows = await tenants.get(f"{path}?start=2026-01-02T17:00:00Z&end=2026-01-04T17:00:00Z", secret=VIEWER)
        assert [row["start"][:10] for row in rows] == ["2026-01-02", "2026-01-03"]
        assert len(await tenants.get(f"{path}?end=2026-12-01T00:00:00Z", secret=VIEWER)) == 100
        for wrong, message in {
            "end=2025-01-01T00:00:00Z&start=2026-01-01T00:00:00Z": "it must be after start",
            "start=2026-01-01T00:00:00Z&end=2027-02-01T00:00:00Z": "by 366 days at most",
            "limit=0": "limit is '0'; it must be a whole number from 1 to 1000",
            "limit=1001": "limit is '1001'",
            "start=soon": "RFC 3339",
            "from=1": "no query parameter 'from'",
        }.items():
            status, answer = await tenants.ask("GET", f"{path}?{wrong}", secret=VIEWER)
            assert (status, message in answer["message"]) == (400, True), answer
        for extreme in (
            "start=0001-01-01T00:00:00Z",
            "start=9999-12-31T23:59:59Z",
            "end=0001-01-03T00:00:00Z",
        ):
            assert await tenants.get(f"{path}?{extreme}", secret=VIEWER) == []


async def test_an_occurrence_runs_and_shows_its_dispatches(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, EVENING | {"start": "2026-01-01T00:01:00", "timezone": "UTC"})
        await trio.sleep(61)
        [row] = await tenants.get(f"/schedules/{made['schedule_id']}/occurrences", secret=VIEWER)
        assert row["state"] == "running"
        [step] = row["steps"]
        assert (step["number"], step["refusal"]) == (0, None)
        record = await tenants.get(f"/dispatch/{step['dispatch_id']}", secret=VIEWER)
        assert (record["priority"], record["mw"], record["requested_by"]) == (
            "schedule",
            5.0,
            "alpha-operator",
        )


async def test_overlaps_are_reported(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        first = await created(tenants, DAILY)
        later = EVENING | {"asset_id": None, "site_id": site_id("alpha"), "start": "2026-01-03T18:15:00"}
        made = await created(tenants, later)
        assert made["overlaps"] == [
            {
                "schedule_id": first["schedule_id"],
                "start": "2026-01-03T17:15:00.000Z",
                "end": "2026-01-03T17:30:00.000Z",
                "assets": 1,
            }
        ]
        own = await created(tenants, EVENING | {"recurrence": "FREQ=MINUTELY;INTERVAL=20;COUNT=2"})
        assert own["schedule_id"] in {one["schedule_id"] for one in own["overlaps"]}


async def test_an_overlap_does_not_name_a_schedule_that_the_caller_does_not_see(
    autojump_clock: object,
) -> None:
    async with open_tenants() as tenants:
        await created(tenants, EVENING | {"asset_id": None, "fleet": True})
        made = await created(tenants, EVENING, secret=SITE_OPERATOR)
        assert [(one["schedule_id"], one["assets"]) for one in made["overlaps"]] == [(None, 1)]
        await created(
            tenants, EVENING | {"asset_id": asset_ids("beta")[0]}, secret=secret_of("operator", "beta")
        )
        again = await created(tenants, EVENING)
        assert len(again["overlaps"]) == 2


async def test_an_occurrence_is_skipped_once_and_for_all(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        made = await created(tenants, DAILY)
        schedule_id, second = made["schedule_id"], made["next_occurrences"][1]["start"]
        for _ in range(2):
            status, row = await skip(tenants, schedule_id, second)
            assert (status, row["state"], row["start"]) == (200, "skipped", second)
        shown = await tenants.get(f"/schedules/{schedule_id}", secret=VIEWER)
        assert shown["skipped"] == [second]
        assert second not in [one["start"] for one in shown["next_occurrences"]]
        rows = await tenants.get(f"/schedules/{schedule_id}/occurrences?limit=3", secret=VIEWER)
        assert [row["state"] for row in rows] == ["pending", "skipped", "pending"]
        [row] = await audit(tenants)
        assert (row["action"], row["target"]) == ("schedule.skip", f"{schedule_id} at {second}")
        status, answer = await skip(tenants, schedule_id, "2026-01-02T18:00:00Z")
        assert (status, "no occurrence that starts at" in answer["message"]) == (404, True)
        [row] = await audit(tenants)
        assert (row["action"], row["outcome"]) == ("schedule.skip", "failed")


async def test_a_cancelled_schedule_has_no_occurrences_to_come(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        schedule_id = (await created(tenants, DAILY))["schedule_id"]
        for _ in range(2):
            status, row = await tenants.ask("DELETE", f"/schedules/{schedule_id}", secret=OPERATOR)
            assert (status, row["active"], row["cancelled_by"]) == (200, False, "alpha-operator")
            assert (row["next_start"], row["next_occurrences"]) == (None, [])
        assert await tenants.get(f"/schedules/{schedule_id}/occurrences", secret=VIEWER) == []
        assert await tenants.get("/schedules?active=true", secret=VIEWER) == []
        assert len(await tenants.get("/schedules?active=false", secret=VIEWER)) == 1
        assert [row["action"] for row in await audit(tenants, 3)] == ["schedule.cancel"] * 2 + [
            "schedule.create"
        ]
        status, answer = await skip(tenants, schedule_id, "2026-01-02T17:00:00Z")
        assert (status, "is cancelled" in answer["message"]) == (400, True)


async def test_a_dry_run_creates_nothing(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await created(tenants, DAILY)
        made = await created(tenants, EVENING | {"dry_run": True}, key="k")
        assert (made["schedule_id"], made["dry_run"], len(made["overlaps"])) == (None, True, 1)
        assert made["next_start"] == "2026-01-01T17:00:00.000Z"
        assert len(await tenants.get("/schedules", secret=VIEWER)) == 1
        before = await audit(tenants, 100)
        status, _ = await create(tenants, EVENING | {"dry_run": True, "start": "soon"})
        assert (status, await audit(tenants, 100)) == (400, before)


async def test_what_lies_outside_of_the_callers_sites_does_not_exist(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        other_site = EVENING | {"asset_id": asset_ids("alpha")[2]}
        hidden = [
            (await created(tenants, other_site))["schedule_id"],
            (await created(tenants, EVENING | {"asset_id": None, "fleet": True}))["schedule_id"],
        ]
        seen = (await created(tenants, EVENING))["schedule_id"]
        own_fleet = await created(tenants, EVENING | {"asset_id": None, "fleet": True}, secret=SITE_OPERATOR)
        rows = await tenants.get("/schedules", secret=SITE_OPERATOR)
        assert {row["schedule_id"] for row in rows} == {seen, own_fleet["schedule_id"]}
        for schedule_id in (*hidden, uuid_of(1)):
            answers = [
                await tenants.ask("GET", f"/schedules/{schedule_id}", secret=SITE_OPERATOR),
                await tenants.ask("GET", f"/schedules/{schedule_id}/occurrences", secret=SITE_OPERATOR),
                await tenants.ask("DELETE", f"/schedules/{schedule_id}", secret=SITE_OPERATOR),
                await skip(tenants, schedule_id, "2026-01-01T17:00:00Z", secret=SITE_OPERATOR),
            ]
            for status, answer in answers:
                assert (status, answer["message"]) == (404, f"there is no schedule {schedule_id}")
        status, _ = await create(tenants, other_site, secret=SITE_OPERATOR)
        assert status == 404


@pytest.mark.parametrize("method", ["DELETE", "GET"])
async def test_an_id_that_is_none_is_refused(autojump_clock: object, method: str) -> None:
    async with open_tenants() as tenants:
        status, answer = await tenants.ask(method, "/schedules/%0A..", secret=OPERATOR)
        assert (status, "it must be a UUID" in answer["message"]) == (400, True)


async def test_a_viewer_creates_nothing_and_that_is_recorded(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, _ = await create(tenants, EVENING, secret=VIEWER)
        assert status == 403
        [row] = await audit(tenants)
        assert (row["outcome"], row["target"]) == ("refused", "POST /schedules")


async def test_schedules_count_to_the_dispatches_a_minute(autojump_clock: object) -> None:
    limits = RestLimits(
        requests=Rate(per_s=1e6, burst=10**6), dispatches=Rate(per_s=1 / 60, burst=3), open_streams=10
    )
    async with open_tenants(options=RestOptions(limits=limits)) as tenants:
        # The rig has dispatched once with this token.
        statuses = [(await create(tenants, EVENING))[0] for _ in range(4)]
        assert statuses == [201, 201, 429, 429]


async def test_the_document_has_examples(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        document = await tenants.get("/openapi.json", secret=None)
        assert "201" in document["paths"]["/schedules"]["post"]["responses"]
        assert "200" not in document["paths"]["/schedules"]["post"]["responses"]
        fields = document["components"]["schemas"]["ScheduleBody"]["properties"]
        assert "examples" in msgspec.json.encode(fields["recurrence"]).decode()
        index = await tenants.get("/", secret=None)
        assert index["links"]["schedules"] == "/schedules"


async def test_a_list_in_parts_has_each_occurrence_once(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        made = await created(
            tenants, EVENING | {"recurrence": "FREQ=MINUTELY", "steps": [{"duration_s": 30, "mw": 1.0}]}
        )
        response = await tenants.raw(
            "GET", f"/schedules/{made['schedule_id']}/occurrences?limit=1000", secret=VIEWER
        )
        rows = msgspec.json.decode(await response.get_data())
        assert (len(rows), len({row["start"] for row in rows})) == (1000, 1000)


async def test_nothing_is_known_until_the_schedules_were_read(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        schedule_id = (await created(tenants, DAILY))["schedule_id"]
        tenants.rest.headend.schedules.runner.is_loaded = False
        answers = [
            await create(tenants, EVENING),
            await create(tenants, EVENING, key="k"),
            await skip(tenants, schedule_id, "2026-01-02T17:00:00Z"),
            await tenants.ask("GET", "/schedules", secret=VIEWER),
            await tenants.ask("GET", f"/schedules/{schedule_id}", secret=VIEWER),
            await tenants.ask("GET", f"/schedules/{schedule_id}/occurrences", secret=VIEWER),
            await tenants.ask("DELETE", f"/schedules/{schedule_id}", secret=OPERATOR),
        ]
        assert [(status, answer["error"]) for status, answer in answers] == [(503, "unavailable")] * 7
