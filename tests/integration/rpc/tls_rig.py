"""Our server and client with TLS on a real socket, and certificates for both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import pytest
import trio

from tests.unit.access.certificates import Authority, Pair
from tests.unit.rpc.probe import DEFAULTS, UNARY, Probe, call_unary, message
from trioder.access.tls import ClientTls, ServerTls
from trioder.rpc import (
    Channel,
    PeerAccess,
    PeerLimits,
    RpcError,
    connect,
    open_channel,
    serve_rpc,
)


class Files(NamedTuple):
    authority: Authority
    server: Pair
    agent: Pair


class Running(NamedTuple):
    port: int
    probe: Probe
    limits: PeerLimits


@asynccontextmanager
async def serving(
    tls: ServerTls | None, *, access: PeerAccess | None = None, limits: PeerLimits | None = None
) -> AsyncIterator[Running]:
    probe, limits = Probe(), limits or PeerLimits()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_rpc,
            listeners,
            probe.services,
            drain=trio.Event(),
            options=DEFAULTS,
            limits=limits,
            tls=tls,
            access=access,
        )
        await nursery.start(serve)
        with trio.fail_after(20):
            await trio.lowlevel.checkpoint()
            yield Running(listeners[0].socket.getsockname()[1], probe, limits)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def channel_to(port: int, tls: ClientTls | None) -> AsyncIterator[Channel]:
    stream = await connect("localhost", port, ssl_context=None if tls is None else tls.context)
    async with open_channel(stream, authority="localhost") as channel:
        yield channel


async def refusal(port: int, tls: ClientTls | None) -> RpcError:
    with pytest.raises(RpcError) as caught:
        async with channel_to(port, tls) as channel:
            await call_unary(channel, UNARY, message(b"on"))
    return caught.value


async def logged(logs: list[dict[str, object]], server: Running) -> str:
    """Return why the one peer was refused, once it was."""
    while server.limits.refusals.counts["tls"] == 0:
        await trio.sleep(0.01)
    assert server.limits.refusals.counts["tls"] == 1
    (reason,) = [str(entry["detail"]) for entry in logs if entry.get("reason") == "tls"]
    return reason
