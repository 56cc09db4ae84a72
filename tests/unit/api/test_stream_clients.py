"""Clients of `GET /stream` that reconnect, or may not follow any longer."""

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.unit.access.documents import document_of, token_entry
from tests.unit.api.feeds import ASSET, alarm, follow, names, opened
from tests.unit.api.rest import Rest, open_rest, uuid_of
from tests.unit.api.tenants import (
    asset_ids,
    bearer,
    keys_of,
    open_tenants,
    secret_of,
    site_id,
)
from trioder.access.document import AccessDocument
from trioder.access.table import AccessTable, token_sha256
from trioder.api import RestLimits, RestOptions
from trioder.api.stream import feed as feed_module

SECRET = "secret"


async def leave_after(rest: Rest, query: str = "") -> str:
    """Follow until the snapshot is complete; return the last id."""
    async with follow(rest, query) as follower:
        await follower.until("complete")
    return follower.last_id


async def test_a_client_that_reconnects_is_sent_what_it_has_missed(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1)
        last_id = await leave_after(rest)
        await trio.sleep(5)
        for power_mw in (1.0, 2.0):
            rest.report(0, current_mw=power_mw)
            await trio.sleep(1)
        rest.headend.alarms.register.raise_alarm(alarm())
        rest.headend.alarms.register.clear(alarm())
        await trio.sleep(5)
        async with follow(rest, headers={"Last-Event-ID": last_id}) as follower:
            events = await follower.until("complete")
    assert (events[0].data["resumed"], events[0].data["reason"]) == (
        True,
        "the changes since Last-Event-ID follow",
    )
    assert names(events) == ["begin", "alarms", "alarms", "telemetry", "fleet", "complete"]
    assert [event.data["transition"] for event in events[1:3]] == ["raised", "cleared"]
    # The newest value alone, and not of assets that have not changed.
    assert [(row["asset_id"], row["current_mw"]) for row in events[3].data["rows"]] == [(ASSET, 2.0)]


