"""The clients against a real headend's REST: every operation, pages, tokens, TLS, answers that are lost."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.integration.client.served import KINDS, Kind, open_served, with_client
from tests.unit.access.certificates import Authority
from tests.unit.access.documents import document_of, token_entry
from tests.unit.api.rest import make_fleet, uuid_of
from trioder.access.table import AccessTable, token_sha256
from trioder.access.tls import ServerTls
from trioder.client import (
    Forbidden,
    HeadendUnavailable,
    NotFound,
    RequestRefused,
    StepBody,
    Unauthorized,
)

pytestmark = pytest.mark.parametrize("kind", KINDS)

ASSETS = [uuid_of(1000 + key) for key in range(4)]
SITE = uuid_of(0)
MISSING = uuid_of(999)


def every_operation(client: Any) -> None:
    """Call every method; what is returned has been decoded, or is a refusal of the route itself."""
    assert client.index().name == "trioder headend"
    assert client.health().status == "ok"
    assert "trioder_assets" in client.metrics()
    assert "/stream" in client.openapi()["paths"]
    assert client.whoami().kind == "open"
    assert [row.id for row in client.assets()] == ASSETS
    assert [row.id for row in client.assets(site_id=SITE)] == ASSETS[:2]
    assert client.asset(ASSETS[0]).name == "Battery 0/0"
    assert [row.id for row in client.sites()] == [SITE, uuid_of(1)]
    assert client.fleet().assets == 4
    assert client.reload_fleet().changed == 0
    assert [row.asset_id for row in client.telemetry(asset_ids=ASSETS[1:3])] == ASSETS[1:3]
    assert client.asset_telemetry(ASSETS[0]).current_mw == 5.0
    assert list(client.history(ASSETS[0], limit=5)) == []
    assert list(client.history_buckets(ASSETS[0], resolution="1h", start="2026-01-01T00:00:00Z")) == []
    assert {row.asset_id for row in client.agents()} == set(ASSETS)
    assert [row.agent_id for row in client.agent_processes(connected=True)] == ["agent-1"]
    assert list(client.sessions(asset_id=ASSETS[0])) == []
    assert client.fleet_power(minutes=1).site_id is None
    assert client.site_power(SITE).site_id == SITE
    assert client.fleet_history(resolution="5m") == []
    assert client.site_history(SITE, limit=3) == []
    assert [row.action for row in client.audit(limit=5)] == ["fleet.reload"]
    assert list(client.events(origin="agent")) == []
    assert list(client.alarms(state="all", severity="major")) == []
    for refused in (client.alarm, client.acknowledge_alarm):
        with pytest.raises(NotFound, match="there is no alarm"):
            refused(MISSING)


def every_command(client: Any) -> None:
    planned = client.dispatch(site_id=SITE, mw=4.0, strategy="equal", dry_run=True)
    assert (planned.dispatch_id, planned.dry_run, len(planned.allocations)) == (None, True, 2)
    made = client.dispatch(asset_id=ASSETS[0], mw=4.0, duration_s=60, reversion_mw=1.0, allocations=False)
    assert (made.delivery, made.allocations) == ("sent", None)
    assert client.wait_for_dispatch(made.dispatch_id, until="sent").state == "sent"
    assert client.show_dispatch(made.dispatch_id).allocations[0].asset_id == ASSETS[0]
    assert [row.dispatch_id for row in client.dispatches(asset_id=ASSETS[0], limit=1)] == [made.dispatch_id]
    assert client.cancel_dispatch(made.dispatch_id).state == "cancelled"
    unanswered = client.dispatch(asset_ids=ASSETS[:2], mw=4.0, wait_ack_s=1)
    assert unanswered.state == "sent"

    assert {row.asset_id for row in client.allocations(unanswered.dispatch_id, state="sent")} == set(
        ASSETS[:2]
    )
    assert len(list(client.dispatches(site_id=SITE, allocations=True))) == 2

    assert client.stop(asset_id=ASSETS[0]).assets == 1
    assert [row.target.id for row in client.stops()] == [ASSETS[0]]
    assert client.resume(asset_id=ASSETS[0]).assets == 1

    assert client.set_site_limits(SITE, export_limit_mw=7.0, duration_s=60).export_limit_mw == 7.0
    assert client.site_limits(SITE).set_by
    assert client.remove_site_limits(SITE).export_limit_mw is None

    steps = [StepBody(duration_s=900, mw=1.0), StepBody(duration_s=900, mw=-1.0)]
    year = datetime.now(UTC).year + 1
    schedule = client.create_schedule(
        fleet=True,
        steps=steps,
        start=f"{year}-03-01T18:00:00",
        timezone="Europe/Berlin",
        recurrence="FREQ=DAILY",
    )
    assert [step.mw for step in client.schedule(schedule.schedule_id).steps] == [1.0, -1.0]
    assert [row.schedule_id for row in client.schedules(active=True)] == [schedule.schedule_id]
    start = datetime(year, 3, 1, tzinfo=UTC)
    end = start + timedelta(days=2)
    first, second = client.occurrences(schedule.schedule_id, start=start, end=end)
    assert first.start == f"{year}-03-01T17:00:00.000Z"
    assert client.skip_occurrence(schedule.schedule_id, start=second.start).state == "skipped"
    assert client.cancel_schedule(schedule.schedule_id).active is False


@pytest.mark.parametrize("scenario", [every_operation, every_command])
async def test_every_operation_is_understood(kind: Kind, scenario: Any) -> None:
    async with open_served() as served:
        served.rest.connect(*range(4))
        served.rest.report(*range(4))
        await with_client(kind, served.url, scenario)


async def test_a_refusal_has_the_headend_s_message_and_the_field(kind: Kind) -> None:
    def ask(client: Any) -> None:
        with pytest.raises(RequestRefused) as raised:
            client.dispatch(asset_id=ASSETS[0], mw=99.0)
        error = raised.value
        assert (error.status, error.code, error.field) == (400, "out_of_bounds", "mw")
        assert error.message.startswith("mw is 99.0; ")
        with pytest.raises(RequestRefused) as raised:
            client.dispatch(asset_id=ASSETS[0], mw="much")
        assert (raised.value.status, raised.value.field) == (400, "mw")

    async with open_served() as served:
        await with_client(kind, served.url, ask)


async def test_lists_longer_than_a_page_are_complete(kind: Kind) -> None:
    fleet = make_fleet(sites=1, assets_a_site=2_500)
    ids = [asset.id for asset in fleet.assets]

    def ask(client: Any) -> None:
        assert [row.id for row in client.assets()] == ids
        assert [row.id for row in client.assets(limit=1_700)] == ids[:1_700]

    async with open_served(fleet) as served:
        await with_client(kind, served.url, ask)


class CuttingProxy:
    """Forwards connections to a headend; of the first request the response is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._has_cut = False

    async def serve(self, client: trio.SocketStream) -> None:
        async with (
            client,
            await trio.open_tcp_stream("127.0.0.1", self._port) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._forward, client, server)
            async for data in server:
                if not self._has_cut:
                    self._has_cut = True
                    break
                await client.send_all(data)
            nursery.cancel_scope.cancel()

    async def _forward(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async for data in client:
            await server.send_all(data)


async def test_a_dispatch_whose_response_is_lost_is_sent_again_and_made_once(kind: Kind) -> None:
    async with open_served() as served, trio.open_nursery() as nursery:
        served.rest.connect(0)
        served.rest.report(0)
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, CuttingProxy(served.port).serve, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        made = await with_client(kind, url, lambda client: client.dispatch(asset_id=ASSETS[0], mw=1.0))
        kept = await with_client(kind, served.url, lambda client: list(client.dispatches()))
        assert [row.dispatch_id for row in kept] == [made.dispatch_id]
        nursery.cancel_scope.cancel()


async def test_a_stop_whose_response_is_lost_is_left_to_the_caller(kind: Kind) -> None:
    async with open_served() as served, trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, CuttingProxy(served.port).serve, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(HeadendUnavailable, match=rf"POST {url}/stop: "):
            await with_client(kind, url, lambda client: client.stop(fleet=True))
        nursery.cancel_scope.cancel()


async def test_tokens(kind: Kind) -> None:
    entries = [
        token_entry(
            name=role, role=role, tenant="default", sha256=token_sha256(f"secret-{role}"), expires_at=None
        )
        for role in ("viewer", "operator")
    ]

    def refused_without(client: Any) -> None:
        with pytest.raises(Unauthorized, match="there is no Authorization header"):
            client.fleet()
        assert client.health().status == "ok"

    def refused_for_a_wrong_one(client: Any) -> None:
        with pytest.raises(Unauthorized):
            client.fleet()

    def sees_but_does_not_command(client: Any) -> None:
        assert (client.whoami().name, client.whoami().role) == ("viewer", "viewer")
        with pytest.raises(Forbidden, match="role"):
            client.stop(fleet=True)

    async with open_served(access=AccessTable(document_of(*entries))) as served:
        await with_client(kind, served.url, refused_without, token="")
        await with_client(kind, served.url, refused_for_a_wrong_one, token="secret-wrong")
        await with_client(kind, served.url, sees_but_does_not_command, token="secret-viewer")
        await with_client(kind, served.url, lambda client: client.stop(fleet=True), token="secret-operator")


async def test_tls_with_a_private_authority(kind: Kind, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    tls = ServerTls(*authority.issue("localhost", "127.0.0.1"), alpn=["http/1.1"])

    def refused(client: Any) -> None:
        with pytest.raises(HeadendUnavailable, match="certificate verify failed"):
            client.fleet()

    async with open_served(tls=tls) as served:
        url = f"https://localhost:{served.port}"
        fleet = await with_client(kind, url, lambda client: client.fleet(), ca_file=authority.file)
        assert fleet.assets == 4
        await with_client(kind, url, refused, ca_file=other.file, retries=0)


async def test_a_client_is_used_by_many_at_once(kind: Kind) -> None:
    def ask(client: Any) -> None:
        names: list[str] = []
        threads = [
            threading.Thread(target=lambda key=key: names.append(client.asset(ASSETS[key % 4]).name))
            for key in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(names) == sorted(f"Battery {key // 2}/{key % 2}" for key in range(4) for _ in range(5))

    async with open_served() as served:
        await with_client(kind, served.url, ask)
