"""`python -m scripts.benchmarks.peer`: a headend in so far as it acknowledges what an agent sends.

It tells its port on standard output, and ends with its standard input.
"""

import os

import trio

from trioder.rpc import ConnectionOptions, ServerCall, Services, serve_rpc
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_batch_ack, write_grant
from trioder.wire.records import SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM

_OPTIONS = ConnectionOptions(max_message_bytes=32 * 1024 * 1024)


async def serve_peer(call: ServerCall[pb.AgentToHeadend, pb.HeadendToAgent]) -> None:
    """Take an agent's batches and acknowledge each."""
    await call.receive()
    await call.send(write_grant(SessionGrant(session_id="bench", committed_batch_seq=0, protocol=1)))
    async for message in call:
        batch = message.telemetry_batch
        if batch.batch_seq and not batch.live_only:
            await call.send(write_batch_ack(batch.batch_seq))


async def _serve() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    async with trio.lowlevel.FdStream(os.dup(0)) as parent, trio.open_nursery() as nursery:
        services = Services({AGENT_LINK_STREAM: serve_peer})

        async def serve() -> None:
            await serve_rpc(listeners, services, options=_OPTIONS, drain=trio.Event())

        nursery.start_soon(serve)
        await parent.receive_some()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve)
