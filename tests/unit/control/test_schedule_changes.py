"""What users may create, see, cancel and skip; and fleets, stops and defects that change what runs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.unit.control.schedule_rig import START_MS, Rig
from tests.unit.control.test_schedules import started
from tests.unit.control.test_site_limits import SOUTH
from tests.unit.headend.parts import asset_id, make_fleet
from trioder.control.schedules import planning, runner
from trioder.control.schedules.targets import target_keys
from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.fleet import Fleet, Site
from trioder.domain.schedules import ScheduleRefusedError, ScheduleRequest, ScheduleStep
from trioder.process.slices import run_at_once
from trioder.store.interface import StoreUnavailableError

SOON = datetime.fromtimestamp(START_MS / 1000 + 60, UTC).replace(tzinfo=None)
REQUEST = ScheduleRequest(
    target=DispatchTarget(kind="asset", id=asset_id(0)),
    start=SOON,
    steps=(ScheduleStep(duration_s=60, mw=5.0),),
)
NORTH_SITE = make_fleet(1).sites[0].id


def steps(*pairs: tuple[int, float]) -> tuple[ScheduleStep, ...]:
    return tuple(ScheduleStep(duration_s=duration_s, mw=mw) for duration_s, mw in pairs)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"steps": ()}, "bad_request", "steps has 0 entries; it must have 1 to 1000"),
        ({"steps": steps(*[(1, 1.0)] * 1001)}, "bad_request", "steps has 1001 entries"),
        ({"steps": steps((60, 1.0), (0, 1.0))}, "bad_request", "steps[1].duration_s is 0"),
        ({"steps": steps((60, float("nan")))}, "bad_request", "steps[0].mw is nan"),
        ({"steps": steps((60, 10.5))}, "bad_request", "takes -10.0 to 10.0 MW"),
        ({"steps": steps((86_400 * 31, 1.0), (1, 1.0))}, "bad_request", "2678401 s together"),
        ({"misfire_s": -1}, "bad_request", "misfire_s is -1"),
        ({"start": SOON.replace(tzinfo=UTC)}, "bad_request", "it must have no offset"),
        ({"strategy": "equal"}, "bad_request", "strategy is given with asset_id"),
        ({"timezone": "Mars/Base"}, "bad_request", "Mars/Base"),
        ({"recurrence": "FREQ=SOMETIMES"}, "bad_request", "SOMETIMES"),
        ({"start": SOON.replace(year=2026)}, "bad_request", "no occurrence starts after now"),
        ({"target": DispatchTarget(kind="asset", id=asset_id(9))}, "not_found", "there is no asset"),
        ({"target": DispatchTarget(kind="site", id=asset_id(9))}, "not_found", "there is no site"),
        ({"target": DispatchTarget(kind="assets"), "asset_ids": (asset_id(9),)}, "not_found", "none of"),
        ({"tenant": "south"}, "not_found", "there is no asset"),
    ],
    ids=str,
)
async def test_a_schedule_that_breaks_a_rule_is_refused(
    change: dict[str, object], code: str, message: str
) -> None:
    rig = await started()
    with pytest.raises(ScheduleRefusedError) as refused:
        await rig.schedules.create(replace(REQUEST, **change))  # type: ignore[arg-type]  # of the list
    assert refused.value.code == code
    assert message in refused.value.message
    assert len(rig.schedules.register) == 0


async def test_a_schedule_is_seen_and_changed_within_its_scope_alone() -> None:
    rig = await started()
    schedule, _ = await rig.schedules.create(replace(REQUEST, site_ids=(NORTH_SITE,)))
    name, seen = schedule.schedule_id, rig.schedules
    at_its_site = Scope(tenant="default", site_ids=frozenset({NORTH_SITE, SOUTH}))
    assert seen.newest(limit=5, scope=at_its_site) == [schedule]
    for scope in (Scope(tenant="south"), Scope(tenant="default", site_ids=frozenset({SOUTH}))):
        assert seen.newest(limit=5, scope=scope) == []
        calls: list[Callable[[], object]] = [
            lambda scope=scope: seen.find(name, scope=scope),
            lambda scope=scope: seen.next_start_ms(name, scope=scope),
            lambda scope=scope: seen.skip(name, START_MS + 60_000, requested_by="x", scope=scope),
        ]
        for call in calls:
            with pytest.raises(ScheduleRefusedError, match="there is no schedule"):
                call()
        with pytest.raises(ScheduleRefusedError, match="there is no schedule"):
            await seen.cancel(name, requested_by="x", scope=scope)
        with pytest.raises(ScheduleRefusedError, match="there is no schedule"):
            await seen.occurrences(name, after_ms=0, before_ms=START_MS * 2, limit=5, scope=scope)
    assert seen.find(name).is_active


async def test_until_they_are_read_schedules_are_not_known() -> None:
    rig = Rig()
    with pytest.raises(StoreUnavailableError):
        await rig.schedules.create(REQUEST)
    with pytest.raises(StoreUnavailableError):
        rig.schedules.newest(limit=5)


async def test_occurrences_are_those_on_record_those_in_memory_and_those_to_come() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=HOURLY;COUNT=5")
    await rig.run(100)
    rig.schedules.skip(schedule.schedule_id, START_MS + 7_210_000, requested_by="anna")
    found = await rig.schedules.occurrences(
        schedule.schedule_id, after_ms=START_MS, before_ms=START_MS + 86_400_000, limit=4
    )
    assert [one.state for one in found] == ["completed", "pending", "skipped", "pending"]
    assert rig.schedules.next_start_ms(schedule.schedule_id) == START_MS + 3_610_000


async def test_an_asset_that_leaves_the_fleet_ends_its_step_and_the_others_are_refused() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), (60, 4.0))
    await rig.run(30)
    fleet = rig.parts.fleet
    change = fleet.reload(Fleet(sites=fleet.sites, assets=fleet.assets[1:]))
    rig.dispatcher.fleet_changed(change)
    rig.obey()
    assert rig.batteries[0].mw == 0.0
    await rig.run(110)
    occurrence = rig.only(schedule)
    assert (occurrence.state, len(occurrence.dispatch_ids)) == ("completed", 1)
    assert "left the fleet" in occurrence.steps[1].refusal


def two_sites() -> Fleet:
    fleet = make_fleet(4)
    south = Site(id=SOUTH, name="South", location="Reno, NV", tenant="south")
    assets = [
        replace(one, site_id=SOUTH, site_name="South") if key % 2 else one
        for key, one in enumerate(fleet.assets)
    ]
    return Fleet(sites=(*fleet.sites, south), assets=assets)


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"target": DispatchTarget(kind="fleet"), "site_ids": None}, [0, 2]),
        ({"target": DispatchTarget(kind="fleet"), "site_ids": None, "tenant": ALL_TENANTS}, [0, 1, 2, 3]),
        ({"target": DispatchTarget(kind="fleet"), "site_ids": (SOUTH,)}, []),
        ({"target": DispatchTarget(kind="fleet"), "site_ids": (SOUTH,), "tenant": "south"}, [1, 3]),
        ({"target": DispatchTarget(kind="site", id=SOUTH)}, []),
        ({"target": DispatchTarget(kind="site", id=SOUTH), "tenant": "south"}, [1, 3]),
        ({"target": DispatchTarget(kind="assets"), "asset_ids": tuple(map(asset_id, (9, 3, 2, 0)))}, [0, 2]),
        ({"target": DispatchTarget(kind="asset", id=asset_id(1))}, []),
    ],
    ids=str,
)
def test_a_target_is_what_belongs_to_its_tenant_and_sites_now(
    change: dict[str, object], keys: list[int]
) -> None:
    request = replace(REQUEST, **change)  # type: ignore[arg-type]  # of the list
    assert list(target_keys(request, two_sites())) == keys


async def test_a_stop_outlasts_steps_and_a_resume_gives_the_asset_back() -> None:
    rig = await started()
    await rig.create((30, 5.0), (60, 4.0))
    await rig.run(20)
    stops, target = rig.dispatcher.stops, DispatchTarget(kind="fleet")
    stop = run_at_once(stops.stop_steps(target, [0, 1], tenant=ALL_TENANTS, requested_by="anna"))
    rig.obey()
    await rig.run(30)
    run_at_once(stops.resume_steps(stop, requested_by="anna"))
    rig.obey()
    await rig.run(60)
    assert rig.seconds() == [(10.0, 5.0), (20.0, 0.0), (50.0, 4.0), (100.0, 0.0)]


async def test_a_defect_of_one_schedule_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await started()
    broken = await rig.create((60, 5.0))
    whole = await rig.create((60, 4.0), key=1)

    def starts_of(schedule: object, **query: int) -> object:
        if schedule.schedule_id == broken.schedule_id:  # type: ignore[attr-defined]  # a schedule
            raise ZeroDivisionError
        return planning.starts_of(schedule, **query)  # type: ignore[arg-type]  # a schedule

    with monkeypatch.context() as patched:
        patched.setattr(runner, "starts_of", starts_of)
        await rig.run(15)
    await rig.run(60)
    assert rig.only(whole).begun_ms == START_MS + 10_000
    # It is tried again, and begins late.
    assert rig.only(broken).state == "completed"
    assert rig.seconds(0)[0][0] > 15.0
