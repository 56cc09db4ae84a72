"""Entity tags, conditional requests and compression."""

import gzip
from dataclasses import replace
from typing import Any

import pytest
import trio

from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from trioder.api.representations import (
    Representation,
    RepresentationCache,
    Wishes,
    not_modified,
    prefers_gzip,
)
from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.events.facts import FleetChanged

ETAG = 'W/"abc"'
LISTS = ["/assets", "/agents", "/telemetry", "/sites", "/fleet"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("*", True),
        (" * ", True),
        (ETAG, True),
        ('"abc"', True),
        ('"x", W/"y",W/"abc"', True),
        ('"x"', False),
        ('"ab"', False),
        ("abc", False),
        ('"a,b", "abc"', True),
        ('"abc', False),
        ("", False),
    ],
)
def test_tags_are_compared_weakly(header: str | None, expected: bool) -> None:
    assert (not_modified(ETAG, Wishes(if_none_match=header)) is not None) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("identity, gzip;q=0.9", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("gzip;q=1.5", False),
        ("gzip;level=9", False),
        ("br", False),
    ],
)
def test_gzip_is_sent_where_it_is_accepted(header: str | None, expected: bool) -> None:
    assert prefers_gzip(header) is expected


def test_the_cache_is_bounded_and_drops_what_was_used_least() -> None:
    cache = RepresentationCache(max_bytes=1_000)
    for key in "abc":
        cache.put(key, Representation(1, bytes(200)))
        cache.get("a", 1)
    assert [cache.get(key, 1) is not None for key in "abc"] == [True, False, True]
    assert cache.get("a", 2) is None
    cache.put("large", Representation(1, bytes(501)))
    assert [cache.get(key, 1) for key in ("a", "c", "large")] == [None, None, None]


async def etag_of(rest: Rest, path: str) -> str:
    response = await rest.raw("GET", path)
    assert response.status_code == 200
    return response.headers["etag"]


async def is_unchanged(rest: Rest, path: str, etag: str) -> bool:
    """Ask with the tag; where the status is 304 it is the present one."""
    response = await rest.raw("GET", path, headers={"If-None-Match": etag})
    assert response.headers["etag"] == etag or response.status_code == 200
    return response.status_code == 304


@pytest.mark.parametrize("path", [*LISTS, f"/assets?site_id={uuid_of(0)}", "/telemetry?limit=1"])
async def test_a_list_is_not_sent_again(autojump_clock: object, path: str) -> None:
    async with open_rest() as rest:
        rest.report(0)
        first = await rest.raw("GET", path)
        etag = first.headers["etag"]
        assert etag.startswith('W/"')
        assert first.headers["vary"] == "Accept, Accept-Encoding, Authorization"
        again = await rest.raw("GET", path, headers={"If-None-Match": f'"x", {etag}'})
        assert (again.status_code, await again.get_data(), again.headers["etag"]) == (304, b"", etag)
        assert (await rest.raw("HEAD", path, headers={"If-None-Match": "*"})).status_code == 304


async def test_errors_have_precedence_over_conditions(autojump_clock: object) -> None:
    async with open_rest() as rest:
        for path, status in (("/assets?limit=0", 400), (f"/telemetry?site_id={uuid_of(9)}", 404)):
            assert (await rest.raw("GET", path, headers={"If-None-Match": "*"})).status_code == status


async def test_different_queries_and_tenants_have_different_tags(autojump_clock: object) -> None:
    async with open_rest() as rest:
        paths = [
            "/assets",
            "/assets?limit=1",
            f"/assets?site_id={uuid_of(0)}",
            f"/assets?site_id={uuid_of(1)}",
        ]
        assert len({await etag_of(rest, path) for path in paths}) == len(paths)


@pytest.mark.parametrize("path", LISTS)
async def test_a_large_body_is_compressed_where_asked(autojump_clock: object, path: str) -> None:
    async with open_rest(fleet=make_fleet(sites=3, assets_a_site=100)) as rest:
        rest.connect(*range(300))
        rest.report(*range(300))
        plain = await rest.raw("GET", path)
        for _ in range(2):
            zipped = await rest.raw("GET", path, headers={"Accept-Encoding": "gzip"})
            if path == "/fleet":
                # It is small.
                assert "content-encoding" not in zipped.headers
                continue
            assert zipped.headers["content-encoding"] == "gzip"
            assert gzip.decompress(await zipped.get_data()) == await plain.get_data()
            assert zipped.headers["etag"] == plain.headers["etag"]


async def test_each_change_of_a_sample_changes_what_shows_it(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1)
        paths = ["/telemetry", "/sites", "/fleet"]
        tags = {path: await etag_of(rest, path) for path in paths}
        fixed = [await etag_of(rest, path) for path in ("/assets", "/agents")]
        rest.report(0, current_mw=4.0)
        for path in paths:
            assert not await is_unchanged(rest, path, tags[path])
        assert [await etag_of(rest, path) for path in ("/assets", "/agents")] == fixed
        row, _ = await rest.get("/telemetry")
        assert row["current_mw"] == 4.0
        assert (await rest.get(f"/telemetry/{uuid_of(1000)}"))["current_mw"] == 4.0
        assert (await rest.get("/fleet"))["current_mw"] == 9.0