async def test_an_id_within_a_tick_resumes_before_that_tick(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        async with follow(rest, "topics=telemetry,alarms") as follower:
            await follower.until("complete")
            await trio.sleep(1)
            rest.headend.alarms.register.raise_alarm(alarm())
            rest.report(0)
            first, second = await follower.event(), await follower.event()
        assert (first.name, first.id, second.id) == ("alarms", f"{second.id}.1", second.id[: len(second.id)])
        for last_id, missed in ((first.id, ["alarms", "telemetry"]), (second.id, [])):
            headers = {"Last-Event-ID": last_id}
            async with follow(rest, "topics=telemetry,alarms", headers=headers) as follower:
                assert names(await follower.until("complete")) == ["begin", *missed, "complete"]


@pytest.mark.parametrize(
    ("last_id", "reason"),
    [
        ("", "there is no Last-Event-ID"),
        ("00000000.1", "Last-Event-ID is of another run of the feed"),
        ("{epoch}.999999", "Last-Event-ID is in the future"),
        ("{epoch}.0", "Last-Event-ID is too old"),
    ],
)
async def test_what_cannot_be_resumed_gets_a_snapshot_and_the_reason(
    autojump_clock: object, last_id: str, reason: str
) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        rest.report(0)
        await leave_after(rest)
        rest.headend.feed.ring.clear(3)
        headers = {"Last-Event-ID": last_id.format(epoch=rest.headend.feed.epoch)}
        async with follow(rest, headers=headers) as follower:
            events = await follower.until("complete")
    assert (events[0].data["resumed"], events[0].data["reason"]) == (False, reason)
    assert "telemetry" in names(events)


async def test_a_restarted_headend_sends_a_snapshot(autojump_clock: object) -> None:
    async with open_rest() as rest:
        last_id = await leave_after(rest)
    async with open_rest() as rest:
        rest.headend.feed._rng.seed(2)
        async with follow(rest, headers={"Last-Event-ID": last_id}) as follower:
            assert (await follower.event()).data["resumed"] is False


async def test_more_facts_than_fit_begin_the_stream_anew(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_MAX_FACTS", 10)
    async with open_rest() as rest, follow(rest, "topics=alarms") as follower:
        await follower.until("complete")
        for number in range(11):
            rest.headend.alarms.register.raise_alarm(alarm(number))
        begin = (await follower.until("begin"))[-1].data
        assert begin["reason"] == "too much has changed at once"
        assert names(await follower.until("complete")) == ["alarms"] * 11 + ["complete"]


async def test_a_failure_begins_the_stream_anew_and_is_logged(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rest() as rest, follow(rest) as follower:
        rest.connect(0)
        rest.report(0)
        await follower.until("complete")
        crashes: list[str] = []
        monkeypatch.setattr(feed_module.log, "exception", crashes.append)
        with monkeypatch.context() as broken:
            broken.setattr(rest.headend.feed.rows, "refresh", None)
            rest.report(0, current_mw=1.5)
            begin = (await follower.until("begin"))[-1].data
        assert (begin["resumed"], begin["reason"]) == (False, "the feed has failed")
        while (await follower.next_row(ASSET))["current_mw"] != 1.5:
            pass
    assert set(crashes) == {"live feed failed"}


async def test_a_tenant_s_stream_has_nothing_of_another_s(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        rest, beta = tenants.rest, keys_of("beta")
        async with follow(rest, headers=bearer(secret_of("viewer", "alpha"))) as follower:
            received = await follower.until("complete")
            rest.report(*beta, current_mw=1.0)
            for session in rest.headend.sessions:
                rest.headend.events.publish(opened(session))
            await tenants.dispatch(secret=secret_of("operator", "beta"), asset_id=asset_ids("beta")[0])
            status, _ = await tenants.dispatch(secret=secret_of("operator", "*"), fleet=True)
            assert status == 200
            # Beta's assets go stale, too.
            received += await follower.within(30.0)
    text = repr(received)
    assert not [name for name in tenants.names_of("beta") if name in text]
    assert {event.data["fleet"] for event in received if "fleet" in event.data} == set()
    assert all(event.data["assets"] == 4 for event in received if event.name == "fleet")


async def test_a_token_for_a_site_follows_that_site(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        rest = tenants.rest
        async with follow(rest, headers=bearer(secret_of("site", "alpha"))) as follower:
            received = await follower.until("complete")
            rest.report(*keys_of("alpha"), current_mw=1.0)
            # A dispatch to both of alpha's sites is not within the scope.
            await tenants.dispatch(secret=secret_of("operator", "alpha"), fleet=True)
            received += await follower.within(5.0)
    assert received[0].data["assets"] == 2
    text = repr(received)
    assert site_id("alpha", 1) not in text
    assert not [asset_id for asset_id in asset_ids("alpha")[2:] if asset_id in text]
    # The one to its own site was made before.
    dispatches = [event.data["dispatch"]["target"] for event in received if event.name == "dispatch"]
    assert {target["id"] for target in dispatches} == {site_id("alpha", 0)}


def table_of(**fields: object) -> AccessTable:
    return AccessTable(token_document(**fields))


def token_document(**fields: object) -> AccessDocument:
    return document_of(token_entry(name="ann", sha256=token_sha256(SECRET), tenant="default", **fields))


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ({"revoked_at": "2026-01-01T00:00:10.000Z"}, "the token ann was revoked at 2026-01-01T00:00:10.000Z"),
        ({"site_ids": (uuid_of(0),)}, "the token's tenant or sites have changed"),
    ],
)
async def test_a_token_that_changes_ends_its_streams(
    autojump_clock: object, later: dict[str, object], reason: str
) -> None:
    table = table_of()
    async with open_rest(access=table) as rest, follow(rest, headers=bearer(SECRET)) as follower:
        await follower.until("complete")
        await follower.within(10.0)
        table.replace(token_document(**later))
        with trio.fail_after(8):
            assert (await follower.next("end"))["reason"] == reason
        with pytest.raises(trio.EndOfChannel):
            await follower.event()
        assert rest.headend.counters.streams_revoked == 1


async def test_a_token_that_expires_ends_its_streams(autojump_clock: object) -> None:
    table = table_of(expires_at="2026-01-01T00:01:00.000Z")
    async with open_rest(access=table) as rest, follow(rest, headers=bearer(SECRET)) as follower:
        events = await follower.within(59.5)
        assert "end" not in names(events)
        with trio.fail_after(8):
            end = await follower.next("end")
        assert end["reason"] == "the token ann expired at 2026-01-01T00:01:00.000Z"
        async with follow(rest, headers=bearer(SECRET)) as refused:
            assert refused.status == 401


async def test_access_control_that_is_turned_on_ends_open_streams(autojump_clock: object) -> None:
    table = AccessTable()
    async with open_rest(access=table) as rest, follow(rest) as follower:
        await follower.until("complete")
        table.replace(token_document())
        with trio.fail_after(8):
            assert (await follower.next("end"))["reason"] == "a token is needed now"


async def test_open_streams_of_a_token_are_limited(autojump_clock: object) -> None:
    options = RestOptions(limits=RestLimits(open_streams=2))
    async with open_rest(access=table_of(), options=options) as rest:
        async with (
            follow(rest, headers=bearer(SECRET)),
            follow(rest, headers=bearer(SECRET)),
            follow(rest, headers=bearer(SECRET)) as third,
        ):
            assert third.status == 429
        async with follow(rest, headers=bearer(SECRET)) as again:
            assert again.status == 200


async def test_the_log_says_how_a_stream_has_ended(autojump_clock: object) -> None:
    async with open_rest() as rest:
        with capture_logs() as lines:
            async with follow(rest) as follower:
                await follower.until("complete")
                await trio.sleep(10)
            async with follow(rest) as follower:
                await follower.until("complete")
                rest.headend.closing.set()
                await follower.until("end")
    ended = [line for line in lines if line["event"] == "stream ended"]
    assert [line["reason"] for line in ended] == ["the client left", "the headend is stopping"]
    assert [line["duration_s"] for line in ended] == [10.0, 0.0]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["request_id"] for line in ended] == [line["request_id"] for line in requests]
    assert min(line["events"] for line in ended) > 3
