"""A service that shows every way a call can go, for tests of the transport; its messages are bytes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from google.protobuf.wrappers_pb2 import BytesValue

from trioder.rpc import (
    Channel,
    ConnectionOptions,
    Handler,
    Method,
    RpcError,
    ServerCall,
    Services,
    StatusCode,
    open_channel,
    serve_connection,
)

DEFAULTS = ConnectionOptions()
UNICODE = "größer als 100 % — 电池\nzweite Zeile"


def probe_method(
    name: str, *, client_streaming: bool = False, server_streaming: bool = False
) -> Method[Any, Any]:
    return Method(
        service="probe.Probe",
        name=name,
        request_type=BytesValue,
        response_type=BytesValue,
        client_streaming=client_streaming,
        server_streaming=server_streaming,
    )


UNARY = probe_method("Unary")
COUNT = probe_method("Count", server_streaming=True)
JOIN = probe_method("Join", client_streaming=True)
ECHO = probe_method("Echo", client_streaming=True, server_streaming=True)
HANG = probe_method("Hang", client_streaming=True, server_streaming=True)
REFUSE = probe_method("Refuse")
CRASH = probe_method("Crash")
GROUP = probe_method("Group")
FLOOD = probe_method("Flood", server_streaming=True)
NOWHERE = probe_method("Nowhere")


def message(value: bytes) -> BytesValue:
    return BytesValue(value=value)


class Probe:
    """The handlers, and what they saw."""

    def __init__(self) -> None:
        self.hanging = 0
        self.hung = trio.Event()
        self.cancelled = trio.Event()
        self.flooded = 0
        self.last_call: ServerCall[Any, Any] | None = None

    @property
    def handlers(self) -> dict[Method[Any, Any], Handler]:
        return {
            UNARY: self.unary,
            COUNT: self.count,
            JOIN: self.join,
            ECHO: self.echo,
            HANG: self.hang,
            REFUSE: self.refuse,
            CRASH: self.crash,
            GROUP: self.group,
            FLOOD: self.flood,
        }

    @property
    def services(self) -> Services:
        return Services(self.handlers)

    async def unary(self, call: ServerCall[Any, Any]) -> None:
        self.last_call = call
        await call.send(await call.receive())

    async def count(self, call: ServerCall[Any, Any]) -> None:
        for number in range(int((await call.receive()).value)):
            await call.send(message(b"%d" % number))

    async def join(self, call: ServerCall[Any, Any]) -> None:
        await call.send(message(b"".join([request.value async for request in call])))

    async def echo(self, call: ServerCall[Any, Any]) -> None:
        async for request in call:
            await call.send(request)

    async def hang(self, call: ServerCall[Any, Any]) -> None:
        self.hanging += 1
        self.hung.set()
        try:
            await trio.sleep_forever()
        finally:
            self.hanging -= 1
            self.cancelled.set()

    async def refuse(self, call: ServerCall[Any, Any]) -> None:
        raise RpcError(StatusCode.FAILED_PRECONDITION, UNICODE)

    async def crash(self, call: ServerCall[Any, Any]) -> None:
        raise ValueError("the secret of the house")

    async def group(self, call: ServerCall[Any, Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.refuse, call)
            nursery.start_soon(trio.sleep_forever)

    async def flood(self, call: ServerCall[Any, Any]) -> None:
        while True:
            await call.send(message(bytes(1000)))
            self.flooded += 1


async def call_unary(
    channel: Channel,
    method: Method[Any, Any],
    request: Any,
    *,
    metadata: Sequence[tuple[str, str]] = (),
    timeout_s: float | None = None,
) -> Any:
    """Send one message, and return the one response."""
    async with channel.open_call(method, metadata=metadata, timeout_s=timeout_s) as call:
        await call.send(request)
        await call.done_sending()
        [response] = [response async for response in call]
        return response


@asynccontextmanager
async def open_probe(
    probe: Probe,
    *,
    server_options: ConnectionOptions = DEFAULTS,
    client_options: ConnectionOptions = DEFAULTS,
    drain: trio.Event | None = None,
) -> AsyncIterator[Channel]:
    """A channel to the probe over streams in memory."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await serve_connection(theirs, probe.services, drain=drain, options=server_options)

        await nursery.start(serve)
        async with open_channel(ours, authority="probe", options=client_options) as channel:
            yield channel
