"""A headend of a test on a port of loopback, over TLS or plain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from tests.unit.agent.parts import FakeHeadend
from trioder.access.tls import ServerTls
from trioder.rpc import RpcError, ServerCall, Services, StatusCode, serve_rpc
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.service import AGENT_LINK_STREAM

WITHIN_S = 60


@dataclass
class Headend(FakeHeadend):
    """A headend on a port."""

    port: int = 0
    certificates: list[bytes | None] = field(default_factory=list)
    cut_session: trio.Event = field(default_factory=trio.Event)

    async def serve_until_cut(self, call: ServerCall[pb.AgentToHeadend, pb.HeadendToAgent]) -> None:
        self.certificates.append(call.peer.certificate)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve, call)
            await self.cut_session.wait()
            nursery.cancel_scope.cancel()
        raise RpcError(StatusCode.UNAVAILABLE, "cut")


@asynccontextmanager
async def serving(tls: ServerTls | None) -> AsyncIterator[Headend]:
    headend = Headend()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    headend.port = listeners[0].socket.getsockname()[1]
    services = Services({AGENT_LINK_STREAM: headend.serve_until_cut})
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_rpc, listeners, services, drain=trio.Event(), tls=tls))
            yield headend
            nursery.cancel_scope.cancel()
