"""A client of the live feed in virtual time: an ASGI request, and the events of its response."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import trio
import trio.testing

from tests.unit.api.rest import Rest, uuid_of
from trioder.api.http.body import CONNECTION
from trioder.domain.alarms import Alarm, AlarmSource
from trioder.events.facts import SessionOpened
from trioder.gateway.sessions import Session

ASSET = uuid_of(1000)


@dataclass(frozen=True, kw_only=True)
class Received:
    """An event as a client gets it; `id` is empty where it has none."""

    name: str
    data: Any
    id: str


@dataclass(kw_only=True)
class Follower:
    """Reads a stream.

    Attributes:
        status: of the response.
        last_id: of the last event that had one.
    """

    receive: trio.MemoryReceiveChannel[bytes]
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    last_id: str = ""
    _text: str = ""

    async def event(self) -> Received:
        """The next event; raises EndOfChannel at the end of the stream."""
        while True:
            while "\n\n" not in self._text:
                self._text += (await self.receive.receive()).decode()
            block, _, self._text = self._text.partition("\n\n")
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            if "event" in fields:
                self.last_id = fields.get("id", self.last_id)
                return Received(
                    name=fields["event"], data=json.loads(fields["data"]), id=fields.get("id", "")
                )

    async def until(self, name: str) -> list[Received]:
        """The events up to and with the next one of this name."""
        events = [await self.event()]
        while events[-1].name != name:
            events.append(await self.event())
        return events

    async def next(self, name: str) -> Any:
        """The data of the next event of this name."""
        return (await self.until(name))[-1].data

    async def next_row(self, asset_id: str) -> Any:
        """The next row of an asset."""
        while True:
            for row in (await self.next("telemetry"))["rows"]:
                if row["asset_id"] == asset_id:
                    return row

    async def within(self, seconds: float) -> list[Received]:
        """The events that are received in this time."""
        events = []
        with trio.move_on_after(seconds):
            while True:
                events.append(await self.event())
        return events

    async def body(self) -> bytes:
        """All of a response that ends."""
        return self._text.encode() + b"".join([part async for part in self.receive])


def names(events: list[Received]) -> list[str]:
    return [event.name for event in events]


@asynccontextmanager
async def follow(
    rest: Rest,
    query: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    buffer: float = inf,
    peer: str = "127.0.0.1",
) -> AsyncIterator[Follower]:
    """Open a stream; leaving the block is the client's leaving.

    Args:
        buffer: how many parts of the response are received before they are read.
    """
    send, receive = trio.open_memory_channel[bytes](buffer)
    started = trio.Event()
    follower = Follower(receive=receive)
    fields = {"host": "localhost", **(headers or {})}

    class Connection:
        """In the place of `Http1Connection`."""

        def limit_send_buffer(self, size: int) -> None:
            pass

        async def send_body(self, data: bytes) -> None:
            await send.send(data)

        def close(self) -> None:
            nursery.cancel_scope.cancel()

    scope = {
        "type": "http",
        # So that its chunks are the bytes of the body.
        "http_version": "1.0",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": method,
        "scheme": "http",
        "path": "/stream",
        "raw_path": b"/stream",
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        "client": (peer, 4711),
        "server": ("127.0.0.1", 3001),
        "state": {CONNECTION: Connection()},
        "extensions": {},
    }

    async def from_client() -> dict[str, Any]:
        if not started.is_set():
            started.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await trio.sleep_forever()
        raise AssertionError

    async def to_client(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            follower.status = message["status"]
            follower.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        elif message.get("body"):
            await send.send(message["body"])

    async def run() -> None:
        async with send:
            await rest.app(scope, from_client, to_client)  # type: ignore[arg-type]  # without hypercorn's types

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield follower
        nursery.cancel_scope.cancel()


async def dispatch(rest: Rest, body: str = f'{{"asset_id": "{ASSET}", "mw": 3}}') -> str:
    status, made = await rest.post(body.encode())
    assert status == 200, made
    dispatch_id: str = made["dispatch_id"]
    return dispatch_id


def alarm(number: int = 0) -> Alarm:
    return Alarm(
        alarm_id=uuid_of(90_000 + number),
        kind="soc_limit",
        severity="warning",
        source=AlarmSource("asset", ASSET, str(number)),
        tenant="default",
        asset_ids=(ASSET,),
        site_ids=(uuid_of(0),),
        count=1,
        reason="it is empty",
        raised_ms=1_767_225_600_000,
    )


def opened(session: Session) -> SessionOpened:
    return SessionOpened(*session.subject, session.epoch, session.peer, session.connected_ms)


async def post_schedule(rest: Rest, key: int) -> str:
    fields = f'"asset_id": "{uuid_of(1000 + key)}", "start": "2026-01-01T00:01:00", "timezone": "UTC"'
    body = f'{{{fields}, "steps": [{{"duration_s": 60, "mw": 1}}]}}'
    headers = {"content-type": "application/json"}
    status, made = await rest.ask("POST", "/schedules", data=body.encode(), headers=headers)
    assert status == 201, made
    schedule_id: str = made["schedule_id"]
    return schedule_id
