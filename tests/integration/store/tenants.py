"""A database with two tenants: `north` at two sites, `south` at one; and a session and a dispatch to both."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from tests.integration.store.senders import keep, samples
from tests.integration.store.servers import SITE, asset, open_store_on
from trioder.domain.access import ALL_TENANTS, AuditRecord, Scope
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord, DispatchTarget, ReallocationRecord
from trioder.domain.fleet import Fleet
from trioder.store.records import SessionRecord

SITES = {
    name: replace(SITE, id=asset(90 + number).id, name=name, tenant=tenant)
    for number, (name, tenant) in enumerate([("a", "north"), ("b", "north"), ("c", "south")])
}


def _asset_at(number: int, site: str) -> object:
    return replace(asset(number), site_id=SITES[site].id, site_name=site)


# By key; the last two are retired later.
ASSETS = tuple(_asset_at(number, site) for number, site in enumerate("abcac", start=1))
EVERY_ASSET = Fleet(sites=SITES.values(), assets=ASSETS)
FLEET = Fleet(sites=SITES.values(), assets=ASSETS[:3])

NORTH, SOUTH, EAST = Scope(tenant="north"), Scope(tenant="south"), Scope(tenant="east")
NORTH_AT_A = Scope(tenant="north", site_ids=frozenset({SITES["a"].id}))
NORTH_NOWHERE = Scope(tenant="north", site_ids=frozenset())
ALL_AT_A_AND_C = Scope(site_ids=frozenset({SITES["a"].id, SITES["c"].id}))

# What sessions and dispatches are called, with their tenant and the keys of their assets.
RECORDS = {
    "a": ("north", [0]),
    "ab": ("north", [0, 1]),
    "c": ("south", [2]),
    "ac": (ALL_TENANTS, [0, 2]),
}


def record_id(name: str) -> str:
    return str(UUID(int=int(name, 16) + 2**64))


def session_id(name: str) -> str:
    return str(UUID(int=int(name, 16) + 2**65))


def name_of(uuid: str | UUID) -> str:
    """The name of a session or a dispatch."""
    return f"{UUID(str(uuid)).int % 2**64:x}"


def dispatch_named(name: str) -> DispatchRecord:
    tenant, keys = RECORDS[name]
    return DispatchRecord(
        dispatch_id=record_id(name),
        target=DispatchTarget(kind="assets"),
        mw=1.0,
        allocated_mw=1.0,
        dispatched_ms=1_800_000_000_000 + int(name, 16),
        state="sent",
        is_open=True,
        by_state={"sent": len(keys)},
        idempotency_key="key",
        request_digest=name,
        resplits=(ReallocationRecord(at_ms=1, wire_id="w", dropped=(), changed=1, shortfall_mw=0.0),),
        members=tuple(
            AssetSetpointRecord(asset_id=ASSETS[key].id, mw=1.0, wire_id=record_id(name), state="sent")
            for key in keys
        ),
        tenant=tenant,
        requested_by=f"ops-{tenant}",
    )


def record_dispatch(store: object, name: str, keys: Sequence[int] | None = None) -> None:
    """With the keys of its assets in the fleet, which the database takes the sites from."""
    dispatch = dispatch_named(name)
    shares = dict(zip(RECORDS[name][1], dispatch.members, strict=True))
    store.record_dispatch(
        replace(dispatch, members=()),
        changed=list(shares) if keys is None else keys,
        share_of=shares.__getitem__,
    )


async def fill(url: str) -> None:
    async with open_store_on(url, fleet=EVERY_ASSET) as store:
        await keep(store, samples(1_800_000_000_000, keys=range(len(ASSETS))))
    async with open_store_on(url, fleet=FLEET) as store:
        for name, (tenant, keys) in RECORDS.items():
            store.open_session(
                SessionRecord(
                    session_id=session_id(name),
                    agent_id=f"agent-{name}",
                    epoch=1,
                    peer="x",
                    asset_keys=keys,
                    connected_ms=1_800_000_000_000 + int(name, 16),
                    tenant=tenant,
                    identity=f"spiffe://x/tenant/{tenant}/agent/agent-{name}",
                )
            )
            record_dispatch(store, name)
        for tenant in ("north", "south", ALL_TENANTS, ""):
            store.record_audit(
                AuditRecord(
                    at_ms=1, principal="p", kind="token", tenant=tenant, peer="", action="x", outcome="ok"
                )
            )
        await store.wait_idle()
        assert store.health == "ok"
