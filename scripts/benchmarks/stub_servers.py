"""`python -m scripts.benchmarks.stub_servers empty|bare|peer`: the least that a server can do.

`empty` is an HTTP handler that does nothing, on the headend's server code; `bare` is a loop over a
connection, with httptools and nothing else; `peer` is a headend that only acknowledges batches. Each
writes its port to standard output as JSON, and ends with its standard input.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import httptools
import trio
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from trioder.api.http.serving import serve_rest
from trioder.process.nurseries import open_background_nursery
from trioder.rpc import ConnectionOptions, ServerCall, Services, serve_rpc
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_batch_ack, write_grant
from trioder.wire.records import SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM

_OPTIONS = ConnectionOptions(max_message_bytes=32 * 1024 * 1024)
_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_app = QuartTrio(__name__, static_folder=None)


@_app.get("/")
async def answer() -> TrioResponse:
    """Return an empty object."""
    return TrioResponse(b"{}", content_type="application/json")


async def serve_bare(stream: trio.SocketStream) -> None:
    """Return an empty object for each request."""
    complete: list[None] = []
    parser = httptools.HttpRequestParser(SimpleNamespace(on_message_complete=lambda: complete.append(None)))
    # Clients leave with responses unread.
    with suppress(trio.BrokenResourceError):
        async for data in stream:
            parser.feed_data(data)
            await stream.send_all(_RESPONSE * len(complete))
            complete.clear()


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
    print(json.dumps({"port": listeners[0].socket.getsockname()[1]}), flush=True)
    services, never = Services({AGENT_LINK_STREAM: serve_peer}), trio.Event()
    serve: dict[str, Callable[[], Awaitable[object]]] = {
        "empty": partial(serve_rest, _app, listeners, shutdown=never),
        "bare": partial(trio.serve_listeners, serve_bare, listeners),
        "peer": partial(serve_rpc, listeners, services, options=_OPTIONS, drain=never),
    }
    async with trio.lowlevel.FdStream(os.dup(0)) as parent, open_background_nursery() as nursery:
        nursery.start_soon(serve[which])
        await parent.receive_some()


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1])
