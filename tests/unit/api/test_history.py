"""`/telemetry/{id}/history?resolution=`: which periods are asked for, what is refused, and the answer."""

from collections.abc import Sequence

import pytest

from tests.unit.api.rest import open_rest, uuid_of
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.assets import Asset
from trioder.domain.telemetry import Statistics, TelemetryBucket
from trioder.process.rfc3339 import format_ms
from trioder.store.interface import StoreUnavailableError
from trioder.store.none import NoneStore

PATH = f"/telemetry/{uuid_of(1000)}/history"
NOTHING = Statistics(None, None, None, None)


class BucketStore(NoneStore):
    """Has so many periods, and remembers what it was asked for; or is away."""

    def __init__(self, buckets: int = 1, *, away: bool = False) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, int, int]] = []
        self._buckets = buckets
        self._away = away

    async def history_buckets(  # type: ignore[override]  # the query that is asked
        self,
        asset: Asset,
        *,
        resolution_s: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        scope: Scope = EVERYTHING,
    ) -> Sequence[TelemetryBucket]:
        if self._away:
            raise StoreUnavailableError("away")
        self.asked.append((format_ms(start_ms), format_ms(end_ms), resolution_s, limit))
        return [
            TelemetryBucket(
                start_ms=start_ms - number * resolution_s * 1000,
                samples=3,
                good_samples=2,
                worst_quality="suspect",
                soc_mwhr=Statistics(1.5, 1.0, 2.0, 1.25),
                soc_pct=Statistics(15.0, 10.0, 20.0, 12.5),
                current_mw=Statistics(-0.5, -1.0, 0.0, -1.0),
                setpoint_mw=NOTHING,
            )
            for number in range(self._buckets)
        ]


async def test_a_period_has_its_statistics(autojump_clock: object) -> None:
    async with open_rest(store=BucketStore()) as rest:
        times = "start=2026-01-01T00:00:00Z&end=2026-01-01T01:00:00Z"
        assert await rest.get(f"{PATH}?resolution=15m&{times}") == [
            {
                "timestamp": "2026-01-01T00:00:00.000Z",
                "samples": 3,
                "good_samples": 2,
                "worst_quality": "suspect",
                "soc_mwhr": {"mean": 1.5, "min": 1.0, "max": 2.0, "last": 1.25},
                "soc_pct": {"mean": 15.0, "min": 10.0, "max": 20.0, "last": 12.5},
                "current_mw": {"mean": -0.5, "min": -1.0, "max": 0.0, "last": -1.0},
                "setpoint_mw": {"mean": None, "min": None, "max": None, "last": None},
            }
        ]


# It is 2026-01-01T00:00:00Z.
@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("resolution=1m", ("2025-12-31T22:20:00.000Z", "2026-01-01T00:00:00.000Z", 60, 100)),
        ("resolution=1h&limit=2", ("2025-12-31T22:00:00.000Z", "2026-01-01T00:00:00.000Z", 3600, 2)),
        (
            "resolution=15m&start=2025-12-02T00:00:00Z",
            ("2025-12-02T00:00:00.000Z", "2026-01-01T00:00:00.000Z", 900, 10_000),
        ),
        # Rounded to whole periods.
        (
            "resolution=6h&start=2025-12-02T07:00:00Z&end=2025-12-02T12:00:00.001Z&limit=1",
            ("2025-12-02T06:00:00.000Z", "2025-12-02T18:00:00.000Z", 21_600, 1),
        ),
        # A day in UTC, though the clocks of a zone were set in it.
        (
            "resolution=1d&start=2025-03-30T01:30:00%2B01:00&end=2025-03-30T23:00:00%2B02:00",
            ("2025-03-30T00:00:00.000Z", "2025-03-31T00:00:00.000Z", 86_400, 10_000),
        ),
        (
            "resolution=1m&start=2030-01-01T00:00:30Z",
            ("2030-01-01T00:00:00.000Z", "2030-01-01T00:01:00.000Z", 60, 10_000),
        ),
        (
            "resolution=1d&end=0001-01-03T00:00:00Z",
            ("0001-01-01T00:00:00.000Z", "0001-01-03T00:00:00.000Z", 86_400, 100),
        ),
        (
            "resolution=1d&start=9999-12-30T23:00:00Z&end=9999-12-31T23:00:00Z",
            ("9999-12-30T00:00:00.000Z", "9999-12-31T00:00:00.000Z", 86_400, 10_000),
        ),
    ],
)
async def test_these_periods_are_read(
    autojump_clock: object, query: str, asked: tuple[str, str, int, int]
) -> None:
    store = BucketStore()
    async with open_rest(store=store) as rest:
        await rest.get(f"{PATH}?{query}")
    assert store.asked == [asked]


@pytest.mark.parametrize(
    "text", ["", "2m", "60", "1M", "15min", "-1h", "1d ", "7d", "PT15M", "1e1", "\u0661m"]
)
async def test_another_resolution_is_refused(autojump_clock: object, text: str) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", PATH, query_string={"resolution": text})
    assert status == 400
    assert body["message"].startswith(f"resolution is {text!a}; it must be 1m or 5m or 15m or 30m or 1h or")


@pytest.mark.parametrize(
    "query", ["resolution=1m&start=2025-12-25T01:19:00Z", "resolution=1d&start=0001-01-01T00:00:00Z"]
)
async def test_too_many_periods_are_refused(autojump_clock: object, query: str) -> None:
    store = BucketStore()
    async with open_rest(store=store) as rest:
        status, body = await rest.ask("GET", f"{PATH}?{query}")
    assert (status, store.asked) == (400, [])
    assert "there may be 10,000 at most" in body["message"]


async def test_statistics_are_unavailable_without_the_database(autojump_clock: object) -> None:
    async with open_rest(store=BucketStore(away=True)) as rest:
        status, body = await rest.ask("GET", f"{PATH}?resolution=1h")
    assert (status, body["error"]) == (503, "unavailable")


async def test_there_are_none_without_a_database(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert await rest.get(f"{PATH}?resolution=1d") == []


async def test_statistics_of_an_unknown_asset_are_not_found(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert (await rest.ask("GET", f"/telemetry/{uuid_of(7)}/history?resolution=1d"))[0] == 404
