"""REST and the database: health, past sessions, metrics, and errors while it is unavailable."""

import math
from collections.abc import Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.api.rest import Rest, open_rest, uuid_of
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.assets import Asset
from trioder.domain.telemetry import PastSample, Telemetry
from trioder.store.interface import StoreHealth, StoreUnavailableError
from trioder.store.none import NoneStore
from trioder.store.records import PastSession
from trioder.store.stats import StoreStats

REASON = "connection refused"
AT_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class AwayStore(NoneStore):
    """A store whose database is unavailable, with 300 samples queued."""

    def __init__(self) -> None:
        super().__init__()
        self._stats = StoreStats(queue_rows=300)

    @property
    def health(self) -> StoreHealth:
        return "error"

    @property
    def health_reason(self) -> str:
        return REASON

    async def history(self, asset: Asset, **_options: int | None) -> Sequence[PastSample]:
        raise StoreUnavailableError(REASON)

    async def sessions(self, **_options: object) -> Sequence[PastSession]:
        raise StoreUnavailableError(REASON)


class SessionsStore(NoneStore):
    """Remembers one session that ended and one that did not, and what was requested."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[object, ...]] = []

    async def sessions(
        self,
        *,
        limit: int,
        asset: Asset | None = None,
        site_id: str | None = None,
        agent_id: str | None = None,
        before: tuple[int, str] | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSession]:
        self.asked.append((limit, None if asset is None else asset.id, site_id, agent_id, before))
        return [_session(2, ended=False), _session(1, ended=True)]

    async def find_session(self, session_id: str, *, scope: Scope = EVERYTHING) -> PastSession | None:  # type: ignore[override]  # the query that is asked
        return _session(2, ended=False) if session_id == uuid_of(2) else None


def _session(epoch: int, *, ended: bool) -> PastSession:
    return PastSession(
        session_id=uuid_of(epoch),
        agent_id="agent-1",
        epoch=epoch,
        peer="127.0.0.1:4711",
        assets=25,
        connected_ms=AT_MS,
        disconnected_ms=AT_MS + 1500 if ended else None,
        reason="the connection was lost" if ended else None,
    )


async def metrics_of(rest: Rest) -> dict[str, float]:
    text = (await (await rest.raw("GET", "/metrics")).get_data()).decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


async def test_an_unavailable_database_degrades_health_with_the_reason(autojump_clock: object) -> None:
    async with open_rest(store=AwayStore()) as rest:
        status, body = await rest.ask("GET", "/health")
        assert status == 503
        assert (body["status"], body["db"], body["db_reason"]) == ("degraded", "error", REASON)
        assert body["db_backlog_rows"] == 300


@pytest.mark.parametrize("path", [f"/telemetry/{uuid_of(1000)}/history", "/agents/sessions"])
async def test_data_of_the_database_is_unavailable_without_it(autojump_clock: object, path: str) -> None:
    async with open_rest(store=AwayStore()) as rest:
        status, body = await rest.ask("GET", path)
        assert (status, body["error"]) == (503, "unavailable")
        assert REASON in body["message"]


async def test_other_routes_work_without_the_database(autojump_clock: object) -> None:
    async with open_rest(store=AwayStore()) as rest:
        rest.connect(0)
        rest.report(0)
        assert (await rest.get(f"/telemetry/{uuid_of(1000)}"))["quality"] == "good"
        status, body = await rest.post(b'{"asset_id": "%s", "mw": 5}' % uuid_of(1000).encode())
        assert (status, body["delivery"]) == (200, "sent")


async def test_past_sessions_are_read_from_the_store(autojump_clock: object) -> None:
    async with open_rest(store=SessionsStore()) as rest:
        still_open, ended = await rest.get("/agents/sessions")
        assert (still_open["disconnected_at"], still_open["reason"]) == (None, None)
        assert ended == {
            "session_id": uuid_of(1),
            "agent_id": "agent-1",
            "epoch": 1,
            "peer": "127.0.0.1:4711",
            "assets": 25,
            "connected_at": "2026-01-01T00:00:00.000Z",
            "disconnected_at": "2026-01-01T00:00:01.500Z",
            "reason": "the connection was lost",
        }


async def test_sessions_are_filtered_by_asset_site_agent_and_limit(autojump_clock: object) -> None:
    store = SessionsStore()
    async with open_rest(store=store) as rest:
        await rest.get("/agents/sessions")
        await rest.get(f"/agents/sessions?asset_id={uuid_of(1001).upper()}&agent_id=agent%201&limit=7")
        await rest.get(f"/agents/sessions?site_id={uuid_of(1)}&before={uuid_of(2)}")
    assert store.asked == [
        (100, None, None, None, None),
        (7, uuid_of(1001), None, "agent 1", None),
        (100, None, uuid_of(1), None, (AT_MS, uuid_of(2))),
    ]


async def test_there_are_no_past_sessions_without_a_database(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        assert await rest.get("/agents/sessions") == []


@pytest.mark.parametrize(
    ("query", "value", "rule"),
    [
        ("limit=0", "'0'", "from 1 to 10000"),
        ("limit=10001", "'10001'", "from 1 to 10000"),
        ("limit=ten", "'ten'", "from 1 to 10000"),
        ("asset_id=x", "'x'", "UUID"),
        ("agent_id=", "agent_id", "empty"),
        ("agent_id=a%00b", "'a\\x00b'", "printable"),
        ("agent_id=" + "a" * 257, "aaa...", "at most 256"),
        ("agent_id=a&agent_id=b", "2 times", "once"),
        ("site_id=x", "'x'", "UUID"),
        ("before=x", "'x'", "UUID"),
        ("state=open", "'state'", "asset_id, site_id, agent_id, before, limit"),
    ],
)
async def test_a_bad_query_of_sessions_is_refused(
    autojump_clock: object, query: str, value: str, rule: str
) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"/agents/sessions?{query}")
        assert (status, body["error"]) == (400, "bad_request")
        assert value in body["message"]
        assert rule in body["message"]


@pytest.mark.parametrize("name", ["site_id", "before"])
async def test_the_sessions_of_an_unknown_site_or_after_an_unknown_one_are_not_found(
    autojump_clock: object, name: str
) -> None:
    async with open_rest(store=SessionsStore()) as rest:
        status, body = await rest.ask("GET", f"/agents/sessions?{name}={uuid_of(77)}")
        assert (status, uuid_of(77) in body["message"]) == (404, True)


async def test_the_sessions_of_an_unknown_asset_are_not_found(autojump_clock: object) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"/agents/sessions?asset_id={uuid_of(7)}")
        assert (status, body["error"]) == (404, "not_found")
        assert uuid_of(7) in body["message"]


async def test_metrics_have_all_stats_of_the_store(autojump_clock: object) -> None:
    async with open_rest(store=AwayStore()) as rest:
        metrics = await metrics_of(rest)
    assert metrics["trioder_store_queue_rows"] == 300
    for name in StoreStats.__slots__:
        assert {f"trioder_store_{name}", f"trioder_store_{name}_total"} & metrics.keys()


async def test_metrics_show_how_far_agents_are_behind(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert (await metrics_of(rest))["trioder_outbox_backlog_seconds_max"] == 0


class WildHistoryStore(NoneStore):
    """Remembers one sample of an asset, of which half is no number."""

    async def history(self, asset: Asset, **_options: int | None) -> Sequence[PastSample]:
        telemetry = Telemetry(
            asset_id=asset.id,
            site_id=asset.site_id,
            site_name=asset.site_name,
            ts_unix_ms=AT_MS,
            soc_mwhr=math.nan,
            soc_pct=math.nan,
            capacity_mwhr=asset.capacity_mwhr,
            current_mw=-math.inf,
            setpoint_mw=1.5,
            max_mw=asset.max_mw,
            min_mw=asset.min_mw,
            available_discharge_mw=0.0,
            available_charge_mw=0.0,
            status="idle",
        )
        return [PastSample(telemetry=telemetry, source="agent", quality="suspect")]


async def test_a_value_that_is_not_finite_is_null_in_the_history(autojump_clock: object) -> None:
    async with open_rest(store=WildHistoryStore()) as rest:
        _, [asset] = await rest.ask("GET", "/assets?limit=1")
        status, [row] = await rest.ask("GET", f"/telemetry/{asset['id']}/history")
    assert status == 200
    assert (row["soc_mwhr"], row["soc_pct"], row["current_mw"]) == (None, None, None)
    assert (row["setpoint_mw"], row["quality"]) == (1.5, "suspect")
