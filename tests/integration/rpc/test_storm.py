"""Many agents at once over real sockets of one address: paced, none refused."""

from contextlib import AsyncExitStack
from functools import partial

import trio

from tests.unit.rpc.limited import REGISTER, Limited
from tests.unit.rpc.probe import DEFAULTS, message
from trioder.rpc import PeerOptions, connect, open_channel, serve_rpc

AGENTS = 300
IDLE = 20


async def test_a_storm_of_one_address_is_paced_and_none_is_refused() -> None:
    registered: list[int] = []
    everyone_is_here = trio.Event()

    async def agent(port: int, number: int) -> None:
        async with (
            open_channel(await connect("127.0.0.1", port), authority="probe") as channel,
            channel.open_call(REGISTER) as call,
        ):
            await call.send(message(b"%d" % number))
            await call.receive()
            registered.append(number)
            if len(registered) == AGENTS:
                everyone_is_here.set()
            await everyone_is_here.wait()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    port = listeners[0].socket.getsockname()[1]
    options = PeerOptions(max_unregistered=60, max_unregistered_per_address=8)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, AsyncExitStack() as idle:
            server = Limited(options, nursery, DEFAULTS)
            serve = partial(serve_rpc, listeners, server.services, drain=trio.Event(), limits=server.limits)
            await nursery.start(serve)
            for _ in range(IDLE):
                # They never send anything, so they are not admitted.
                idle.push_async_callback((await trio.open_tcp_stream("127.0.0.1", port)).aclose)
            async with trio.open_nursery() as agents:
                for number in range(AGENTS):
                    agents.start_soon(agent, port, number)
            assert sum(server.limits.refusals.counts.values()) <= IDLE
            nursery.cancel_scope.cancel()

    assert sorted(registered) == list(range(AGENTS))
