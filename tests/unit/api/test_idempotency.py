"""Bounds of Idempotency-Keys: memory, locks, and the time to look one up."""

from dataclasses import replace

import pytest
import trio
import trio.testing
from quart import Quart

from tests.unit.control.driver import connect, dispatch_group, report_sample, still_parts
from tests.unit.headend.parts import Parts, newest_records
from trioder.api import idempotency
from trioder.api.errors import ApiError
from trioder.api.idempotency import IdempotencyKeys
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.dispatch import DispatchRecord
from trioder.schemas.dispatch import DispatchBody
from trioder.store.none import NoneStore

BODY = DispatchBody(fleet=True, mw=4.0)


class LockedStore(NoneStore):
    """A store whose database does not respond."""

    async def find_dispatch(
        self,
        *,
        dispatch_id: str | None = None,
        idempotency_key: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> DispatchRecord | None:
        await trio.sleep_forever()
        return None


def parts_with_keys(store: NoneStore | None = None) -> tuple[Parts, IdempotencyKeys]:
    parts = still_parts(assets=2)
    connect(parts, 0, 1)
    report_sample(parts, 0, 1)
    dispatcher = parts.dispatcher
    keys = IdempotencyKeys(store=store or NoneStore(), find=dispatcher.find_in_slices)
    return parts, keys


async def dispatch_under(key: str, keys: IdempotencyKeys, parts: Parts) -> DispatchRecord:
    async def execute(_key: str | None, _digest: str | None) -> DispatchRecord:
        return parts.dispatcher.record_of(dispatch_group(parts, 4.0))

    async with Quart("test").test_request_context("/", headers={"Idempotency-Key": key}):
        return await keys.execute_once(BODY, execute, scope=EVERYTHING)


async def test_the_first_records_of_large_groups_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "_MAX_MEMBERS", 10)
    parts, keys = parts_with_keys()
    first = await dispatch_under("k-0", keys, parts)
    for number in range(1, 8):
        await dispatch_under(f"k-{number}", keys, parts)
    assert len(keys._first_records) == 3
    again = await dispatch_under("k-0", keys, parts)
    # Not dispatched again; the current record is returned.
    assert (again.dispatch_id, again.state) == (first.dispatch_id, "superseded")


async def test_what_another_tenants_agent_reports_is_not_the_record_of_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "_MAX_MEMBERS", 0)
    parts, _ = parts_with_keys()
    own = replace(parts.dispatcher.record_of(dispatch_group(parts, 4.0)), tenant="alpha")

    class Recorded(NoneStore):
        async def find_dispatch(self, **query: object) -> DispatchRecord | None:
            return own if query.get("dispatch_id") == own.dispatch_id else None

    async def find(_dispatch_id: str) -> DispatchRecord | None:
        return replace(own, tenant="beta")

    async def execute(_key: str | None, _digest: str | None) -> DispatchRecord:
        return own

    keys = IdempotencyKeys(store=Recorded(), find=find)
    for key in ("k-0", "k-1", "k-0"):
        async with Quart("test").test_request_context("/", headers={"Idempotency-Key": key}):
            record = await keys.execute_once(BODY, execute, scope=Scope(tenant="alpha"))
        assert record.tenant == "alpha"


async def test_the_lock_of_a_key_is_removed_after_its_last_request() -> None:
    parts, keys = parts_with_keys()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(dispatch_under, "k-1", keys, parts)
    assert len(newest_records(parts.dispatcher, 10, counts=lambda _: True)) == 1
    assert keys._locks == {}


async def test_a_key_that_cannot_be_looked_up_within_2_s_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    parts, keys = parts_with_keys(LockedStore())
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(refused, f"k-{number}", keys, parts)
    assert trio.current_time() - started_s == pytest.approx(2.0)
    assert newest_records(parts.dispatcher, 1, counts=lambda _: True) == []
    assert keys._locks == {}


async def refused(key: str, keys: IdempotencyKeys, parts: Parts) -> None:
    with pytest.raises(ApiError, match="has not answered within 2 s; nothing was commanded") as caught:
        await dispatch_under(key, keys, parts)
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})


async def test_a_client_that_disconnects_after_the_dispatch_has_used_its_key() -> None:
    parts, keys = parts_with_keys()
    scope = trio.CancelScope()
    records: list[DispatchRecord] = []

    async def execute(_key: str | None, _digest: str | None) -> DispatchRecord:
        records.append(parts.dispatcher.record_of(dispatch_group(parts, 4.0)))
        scope.cancel()
        return records[0]

    async with Quart("test").test_request_context("/", headers={"Idempotency-Key": "k-1"}):
        with scope:
            await keys.execute_once(BODY, execute, scope=EVERYTHING)
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await dispatch_under("k-1", keys, parts) == records[0]
