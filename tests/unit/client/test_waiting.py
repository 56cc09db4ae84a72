"""Waiting for a state of a dispatch, in virtual time."""

from collections.abc import Iterable
from typing import get_args

import httpx2
import msgspec
import pytest
import trio

from trioder.client import AsyncHeadendClient, DispatchEnded, HeadendClient
from trioder.client import sync_client as sync_module
from trioder.client.waiting import DispatchWait
from trioder.domain.lifecycle import OPEN, TERMINAL, DispatchState
from trioder.schemas.dispatch import DispatchRow, TargetRow


def dispatch_in(state: str) -> DispatchRow:
    return DispatchRow(
        dispatch_id="d",
        target=TargetRow(kind="fleet", id=None),
        mw=1.0,
        allocated_mw=1.0,
        shortfall_mw=0.0,
        duration_s=60,
        valid_until=None,
        reversion_mw=0.0,
        expires_in_s=60.0,
        strategy=None,
        resplit=True,
        dispatched_at="",
        ends_at=None,
        state=state,  # type: ignore[arg-type]
        members=1,
        left_out=0,
        by_state={},
        resplits=[],
        tenant="default",
        requested_by="a",
        priority="operator",
        reason=None,
        allocations=None,
    )


class Headend:
    """Shows a dispatch in one state after the other, in the last for ever."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.reads = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/dispatch/d"
        assert request.url.params["allocations"] == "false"
        self.reads += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return httpx2.Response(200, content=msgspec.json.encode(dispatch_in(state)))


async def wait(headend: Headend, until: DispatchState | Iterable[DispatchState] | None = None) -> DispatchRow:
    transport = httpx2.MockTransport(headend)
    async with AsyncHeadendClient("http://headend", transport=transport) as client:
        if until is None:
            return await client.wait_for_dispatch("d")
        return await client.wait_for_dispatch("d", until=until)


async def test_a_state_is_waited_for(autojump_clock: object) -> None:
    headend = Headend("queued", "sent", "accepted", "accepted", "tracking", "completed")
    assert (await wait(headend, "tracking")).state == "tracking"
    assert headend.states == ["completed"]


async def test_by_default_its_end_is_waited_for(autojump_clock: object) -> None:
    assert (await wait(Headend("sent", "tracking", "superseded"))).state == "superseded"


async def test_any_of_several_will_do(autojump_clock: object) -> None:
    assert (await wait(Headend("sent", "deferred"), ["deferred", "tracking"])).state == "deferred"


@pytest.mark.parametrize(
    ("until", "state"),
    [
        ("queued", "sent"),
        ("sent", "rejected"),
        ("accepted", "clamped"),
        ("accepted", "deviating"),
        ("accepted", "tracking"),
        ("accepted", "not_tracked"),
        ("tracking", "completed"),
    ],
)
async def test_a_state_that_was_passed_is_reached(
    autojump_clock: object, until: DispatchState, state: str
) -> None:
    assert (await wait(Headend(state), until)).state == state


@pytest.mark.parametrize(
    ("until", "state"),
    [
        ("tracking", "not_tracked"),
        ("accepted", "rejected"),
        ("accepted", "expired"),
        ("clamped", "completed"),
    ],
)
async def test_a_dispatch_that_ends_without_it_is_an_error(
    autojump_clock: object, until: DispatchState, state: str
) -> None:
    with pytest.raises(
        DispatchEnded, match=rf"dispatch d is {state}, and was not seen to be {until}"
    ) as raised:
        await wait(Headend("sent", state), until)
    assert raised.value.dispatch.state == state


@pytest.mark.parametrize("until", ["traking", [], ["tracking", "done"]])
async def test_a_state_that_does_not_exist_is_refused(until: object) -> None:
    with pytest.raises(ValueError, match="it must be of the states deferred, queued"):
        await wait(Headend("sent"), until)  # type: ignore[arg-type]


async def test_the_caller_bounds_it(autojump_clock: object) -> None:
    headend = Headend("accepted")
    with pytest.raises(trio.TooSlowError), trio.fail_after(60):
        await wait(headend, "tracking")
    # It asks quickly at first, then once a second.
    assert 60 < headend.reads < 70


def test_every_state_is_reached_by_itself_and_never_by_one_before_it() -> None:
    for state in get_args(DispatchState):
        assert DispatchWait("d", state).is_over(dispatch_in(state))
    assert not DispatchWait("d", "tracking").is_over(dispatch_in("deviating"))
    for state in OPEN:
        assert not DispatchWait("d", TERMINAL).is_over(dispatch_in(state))


def test_the_client_for_threads_follows_a_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(sync_module.time, "sleep", slept_s.append)
    states = ["sent", "accepted", "accepted", "accepted", "tracking", "tracking", "completed"]
    with HeadendClient("http://headend", transport=httpx2.MockTransport(Headend(*states))) as client:
        assert [dispatch.state for dispatch in client.follow_dispatch("d")] == states
    assert slept_s == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    with HeadendClient("http://headend", transport=httpx2.MockTransport(Headend(*states))) as client:
        assert client.wait_for_dispatch("d", until="tracking").state == "tracking"
