"""`/sites/{site_id}/history` and `/fleet/history`: what is asked of the store, and what is refused."""

from collections.abc import Sequence

import pytest

from tests.unit.api.rest import make_fleet, open_rest, uuid_of
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.telemetry import SiteBucket
from trioder.process.rfc3339 import format_ms
from trioder.store.interface import StoreUnavailableError
from trioder.store.none import NoneStore

SITE = uuid_of(1)


class SiteStore(NoneStore):
    """Has a period with samples and one without good ones, and remembers what it was asked; or is away."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__()
        self.asked: list[tuple[object, ...]] = []
        self._away = away

    async def site_history(  # type: ignore[override]  # the query that is asked
        self,
        site_ids: Sequence[str] | None,
        *,
        resolution_s: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        scope: Scope = EVERYTHING,
    ) -> Sequence[SiteBucket]:
        if self._away:
            raise StoreUnavailableError("gone for lunch")
        self.asked.append((site_ids, format_ms(start_ms), format_ms(end_ms), resolution_s, limit))
        return [
            SiteBucket(start_ms + 1, 2, 30, 29, "suspect", 5.5, 6.0, 20.0, 80.0),
            SiteBucket(start_ms, 0, 3, 0, "bad", None, None, None, None),
        ]


async def test_a_period_has_sums_and_a_charge_weighted_by_capacity(autojump_clock: object) -> None:
    async with open_rest(store=SiteStore()) as rest:
        first, second = await rest.get(f"/sites/{SITE}/history")
        assert first == {
            "timestamp": "2025-12-30T23:00:00.001Z",
            "assets": 2,
            "samples": 30,
            "good_samples": 29,
            "worst_quality": "suspect",
            "current_mw": 5.5,
            "setpoint_mw": 6.0,
            "soc_mwhr": 20.0,
            "soc_pct": 25.0,
            "capacity_mwhr": 80.0,
        }
        assert (second["assets"], second["current_mw"], second["soc_pct"]) == (0, None, None)


# It is 2026-01-01T00:00:00Z.
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (
            f"/sites/{SITE.upper()}/history",
            ([SITE], "2025-12-30T23:00:00.000Z", "2026-01-01T00:00:00.000Z", 900, 100),
        ),
        (
            "/fleet/history?resolution=2h&limit=3",
            (None, "2025-12-31T18:00:00.000Z", "2026-01-01T00:00:00.000Z", 7200, 3),
        ),
        (
            "/fleet/history?resolution=1d&start=2025-12-02T05:00:00Z&end=2025-12-03T00:00:00Z",
            (None, "2025-12-02T00:00:00.000Z", "2025-12-03T00:00:00.000Z", 86_400, 10_000),
        ),
    ],
)
async def test_whole_periods_are_asked_for(
    autojump_clock: object, path: str, asked: tuple[object, ...]
) -> None:
    store = SiteStore()
    async with open_rest(store=store) as rest:
        await rest.get(path)
    assert store.asked == [asked]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/sites/x/history", 400, "site_id is 'x'; it must be a UUID"),
        (f"/sites/{uuid_of(9)}/history", 404, "there is no site"),
        ("/fleet/history?resolution=1m", 400, "resolution is '1m'; it must be 5m or"),
        ("/fleet/history?start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", 400, "start must be before"),
        ("/fleet/history?resolution=5m&start=2020-01-01T00:00:00Z", 400, "there may be 10,000 at most"),
        ("/fleet/history?asset_id=x", 400, "there is no query parameter"),
    ],
)
async def test_what_is_refused(autojump_clock: object, path: str, status: int, says: str) -> None:
    async with open_rest(store=SiteStore()) as rest:
        found, body = await rest.ask("GET", path)
        assert (found, says in body["message"]) == (status, True), body


async def test_what_takes_long_is_refused_with_the_number_of_rows(autojump_clock: object) -> None:
    store = SiteStore()
    async with open_rest(fleet=make_fleet(sites=2, assets_a_site=500), store=store) as rest:
        # 12 rows an hour, and 900 for each of the last two.
        path = "/fleet/history?resolution=15m&start=2025-12-31T00:00:00Z"
        status, body = await rest.ask("GET", path)
        assert (status, "24 h of 1,000 assets are about 2,064,000 rows" in body["message"]) == (400, True)
        assert "2,000,000 at most" in body["message"]
        await rest.get(f"{path}&end=2025-12-31T22:00:00Z")
        await rest.get(f"/sites/{SITE}/history?resolution=15m&start=2025-12-31T00:00:00Z")
    assert [ids for ids, *_ in store.asked] == [None, [SITE]]


async def test_while_the_database_is_away_it_is_unavailable(autojump_clock: object) -> None:
    async with open_rest(store=SiteStore(away=True)) as rest:
        status, body = await rest.ask("GET", "/fleet/history")
        assert (status, "gone for lunch" in body["message"]) == (503, True)


async def test_without_a_database_there_is_none(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert await rest.get(f"/sites/{SITE}/history") == []
