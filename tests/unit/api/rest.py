"""A small fleet, an open headend over it in virtual time, and its REST application."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import trio
from quart.wrappers import Response
from quart_trio import QuartTrio

from trioder.access.table import AccessTable
from trioder.api import RestOptions, create_app
from trioder.api.context import Headend
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import Session
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store
from trioder.store.none import NoneStore

START_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def uuid_of(number: int) -> str:
    return str(UUID(int=0xABCD0000 + number))


def make_fleet(*, sites: int = 2, assets_a_site: int = 2) -> Fleet:
    return Fleet(
        sites=tuple(
            Site(id=uuid_of(s), name=f"Site {s}", location="Nowhere", lat=1.5, lon=-2.5) for s in range(sites)
        ),
        assets=tuple(
            Asset(
                id=uuid_of(1000 + s * assets_a_site + a),
                name=f"Battery {s}/{a}",
                site_id=uuid_of(s),
                site_name=f"Site {s}",
                location="Nowhere",
                capacity_mwhr=40.0,
                max_mw=10.0,
                min_mw=-8.0,
                charge_efficiency=0.9,
                discharge_efficiency=0.9,
                ramp_rate_mw_per_min=100.0,
            )
            for s in range(sites)
            for a in range(assets_a_site)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A client of REST, and its headend."""

    headend: Headend
    app: QuartTrio

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Send one request; return the status and the decoded body."""
        response = await self.raw(method, path, **options)
        return response.status_code, await response.get_json(force=True)

    async def raw(self, method: str, path: str, **options: Any) -> Response:
        return await self.app.test_client().open(path, method=method, **options)

    async def get(self, path: str) -> Any:
        """Return the body of a response that must be 200."""
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def post(self, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
        return await self.ask("POST", "/dispatch", data=body, headers={"content-type": content_type})

    def connect(self, *keys: int, agent_id: str = "agent-1") -> Session:
        """Connect an agent with these assets."""
        session = Session(
            session_id=f"session of {agent_id}",
            agent_id=agent_id,
            epoch=1,
            protocol=1,
            outbox_id=f"outbox of {agent_id}",
            asset_keys=keys,
            batch_keys=keys,
            peer="127.0.0.1:4711",
            connected_ms=self.headend.wall.now_ms(),
        )
        fleet = self.headend.fleet
        self.headend.sessions.claim(session, asset_ids=[fleet.assets[key].id for key in keys])
        return session

    def report(
        self,
        *keys: int,
        current_mw: float = 5.0,
        soc_mwhr: float = 20.0,
        available_mw: tuple[float, float] = (10.0, 8.0),
        quality: Quality = Quality.GOOD,
    ) -> None:
        """Report a sample of each asset as of now; `available_mw` is to discharge and to charge."""
        now_ms = self.headend.wall.now_ms()
        samples = Samples(
            ts_unix_ms=now_ms,
            source="agent",
            asset_keys=keys,
            soc_mwhr=[soc_mwhr] * len(keys),
            current_mw=[current_mw] * len(keys),
            setpoint_mw=[current_mw] * len(keys),
            available_discharge_mw=[available_mw[0]] * len(keys),
            available_charge_mw=[available_mw[1]] * len(keys),
            quality=bytes([quality] * len(keys)),
        )
        self.headend.latest.apply_agent(samples, received_ms=now_ms)
        self.headend.dispatcher.measured(samples)


@asynccontextmanager
async def open_rest(
    *,
    fleet: Fleet | None = None,
    store: Store | None = None,
    tick_s: float = 0.0,
    access: AccessTable | None = None,
    access_path: Path | None = None,
    options: RestOptions | None = None,
) -> AsyncIterator[Rest]:
    async with open_headend(
        fleet=fleet or make_fleet(),
        store=store or NoneStore(),
        wall=WallClock(START_S, trio.current_time()),
        rng=random.Random(1),
        tick_s=tick_s,
        access=access,
        access_path=access_path,
    ) as headend:
        yield Rest(headend=headend, app=create_app(headend, options))