async def test_an_age_alone_changes_nothing_until_a_sample_is_stale(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0)
        await trio.sleep(5)
        rest.report(1)
        paths = ["/telemetry", "/sites", "/fleet"]
        for wait_s, live in ((6.999, 2), (0.001, 2), (0.001, 1), (4.998, 1), (0.002, 0)):
            tags = [await etag_of(rest, path) for path in paths]
            before = (await rest.get("/fleet"))["live_assets"]
            await trio.sleep(wait_s)
            unchanged = [await is_unchanged(rest, path, tag) for path, tag in zip(paths, tags, strict=True)]
            if before == live:
                # It may change too early by a millisecond.
                assert all(unchanged) or wait_s == 0.001
            else:
                assert not any(unchanged)
            assert (await rest.get("/fleet"))["live_assets"] == live
            rows = await rest.get("/telemetry")
            assert [row["quality"] for row in rows].count("good") == live
            assert [row["age_s"] for row in rows] == [round(rest_age(rest, key), 3) for key in (0, 1)]


def rest_age(rest: Rest, key: int) -> float:
    view = rest.headend.latest.view(key, rest.headend.wall.now_ms())
    assert view is not None
    return view.age_s


async def test_sessions_change_agents_and_sums(autojump_clock: object) -> None:
    async with open_rest() as rest:
        paths = ["/agents", "/sites", "/fleet"]
        tags = [await etag_of(rest, path) for path in paths]
        session = rest.connect(0, 1)
        connected = [await etag_of(rest, path) for path in paths]
        assert not set(tags) & set(connected)
        assert len(await rest.get("/agents")) == 2
        rest.headend.sessions.release(session)
        assert await rest.get("/agents") == []
        assert (await rest.get("/fleet"))["connected_assets"] == 0


async def test_a_dispatch_changes_the_rows_of_its_assets(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0, 1)
        tag = await etag_of(rest, "/telemetry")
        body = b'{"asset_id": "%b", "mw": 1, "duration_s": 60}' % uuid_of(1000).encode()
        status, made = await rest.post(body)
        assert status == 200
        assert not await is_unchanged(rest, "/telemetry", tag)
        row = await rest.get(f"/telemetry/{uuid_of(1000)}")
        assert (row["dispatch_id"], row["remaining_s"]) == (made["dispatch_id"], 60.0)
        tag = await etag_of(rest, "/telemetry")
        await trio.sleep(0.25)
        assert await is_unchanged(rest, "/telemetry", tag)
        assert (await rest.get("/telemetry"))[0]["remaining_s"] == 59.75
        assert (await rest.ask("DELETE", f"/dispatch/{made['dispatch_id']}"))[0] == 200
        assert not await is_unchanged(rest, "/telemetry", tag)
        assert (await rest.get("/telemetry"))[0]["dispatch_id"] is None


async def test_limits_of_sites_change_sites(autojump_clock: object) -> None:
    async with open_rest() as rest:
        tag = await etag_of(rest, "/sites")
        headers = {"content-type": "application/json"}
        path = f"/sites/{uuid_of(0)}/limits"
        status, _ = await rest.ask("PUT", path, data=b'{"export_limit_mw": 3}', headers=headers)
        assert status == 200
        assert not await is_unchanged(rest, "/sites", tag)
        assert (await rest.get("/sites"))[0]["export_limit_mw"] == 3.0


async def test_a_reload_changes_everything_with_assets(autojump_clock: object) -> None:
    fleet = make_fleet()
    async with open_rest(fleet=fleet) as rest:
        rest.report(0, 1, 2, 3)
        paths = ["/assets", "/telemetry", "/sites", "/fleet", "/agents"]
        tags: dict[str, Any] = {path: await etag_of(rest, path) for path in paths}
        newer = make_fleet(sites=1)
        change = fleet.reload(newer)
        rest.headend.events.publish(FleetChanged(change))
        for path, tag in tags.items():
            assert not await is_unchanged(rest, path, tag)
        assert len(await rest.get("/assets")) == len(await rest.get("/telemetry")) == 2
        assert (await rest.get("/fleet"))["assets"] == 2


async def test_a_new_nameplate_is_shown_with_an_old_sample(autojump_clock: object) -> None:
    fleet = make_fleet()
    async with open_rest(fleet=fleet) as rest:
        rest.report(0, 1)
        assert [row["max_mw"] for row in await rest.get("/telemetry")] == [10.0, 10.0]
        before = make_fleet()
        newer = Fleet(sites=before.sites, assets=[replace(before.assets[0], max_mw=9.0), *before.assets[1:]])
        rest.headend.events.publish(FleetChanged(fleet.reload(newer)))
        assert [row["max_mw"] for row in await rest.get("/telemetry")] == [9.0, 10.0]
        assert (await rest.get(f"/telemetry/{uuid_of(1000)}"))["max_mw"] == 9.0


async def test_a_step_of_the_clock_changes_no_age(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0)
        await trio.sleep(3)
        tag = await etag_of(rest, "/fleet")
        rest.headend.wall.adjust(3_600.0)
        rest.headend.latest.clock_stepped(3_600_000)
        assert (await rest.get(f"/telemetry/{uuid_of(1000)}"))["age_s"] == 3.0
        assert not await is_unchanged(rest, "/fleet", tag)


async def test_suspect_values_are_null_and_keep_their_quality(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0, current_mw=float("nan"), quality=Quality.SUSPECT)
        await trio.sleep(60)
        (row,) = await rest.get("/telemetry")
        assert (row["current_mw"], row["status"], row["quality"], row["age_s"]) == (
            None,
            None,
            "suspect",
            60.0,
        )
