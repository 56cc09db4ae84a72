"""A headend whose REST is served on a real port, and clients of every kind in threads of their own."""

import inspect
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.unit.api.rest import Rest, make_fleet
from trioder.access.table import AccessTable
from trioder.access.tls import ServerTls
from trioder.api import create_app, serve_rest
from trioder.api.context import Headend
from trioder.client import AsyncHeadendClient, HeadendClient
from trioder.domain.fleet import Fleet
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.none import NoneStore

T = TypeVar("T")
Kind = Literal["sync", "asyncio", "trio"]
KINDS: tuple[Kind, ...] = ("sync", "asyncio", "trio")


@dataclass(kw_only=True)
class Served:
    """A served headend."""

    headend: Headend
    rest: Rest
    port: int
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def open_served(
    fleet: Fleet | None = None,
    *,
    port: int = 0,
    access: AccessTable | None = None,
    tls: ServerTls | None = None,
) -> AsyncIterator[Served]:
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    with trio.fail_after(60):
        async with (
            open_headend(
                fleet=fleet or make_fleet(),
                store=NoneStore(),
                wall=WallClock.starting_now(),
                rng=random.SystemRandom(),
                tick_s=0.5,
                access=access,
            ) as headend,
            trio.open_nursery() as nursery,
        ):
            app = create_app(headend)
            served = Served(
                headend=headend,
                rest=Rest(headend=headend, app=app),
                port=listeners[0].socket.getsockname()[1],
            )

            async def serve(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # serve_rest calls it
                await serve_rest(app, listeners, shutdown=headend.closing, tls=tls, task_status=task_status)
                served.ended.set()

            await nursery.start(serve)
            yield served
            headend.closing.set()
            await served.ended.wait()


class Blocking:
    """An asynchronous client with the methods of the one for threads; what it iterates over is a list."""

    def __init__(self, portal: BlockingPortal, client: AsyncHeadendClient) -> None:
        self._portal = portal
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return self._portal.call(partial(_result, getattr(self._client, name), *arguments, **options))

        return call


async def _result(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    result = method(*arguments, **options)
    if inspect.isawaitable(result):
        return await result
    return [each async for each in result]


@contextmanager
def blocking_client(kind: Kind, url: str, **options: Any) -> Iterator[Any]:
    """Yield a client of this kind, as the one for threads is used."""
    if kind == "sync":
        with HeadendClient(url, **options) as client:
            yield client
        return

    async def opened() -> AsyncHeadendClient:
        return AsyncHeadendClient(url, **options)

    with start_blocking_portal(kind) as portal:
        asynchronous = portal.call(opened)
        try:
            yield Blocking(portal, asynchronous)
        finally:
            portal.call(asynchronous.aclose)


async def with_client(kind: Kind, url: str, scenario: Callable[[Any], T], **options: Any) -> T:
    """Run a scenario in a thread, with a client of this kind."""

    def run() -> T:
        with blocking_client(kind, url, **options) as client:
            return scenario(client)

    return await trio.to_thread.run_sync(run)
