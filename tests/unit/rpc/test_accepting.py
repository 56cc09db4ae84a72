"""Which connections a server accepts, and when accepting fails."""

import pytest
import structlog.testing
import trio
import trio.testing
from trio.testing import MockClock

from tests.unit.rpc.probe import Probe
from tests.unit.rpc.raw_peer import RawClient
from trioder.rpc import PeerLimits, PeerOptions, serve_rpc


class _Listener(trio.abc.Listener[trio.abc.Stream]):
    """Hands out streams in memory, and raises the errors that it is given."""

    def __init__(self, *errors: OSError) -> None:
        self.accepted: list[RawClient] = []
        self._errors = list(errors)

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self._errors:
            raise self._errors.pop(0)
        if len(self.accepted) == 100:
            await trio.sleep_forever()
        ours, theirs = trio.testing.memory_stream_pair()
        self.accepted.append(RawClient(ours))
        return theirs

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("bound", ["max_unregistered", "max_connections"])
async def test_no_more_connections_are_accepted_than_there_is_room_for(
    bound: str, autojump_clock: MockClock
) -> None:
    listener = _Listener()
    limits = PeerLimits(PeerOptions(**{bound: 10}))
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda **kw: serve_rpc([listener], Probe().services, drain=trio.Event(), limits=limits, **kw)
        )
        await trio.sleep(1)
        assert len(listener.accepted) == 10
        # The silent ones make room.
        await trio.sleep(600)
        assert len(listener.accepted) == 100
        nursery.cancel_scope.cancel()


async def test_accept_is_retried_when_descriptors_are_exhausted(autojump_clock: MockClock) -> None:
    listener = _Listener(*(OSError(24, "Too many open files") for _ in range(50)))
    limits = PeerLimits()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda **kw: serve_rpc([listener], Probe().services, drain=trio.Event(), limits=limits, **kw)
            )
            await trio.sleep(60)
            nursery.cancel_scope.cancel()

    assert listener.accepted
    assert limits.refusals.counts["accept"] == 50
    assert len([line for line in logs if line.get("reason") == "accept"]) == 5


async def test_any_other_error_of_accept_ends_the_server(autojump_clock: MockClock) -> None:
    listener = _Listener(OSError(22, "Invalid argument"))
    with pytest.RaisesGroup(OSError, flatten_subgroups=True), trio.fail_after(1):
        await serve_rpc([listener], Probe().services, drain=trio.Event(), limits=PeerLimits())


async def test_a_drained_server_ends(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    drain.set()
    with trio.fail_after(20):
        await serve_rpc([_Listener()], Probe().services, drain=drain, limits=PeerLimits())
