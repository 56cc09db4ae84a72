"""A headend with the assets, agents, dispatches and records of two tenants, and tokens for both."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import msgspec
from quart.wrappers import Response

from tests.unit.access.documents import document_of, token_entry
from tests.unit.api.feeds import follow
from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from trioder.access.limits import Rate
from trioder.access.table import AccessTable, token_sha256
from trioder.api import RestLimits, RestOptions
from trioder.domain.access import ALL_TENANTS, EVERYTHING, ROLES, AuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, AlarmSource
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord, DispatchTarget
from trioder.domain.fleet import Fleet, Site
from trioder.domain.telemetry import PastSample, Telemetry
from trioder.store.none import NoneStore
from trioder.store.records import PastSession

TENANTS = ("alpha", "beta")
EXPIRED = "secret-expired"
WRONG = "secret-wrong"
NO_LIMITS = RestLimits(
    requests=Rate(per_s=1e6, burst=10**6), dispatches=Rate(per_s=1e6, burst=10**6), open_streams=10**6
)
# Two sites of two batteries for each tenant; alpha's first.
SITES = {"alpha": (0, 1), "beta": (2, 3)}
UNKNOWN = uuid_of(999_999)


def secret_of(role: str, tenant: str) -> str:
    return f"secret-{role}-{tenant}"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def tenants_fleet() -> Fleet:
    fleet = make_fleet(sites=4)
    tenant_of = {uuid_of(site): tenant for tenant, sites in SITES.items() for site in sites}

    def named(site: Site) -> Site:
        return replace(site, tenant=tenant_of[site.id], name=f"{tenant_of[site.id]} {site.name}")

    return Fleet(
        sites=map(named, fleet.sites),
        assets=(
            replace(asset, name=f"{tenant_of[asset.site_id]} {asset.name}", site_name=asset.site_name)
            for asset in fleet.assets
        ),
    )


def site_id(tenant: str, number: int = 0) -> str:
    return uuid_of(SITES[tenant][number])


def asset_ids(tenant: str) -> list[str]:
    return [uuid_of(1000 + key) for key in keys_of(tenant)]


def keys_of(tenant: str) -> list[int]:
    return [2 * site + number for site in SITES[tenant] for number in (0, 1)]


def retired_id(tenant: str) -> str:
    return uuid_of(7000 + TENANTS.index(tenant))


def stored_id(tenant: str) -> str:
    """The id of a dispatch that the store alone knows."""
    return uuid_of(8000 + TENANTS.index(tenant))


def tenants_table() -> AccessTable:
    entries = [
        token_entry(
            name=f"{tenant}-{role}" if tenant != ALL_TENANTS else f"all-{role}",
            sha256=token_sha256(secret_of(role, tenant)),
            role=role,
            tenant=tenant,
        )
        for tenant in (*TENANTS, ALL_TENANTS)
        for role in ROLES
    ]
    entries += [
        token_entry(
            name="alpha-expired",
            sha256=token_sha256(EXPIRED),
            role="admin",
            expires_at="2025-12-31T00:00:00.000Z",
        ),
        token_entry(
            name="alpha-site",
            sha256=token_sha256(secret_of("site", "alpha")),
            role="operator",
            site_ids=(site_id("alpha"),),
            expires_at="2026-06-01T00:00:00.000Z",
        ),
    ]
    return AccessTable(document_of(*entries))


class TwoTenantsStore(NoneStore):
    """Has a row of each tenant for every query, and returns those within the scope of the query."""

    @staticmethod
    def _within(scope: Scope) -> Sequence[str]:
        return [tenant for tenant in TENANTS if scope.tenant in {ALL_TENANTS, tenant}]

    async def sessions(self, *, scope: Scope = EVERYTHING, **_query: object) -> Sequence[PastSession]:
        return [
            PastSession(
                session_id=f"session-of-{tenant}",
                agent_id=f"agent-of-{tenant}",
                epoch=1,
                peer=f"{tenant}.example:1",
                assets=4,
                connected_ms=1,
                disconnected_ms=2,
                reason="",
            )
            for tenant in self._within(scope)
        ]

    async def history(
        self, *_asset: object, scope: Scope = EVERYTHING, **_query: object
    ) -> Sequence[PastSample]:
        return [
            PastSample(
                telemetry=Telemetry(
                    asset_id=asset_ids(tenant)[0],
                    site_id=site_id(tenant),
                    site_name=f"{tenant} Site",
                    ts_unix_ms=1,
                    soc_mwhr=1.0,
                    soc_pct=1.0,
                    capacity_mwhr=1.0,
                    current_mw=1.0,
                    setpoint_mw=1.0,
                    max_mw=1.0,
                    min_mw=1.0,
                    status="idle",
                    available_discharge_mw=1.0,
                    available_charge_mw=1.0,
                ),
                source="agent",
                quality="good",
            )
            for tenant in self._within(scope)
        ]

    async def find_retired_asset(self, asset_id: str, *, scope: Scope = EVERYTHING) -> Asset | None:  # type: ignore[override]  # the query that is asked
        for tenant in self._within(scope):
            if asset_id == retired_id(tenant):
                return replace(tenants_fleet().assets[keys_of(tenant)[0]], id=asset_id)
        return None

    async def dispatches(self, *, scope: Scope = EVERYTHING, **_query: object) -> Sequence[DispatchRecord]:
        return [dispatch_record(tenant) for tenant in self._within(scope)]

    async def find_dispatch(self, *, scope: Scope = EVERYTHING, **query: object) -> DispatchRecord | None:
        for tenant in self._within(scope):
            if query.get("dispatch_id") == stored_id(tenant):
                return dispatch_record(tenant)
        return None

    async def alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        return [alarm for tenant in TENANTS if which.matches(alarm := alarm_record(tenant))]

    async def find_alarm(self, alarm_id: str, *, scope: Scope = EVERYTHING) -> Alarm | None:  # type: ignore[override]  # the query that is asked
        for tenant in self._within(scope):
            if alarm_id == stored_id(tenant):
                return alarm_record(tenant)
        return None


def open_alarm(tenant: str) -> Alarm:
    return Alarm(
        alarm_id=uuid_of(80_000 + TENANTS.index(tenant)),
        kind="dispatch_rejected",
        severity="major",
        source=AlarmSource("asset", asset_ids(tenant)[0]),
        tenant=tenant,
        asset_ids=(asset_ids(tenant)[0],),
        site_ids=(site_id(tenant),),
        count=1,
        reason="in maintenance",
        raised_ms=1_767_225_600_000,
    )


def alarm_record(tenant: str) -> Alarm:
    return Alarm(
        alarm_id=stored_id(tenant),
        kind="soc_limit",
        severity="warning",
        source=AlarmSource("site", site_id(tenant)),
        tenant=tenant,
        site_ids=(site_id(tenant),),
        reason="it was empty",
        raised_ms=1,
        cleared_ms=2,
    )


def dispatch_record(tenant: str) -> DispatchRecord:
    return DispatchRecord(
        dispatch_id=stored_id(tenant),
        target=DispatchTarget(kind="site", id=site_id(tenant)),
        mw=1.0,
        allocated_mw=1.0,
        dispatched_ms=1,
        state="completed",
        is_open=False,
        tenant=tenant,
        requested_by=f"{tenant}-operator",
    )


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """The headend, and what belongs to each tenant in it.

    Attributes:
        dispatch_ids: of a dispatch in memory, by tenant.
        alarm_ids: of an open alarm, by tenant.
        schedule_ids: of an active schedule, by tenant.
    """

    rest: Rest
    dispatch_ids: dict[str, str]
    alarm_ids: dict[str, str]
    schedule_ids: dict[str, str]
    _ports: Any

    async def raw(self, method: str, path: str, *, secret: str | None, **options: Any) -> Response:
        """Send a request from an address of its own."""
        number = next(self._ports)
        headers = dict(options.pop("headers", {})) | ({} if secret is None else bearer(secret))
        client = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 4711)
        if path.partition("?")[0] == "/stream":
            return await first_events(self.rest, path, method=method, headers=headers, peer=client[0])
        return await self.rest.raw(method, path, headers=headers, scope_base={"client": client}, **options)

    async def ask(self, method: str, path: str, *, secret: str | None, **options: Any) -> tuple[int, Any]:
        response = await self.raw(method, path, secret=secret, **options)
        return response.status_code, await response.get_json(force=True)

    async def get(self, path: str, *, secret: str | None) -> Any:
        status, body = await self.ask("GET", path, secret=secret)
        assert status == 200, body
        return body

    async def dispatch(
        self, *, secret: str, key: str | None = None, **fields: object
    ) -> tuple[int, dict[str, Any]]:
        headers = {"content-type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
        body = msgspec.json.encode({"mw": 1.0} | fields)
        return await self.ask("POST", "/dispatch", secret=secret, data=body, headers=headers)

    def names_of(self, tenant: str) -> set[str]:
        """Everything by which a tenant, or anything that is its own, could be recognised."""
        return {
            tenant,
            *(site_id(tenant, number) for number in (0, 1)),
            *asset_ids(tenant),
            retired_id(tenant),
            stored_id(tenant),
            self.dispatch_ids[tenant],
            self.alarm_ids[tenant],
            *([self.schedule_ids[tenant]] if tenant in self.schedule_ids else []),
        }


# When the schedules of `add_schedules` first begin.
FIRST_START = "2026-01-02T18:00:00Z"


async def add_schedules(tenants: Tenants) -> None:
    """Give each tenant a daily schedule of its first asset."""
    for tenant in TENANTS:
        body = {
            "asset_id": asset_ids(tenant)[0],
            "start": FIRST_START,
            "recurrence": "FREQ=DAILY",
            "mw": 1.0,
            "duration_s": 60,
        }
        status, made = await tenants.ask(
            "POST",
            "/schedules",
            secret=secret_of("operator", tenant),
            data=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        )
        assert status == 201, made
        tenants.schedule_ids[tenant] = made["schedule_id"]


async def first_events(rest: Rest, path: str, *, peer: str, **options: Any) -> Response:
    """Open a stream, and leave it when its snapshot is complete; or return the refusal."""
    async with follow(rest, path.partition("?")[2], peer=peer, **options) as follower:
        if follower.status == 200:
            events = await follower.until("complete")
            body = "\n".join(f"{event.name}: {event.data}" for event in events).encode()
        else:
            body = await follower.body()
    return rest.app.response_class(body, follower.status, follower.headers)


@asynccontextmanager
async def open_tenants(*, options: RestOptions | None = None) -> AsyncIterator[Tenants]:
    async with open_rest(
        fleet=tenants_fleet(),
        store=TwoTenantsStore(),
        access=tenants_table(),
        options=options or RestOptions(limits=NO_LIMITS),
    ) as rest:
        tenants = Tenants(rest=rest, dispatch_ids={}, alarm_ids={}, schedule_ids={}, _ports=count(1))
        for tenant in TENANTS:
            rest.connect(*keys_of(tenant), agent_id=f"agent of {tenant}")
            rest.report(*keys_of(tenant))
            status, made = await tenants.dispatch(
                secret=secret_of("operator", tenant), site_id=site_id(tenant)
            )
            assert status == 200, made
            tenants.dispatch_ids[tenant] = made["dispatch_id"]
            rest.headend.audit.record(
                AuditRecord(
                    at_ms=1,
                    principal=f"{tenant}-admin",
                    kind="token",
                    tenant=tenant,
                    peer="",
                    action="test",
                    outcome="ok",
                )
            )
            alarm = open_alarm(tenant)
            tenants.alarm_ids[tenant] = alarm.alarm_id
            rest.headend.alarms.register.raise_alarm(alarm)
        yield tenants
