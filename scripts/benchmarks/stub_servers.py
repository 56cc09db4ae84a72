"""`python -m scripts.benchmarks.stub_servers empty|peer`: the least that a server can do, for comparison.

`empty` is an HTTP handler that does nothing, on the headend's server code; `peer` is a headend that only
acknowledges batches. Each writes its port to standard output, and ends with its standard input.
"""

import os
import sys
from functools import partial

import trio
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from trioder.api.http.serving import serve_rest
from trioder.rpc import ConnectionOptions, ServerCall, Services, serve_rpc
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_batch_ack, write_grant
from trioder.wire.records import SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM

_OPTIONS = ConnectionOptions(max_message_bytes=32 * 1024 * 1024)


def create_empty_app() -> QuartTrio:
    """Return an application that answers `/` with an empty object."""
    app = QuartTrio(__name__, static_folder=None)

    @app.get("/")
    async def answer() -> TrioResponse:
        return TrioResponse(b"{}", content_type="application/json")

    return app


async def serve_peer(call: ServerCall[pb.AgentToHeadend, pb.HeadendToAgent]) -> None:
    """Register an agent and acknowledge each of its batches."""
    await call.receive()
    await call.send(write_grant(SessionGrant(session_id="bench", committed_batch_seq=0, protocol=1)))
    async for message in call:
        batch = message.telemetry_batch
        if batch.batch_seq and not batch.live_only:
            await call.send(write_batch_ack(batch.batch_seq))


async def _serve(which: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    never = trio.Event()
    if which == "peer":
        services = Services({AGENT_LINK_STREAM: serve_peer})
        serve = partial(serve_rpc, listeners, services, options=_OPTIONS, drain=never)
    else:
        serve = partial(serve_rest, create_empty_app(), listeners, shutdown=never)
    async with trio.lowlevel.FdStream(os.dup(0)) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await parent.receive_some()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1])
