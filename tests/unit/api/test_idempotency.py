"""What keys cost: how much is remembered of them, and how long a command waits for those of others."""

import pytest
import trio
import trio.testing
from quart import Quart

from tests.unit.control.driver import connect, dispatch_group, report_sample, still_parts
from tests.unit.headend.parts import Parts
from trioder.api import idempotency
from trioder.api.errors import ApiError
from trioder.api.idempotency import IdempotencyKeys
from trioder.api.schemas.dispatch import DispatchBody
from trioder.domain.dispatch import DispatchRecord
from trioder.store.none import NoneStore

BODY = DispatchBody(fleet=True, mw=4.0)


class LockedStore(NoneStore):
    """Its database does not answer."""

    async def find_dispatch(
        self, *, dispatch_id: str | None = None, idempotency_key: str | None = None
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


async def give_under(key: str, keys: IdempotencyKeys, parts: Parts) -> DispatchRecord:
    async def give(_key: str | None, _digest: str | None) -> DispatchRecord:
        return parts.dispatcher.record_of(dispatch_group(parts, 4.0))

    async with Quart("test").test_request_context("/", headers={"Idempotency-Key": key}):
        return await keys.execute_once(BODY, give)


async def test_the_answers_of_many_large_groups_are_not_all_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "_MAX_MEMBERS", 10)
    parts, keys = parts_with_keys()
    first = await give_under("k-0", keys, parts)
    for number in range(1, 8):
        await give_under(f"k-{number}", keys, parts)
    assert len(keys._first_answers) == 3
    again = await give_under("k-0", keys, parts)
    # Not given again, and told as it stands by now.
    assert (again.dispatch_id, again.state) == (first.dispatch_id, "superseded")


async def test_a_key_whose_turn_is_over_leaves_nothing_to_wait_for() -> None:
    parts, keys = parts_with_keys()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(give_under, "k-1", keys, parts)
    assert len(parts.dispatcher.newest(10, counts=lambda _: True)) == 1
    assert keys._turns == {}


async def test_a_database_that_does_not_answer_has_commands_under_keys_refused_after_2_s(
    autojump_clock: trio.testing.MockClock,
) -> None:
    parts, keys = parts_with_keys(LockedStore())
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(refused, f"k-{number}", keys, parts)
    assert trio.current_time() - started_s == pytest.approx(2.0)
    assert parts.dispatcher.newest(1, counts=lambda _: True) == []
    assert keys._turns == {}


async def refused(key: str, keys: IdempotencyKeys, parts: Parts) -> None:
    with pytest.raises(ApiError, match="has not answered within 2 s; nothing was commanded") as caught:
        await give_under(key, keys, parts)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5)


async def test_a_client_that_leaves_once_its_command_is_given_has_used_its_key() -> None:
    parts, keys = parts_with_keys()
    scope = trio.CancelScope()
    given: list[DispatchRecord] = []

    async def give(_key: str | None, _digest: str | None) -> DispatchRecord:
        given.append(parts.dispatcher.record_of(dispatch_group(parts, 4.0)))
        scope.cancel()
        return given[0]

    async with Quart("test").test_request_context("/", headers={"Idempotency-Key": "k-1"}):
        with scope:
            await keys.execute_once(BODY, give)
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await give_under("k-1", keys, parts) == given[0]
