"""Peers that exceed the shared limits: of memory, of connections, of time to register."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import h2.events
import pytest
import structlog.testing
import trio
import trio.testing
from h2.errors import ErrorCodes
from trio.testing import MockClock

from tests.unit.rpc.limited import FIRST_MESSAGE_BYTES, calling, open_limited, written
from tests.unit.rpc.probe import DEFAULTS, Probe
from tests.unit.rpc.raw_peer import RawClient
from trioder.rpc import PeerLimits, PeerOptions, StatusCode, serve_rpc
from trioder.rpc.framing import framed
from trioder.rpc.peer_limits import CALL_BYTES, CONNECTION_BYTES, TLS_BYTES, PeerBudget

EXHAUSTED = str(StatusCode.RESOURCE_EXHAUSTED.value)


def goaways(client: RawClient) -> list[int]:
    return [int(e.error_code) for e in client.events if isinstance(e, h2.events.ConnectionTerminated)]


async def hold(client: RawClient, count: int, name: str = "Hang") -> int:
    """Send `count` bytes of a message that is not finished, as far as the server takes them."""
    stream_id: int = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream_id, calling(name))
    rest = written(count + 100)[:count]
    while rest and not client.server_ended.is_set():
        room = min(client.h2.local_flow_control_window(stream_id), 16_384, len(rest))
        client.h2.send_data(stream_id, rest[:room])
        rest = rest[room:]
        await client.receive()
        if client.fields_on(stream_id) or stream_id in client.resets() or goaways(client):
            break
    return stream_id


async def test_an_unregistered_peer_holds_so_much_and_not_more(autojump_clock: MockClock) -> None:
    async with open_limited(unregistered_bytes=50_000) as server:
        client = await server.client()
        first = await hold(client, 30_000)
        second = await hold(client, 30_000)

        assert client.fields_on(second)["grpc-status"] == EXHAUSTED
        assert not client.fields_on(first)
        assert server.limits.refusals.counts["call_bounds"] == 1


async def test_unreceived_messages_count_as_well(autojump_clock: MockClock) -> None:
    async with open_limited(unregistered_bytes=50_000) as server:
        client = await server.client()
        stream_id: int = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream_id, calling("Hang"))
        for _ in range(10):
            client.h2.send_data(stream_id, framed(b"") * 200)  # 1,000 bytes each time
        await client.receive()

        assert client.fields_on(stream_id)["grpc-status"] == EXHAUSTED


async def test_calls_count_as_well(autojump_clock: MockClock) -> None:
    async with open_limited(unregistered_bytes=5 * CALL_BYTES) as server:
        client = await server.client()
        for _ in range(8):
            await client.request(calling("Hang"), None)
        await client.receive()

        assert list(client.resets().values()) == [ErrorCodes.REFUSED_STREAM] * 3
        assert server.probe.hanging == 5


async def test_only_the_method_that_registers_takes_a_large_first_message(autojump_clock: MockClock) -> None:
    async with open_limited() as server:
        client = await server.client()
        registering = await hold(client, 200_000, "Register")
        again = await hold(client, 200_000, "Register")
        other = await hold(client, 200_000, "Hang")

        assert not client.fields_on(registering)
        assert client.fields_on(again)["grpc-status"] == EXHAUSTED
        assert client.fields_on(other)["grpc-status"] == EXHAUSTED

        client = await server.client()
        too_large = await hold(client, FIRST_MESSAGE_BYTES + 70_000, "Register")
        assert client.fields_on(too_large)["grpc-status"] == EXHAUSTED


async def test_what_a_peer_holds_is_counted_until_it_is_received_or_its_connection_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_limited() as server:
        empty = server.limits.used_bytes
        registered = await server.registered()
        client = await server.client()
        idle = server.limits.used_bytes
        await hold(client, 40_000)
        assert server.limits.used_bytes >= idle + 40_000

        await client.request(calling("Unary"), written(5000))
        await client.receive()
        assert server.limits.used_bytes < idle + 46_000

        await client.stream.aclose()
        await registered.stream.aclose()
        await trio.sleep(5)
        assert server.limits.used_bytes == empty == 0
        assert server.limits.connections == 0


async def test_all_together_hold_no_more_than_the_budget(autojump_clock: MockClock) -> None:
    budget = 2_000_000
    async with open_limited(memory_bytes=budget, register_within_s=1e6) as server:
        most = 0
        clients = [await server.client(f"192.0.2.{number}") for number in range(20)]
        for client in clients:
            await hold(client, 200_000, "Register")
            most = max(most, server.limits.used_bytes)

        assert budget / 2 < most <= budget + 70_000  # what was read last is counted before it is dropped
        ended = [client for client in clients if goaways(client) or client.server_ended.is_set()]
        assert 0 < server.limits.refusals.counts["memory"] <= 20
        assert all(goaways(client) in ([], [ErrorCodes.ENHANCE_YOUR_CALM]) for client in ended)


async def test_unregistered_peers_are_closed_before_registered_ones(autojump_clock: MockClock) -> None:
    async with open_limited(memory_bytes=700_000, register_within_s=1e6) as server:
        agent = await server.registered()
        await hold(agent, 50_000)
        strangers = [await server.client() for _ in range(5)]
        for stranger in strangers:
            await hold(stranger, 150_000, "Register")
        await trio.sleep(3)
        await agent.receive()

        assert server.limits.refusals.counts["memory"] >= 2
        assert not goaways(agent)
        assert server.limits.registered_count == 1


async def test_the_largest_is_closed_first_with_a_status(autojump_clock: MockClock) -> None:
    async with open_limited(memory_bytes=700_000, register_within_s=1e6) as server:
        small = await server.client()
        await hold(small, 20_000, "Register")
        large = await server.client()
        stream_id = await hold(large, 250_000, "Register")
        for _ in range(2):
            await hold(await server.client(), 150_000, "Register")
        await large.receive()
        await small.receive()

        assert large.fields_on(stream_id)["grpc-status"] == EXHAUSTED
        assert goaways(large) == [ErrorCodes.ENHANCE_YOUR_CALM]
        assert not goaways(small)


async def test_a_peer_has_so_long_to_register(autojump_clock: MockClock) -> None:
    async with open_limited(register_within_s=10) as server:
        agent = await server.registered()
        stranger = await server.client()
        call = await stranger.request(calling("Hang"), None)
        for _ in range(9):
            await stranger.receive()
            await trio.sleep(1)
        await stranger.receive()
        assert not goaways(stranger)
        for _ in range(2):
            await trio.sleep(1)
            await stranger.receive()
            await agent.receive()

        assert stranger.fields_on(call)["grpc-status"] == str(StatusCode.DEADLINE_EXCEEDED.value)
        assert goaways(stranger) == [ErrorCodes.NO_ERROR]
        assert not goaways(agent)
        assert server.limits.refusals.counts["register_timeout"] == 1


async def test_a_peer_that_leaves_has_as_long_to_register_again(autojump_clock: MockClock) -> None:
    async with open_limited() as server:
        agent = await server.client()
        call = await server.register(agent)
        assert (server.limits.registered_count, server.limits.unregistered_count) == (1, 0)
        agent.h2.reset_stream(call, ErrorCodes.CANCEL)
        await agent.receive()
        assert (server.limits.registered_count, server.limits.unregistered_count) == (0, 1)
        await trio.sleep(8)
        await server.register(agent)
        await trio.sleep(8)
        await agent.receive()

        assert not goaways(agent)


async def until_answered(client: RawClient) -> float:
    """Return the time at which a request is answered."""
    stream_id = await client.request(calling("Unary"))
    while "grpc-status" not in client.fields_on(stream_id):
        await client.receive()
    return trio.current_time()


async def test_peers_of_one_address_wait_for_each_other_only(
    autojump_clock: MockClock,
) -> None:
    async with open_limited(max_unregistered_per_address=2) as server:
        first, _ = [await server.client("192.0.2.1") for _ in range(2)]
        waiting = await server.client("192.0.2.1")
        stream_id = await waiting.request(calling("Unary"))
        await waiting.receive()
        assert not waiting.events
        assert await until_answered(await server.client("192.0.2.2")) < 1

        await server.register(first)
        await waiting.receive()
        assert waiting.fields_on(stream_id)["grpc-status"] == "0"


async def test_a_crowd_of_one_address_is_all_registered_in_order(autojump_clock: MockClock) -> None:
    async with open_limited(max_unregistered_per_address=4) as server:
        crowd = [await server.client() for _ in range(40)]
        async with trio.open_nursery() as nursery:
            for client in crowd:
                nursery.start_soon(server.register, client)

        assert server.limits.registered_count == 40
        assert sum(server.limits.refusals.counts.values()) == 0


async def test_silent_peers_are_closed_for_those_that_wait(autojump_clock: MockClock) -> None:
    async with open_limited(max_unregistered_per_address=2) as server:
        silent = [await server.client() for _ in range(2)]
        waiting = await server.client()
        assert 5 < await until_answered(waiting) < 7
        for client in silent:
            await client.receive()

        assert sum(len(goaways(client)) for client in silent) == 1
        assert server.limits.refusals.counts["silent"] == 1


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
async def test_a_site_of_ipv6_is_one_address(
    one: str, other: str, together: bool, autojump_clock: MockClock
) -> None:
    async with open_limited(max_unregistered_per_address=1) as server:
        await server.client(one)
        second = await server.client(other)
        await second.receive()

        assert bool(second.events) is not together


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


async def test_calls_as_fast_as_can_be_end_the_connection(autojump_clock: MockClock) -> None:
    options = replace(DEFAULTS, calls_at_once=50, calls_per_s=10.0)
    async with open_limited(connection=options) as server:
        conforming = await server.client()
        for _ in range(40):
            await until_answered(conforming)
        hasty = await server.client()
        for number in range(1, 121, 2):
            hasty.h2.send_headers(number, calling("Nowhere"), end_stream=True)
        await hasty.receive()
        await conforming.receive()

        assert goaways(hasty) == [ErrorCodes.ENHANCE_YOUR_CALM]
        assert not goaways(conforming)
        assert server.limits.refusals.counts["call_rate"] == 1


async def test_a_peer_that_reads_nothing_is_closed(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with open_limited() as server, trio.open_nursery() as nursery:
        nursery.start_soon(server._serve, theirs, "192.0.2.1")
        client = RawClient(ours)
        await client.flush()
        await client.request(calling("Register"), written(10))
        with trio.fail_after(60):
            while server.limits.connections:
                await client.send(b"\0\0\4\x08\0\0\0\0\0\0\0\0\1")  # WINDOW_UPDATE: not silent
                await trio.sleep(1)

        assert server.limits.refusals.counts["unread_responses"] == 1


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_agents_that_come_at_once_are_registered_one_a_pass(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Passes()
    registered: list[int] = []
    register = PeerBudget.register

    def recorded(budget: PeerBudget) -> None:
        registered.append(passes.count)
        register(budget)

    async with open_limited() as server:
        clients = [await server.client() for _ in range(20)]
        for client in clients:
            stream_id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream_id, calling("Register"))
            client.h2.send_data(stream_id, written(10))
        monkeypatch.setattr(PeerBudget, "register", recorded)
        trio.lowlevel.add_instrument(passes)
        async with trio.open_nursery() as nursery:
            for client in clients:
                # All of them in the same pass.
                nursery.start_soon(client.flush)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(passes)

    assert len(registered) == len(set(registered)) == 20


async def test_a_tls_session_is_charged_until_its_peer_has_registered(autojump_clock: MockClock) -> None:
    limits = PeerLimits()
    budget = limits.open_budget("192.0.2.1")
    async with limits.serving(budget):
        budget.begin_handshake()
        assert limits.used_bytes == CONNECTION_BYTES + TLS_BYTES
        budget.register()
        assert limits.used_bytes == 0
        budget.unregister()
        assert limits.used_bytes == CONNECTION_BYTES
    assert limits.used_bytes == 0


async def test_flooding_peers_delay_neither_first_messages_nor_handshakes(autojump_clock: MockClock) -> None:
    limits = PeerLimits()
    passes = Passes()
    waited: dict[str, int] = {}

    async def wait(name: str, turn: Callable[[], Awaitable[None]]) -> None:
        await turn()
        waited[name] = passes.count

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(wait, f"flood {number}", limits.turns.next_slice)
        nursery.start_soon(wait, "first", limits.turns.next_first_slice)
        nursery.start_soon(wait, "handshake", limits.turns.next_handshake_step)
    trio.lowlevel.remove_instrument(passes)

    assert max(waited["first"], waited["handshake"]) <= 3
    assert max(waited.values()) >= 100
