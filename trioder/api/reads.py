"""What everybody polls, encoded once per change: `/assets`, `/agents`, `/sites`, `/fleet` and `/telemetry`.

Used by the routes, and by `fast_reads` beside them. A read that is not in memory and takes long is made in
slices, by the routes.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

import msgspec

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.fleet_sums import SiteAssets, alarms_by_site, fleet_steps, site_steps
from trioder.api.parsing import Query, query_id
from trioder.api.representations import (
    Answer,
    Representation,
    RepresentationCache,
    Wishes,
    entity_tag,
    in_parts,
    list_parts,
    not_modified,
    once,
    prefers_gzip,
)
from trioder.api.telemetry_rows import TelemetryRows
from trioder.domain.assets import Asset
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of, run_at_once, run_in_slices
from trioder.schemas.power import PowerPointRow, RecentPowerResponse
from trioder.schemas.resources import AgentRow, AssetRow

T = TypeVar("T")

# Rows of more assets are made in slices, or while they are sent.
_ROWS_AT_ONCE = 500
# Longer lists are not kept in memory: about 5 MB.
_MAX_KEPT_ROWS = 10_000
# About 1 ms, or 3 ms with rows that are not encoded yet.
_ROWS_A_PART = 250
_ROW_US = 5.0

_encode = msgspec.json.Encoder().encode
_asset_columns = attrgetter(*AssetRow.__struct_fields__)


class Read(Protocol):
    """One of the reads."""

    def now(self, index: FleetIndex, query: Query, wishes: Wishes) -> Answer | None:
        """Return the response; None if it takes more than about 3 ms to make.

        Args:
            index: of what the caller sees.
            query: checked against the route's model.
            wishes: of the request.

        Raises:
            ApiError: 400 or 404.
        """

    async def later(self, index: FleetIndex, query: Query, wishes: Wishes) -> Answer:
        """Return the response, in slices; else as `now`."""


class KeptRead(Generic[T]):
    """A response that is kept until something in it changes.

    Args:
        name: of the route.
        cache: where it is kept.
        version: returns what the response depends on, beside the caller's index and the query.
        select: returns the items to be shown, in steps.
        work: returns at how many assets `select` and `encode` read at most.
        encode: returns the body, in steps.
        parts: returns the body in parts, for items that are too many to be kept; None where there are
            never that many.
    """

    def __init__(
        self,
        name: str,
        cache: RepresentationCache,
        *,
        version: Callable[[], Hashable],
        select: Callable[[FleetIndex, Query], Steps[Sequence[T]]],
        work: Callable[[FleetIndex, Query], int],
        encode: Callable[[Sequence[T]], Steps[bytes]],
        parts: Callable[[Sequence[T]], Iterator[bytes]] | None = None,
    ) -> None:
        self._name = name
        self._cache = cache
        self._version = version
        self._select = select
        self._work = work
        self._encode = encode
        self._parts = parts

    def now(self, index: FleetIndex, query: Query, wishes: Wishes) -> Answer | None:
        """See `Read`."""
        key, token = self._key(index, query), self._version()
        kept = self._cache.get(key, token)
        if kept is None:
            if self._work(index, query) > _ROWS_AT_ONCE:
                return None
            items = run_at_once(self._select(index, query))
            kept = self._keep(key, token, run_at_once(self._encode(items)))
        etag = entity_tag(key, token)
        return not_modified(etag, wishes) or kept.answer_now(etag, wishes)

    async def later(self, index: FleetIndex, query: Query, wishes: Wishes) -> Answer:
        """See `Read`."""
        # What changes while it is made has another version: the tag is never newer than the content.
        key, token = self._key(index, query), self._version()
        etag, kept = entity_tag(key, token), self._cache.get(key, token)
        if kept is None:
            items = await run_in_slices(self._select(index, query))
            parts = self._parts
            if parts is not None and len(items) > _MAX_KEPT_ROWS:
                return not_modified(etag, wishes) or in_parts(lambda: parts(items), wishes, etag=etag)
            kept = self._keep(key, token, await run_in_slices(self._encode(items)))
        unchanged = not_modified(etag, wishes)
        if unchanged is not None:
            return unchanged
        return await run_in_slices(kept.answer_steps(etag, wishes))

    def _key(self, index: FleetIndex, query: Query) -> tuple[str, str, Hashable]:
        return self._name, index.name, _key_of(query)

    def _keep(self, key: Hashable, token: Hashable, body: bytes) -> Representation:
        kept = Representation(token, body)
        self._cache.put(key, kept)
        return kept


class LatestRead:
    """`/telemetry`: its rows are kept, what changes with time is appended for each response."""

    def __init__(self, headend: Headend, rows: TelemetryRows) -> None:
        self._headend = headend
        self._rows = rows

    def now(self, index: FleetIndex, query: Query, wishes: Wishes) -> Answer | None:
        """See `Read`."""
        if "limit" in query and len(index.all_keys) > _ROWS_AT_ONCE:
            # Assets without a sample are looked for.
            return None
        keys = run_at_once(self.key_steps(index, query))
        if len(keys) > _ROWS_AT_ONCE and prefers_gzip(wishes.accept_encoding):
            return None
        return self._answer(index, query, wishes, keys)

    async def later(self, index: FleetIndex, query: Query, wishes: Wishes) -> Answer:
        """See `Read`."""
        keys = await run_in_slices(self.key_steps(index, query))
        return self._answer(index, query, wishes, keys)

    def one(self, index: FleetIndex, asset_id: str) -> bytes | None:
        """Return the row of one asset; None without a sample.

        Raises:
            ApiError: 404: there is no such asset.
        """
        return self._rows.row(index.key_of(asset_id), self._headend.wall.now_ms())

    def line(self, key: int) -> msgspec.Raw | None:
        """Return the row of an asset, encoded; None without a sample."""
        row = self._rows.row(key, self._headend.wall.now_ms())
        return None if row is None else msgspec.Raw(row)

    def key_steps(self, index: FleetIndex, query: Query) -> Steps[Sequence[int]]:
        """Return the assets of a query that have a sample, in steps; not all of them need to have one."""
        latest = self._headend.latest
        return index.key_steps(query, has_row=lambda key: latest.state(key) is not None)

    def _answer(self, index: FleetIndex, query: Query, wishes: Wishes, keys: Sequence[int]) -> Answer:
        headend, now_ms = self._headend, self._headend.wall.now_ms()
        # Not the ages: they are what a client can compute.
        version = *_sample_versions(headend, now_ms), headend.dispatcher.version
        etag = entity_tag("telemetry", index.name, _key_of(query), version)
        unchanged = not_modified(etag, wishes)
        if unchanged is not None:
            return unchanged
        if len(keys) > _ROWS_AT_ONCE:
            return in_parts(
                lambda: list_parts(self._rows.parts(keys, rows_a_part=_ROWS_A_PART)), wishes, etag=etag
            )
        return once(b"[" + b",".join(self._rows.rows(keys, now_ms)) + b"]", wishes, etag=etag)


class Reads:
    """All reads of a headend."""

    def __init__(self, headend: Headend) -> None:
        fleet, sessions = headend.fleet, headend.sessions
        cache = RepresentationCache()
        self.latest = LatestRead(headend, TelemetryRows(headend))

        def assets_of(keys: Sequence[int]) -> list[AssetRow]:
            return [asset_row(fleet.assets[key]) for key in keys]

        def agents_of(keys: Sequence[int]) -> list[AgentRow]:
            return [row for key in keys if (row := agent_row(headend, key)) is not None]

        def connected(key: int) -> bool:
            return sessions.session_of(key) is not None

        def sum_version() -> Hashable:
            return (
                *_sample_versions(headend, headend.wall.now_ms()),
                sessions.version,
                headend.dispatcher.version,
            )

        def site_version() -> Hashable:
            limits = headend.dispatcher.site_limits
            return sum_version(), limits.version, headend.alarms.register.version

        def sites_of(index: FleetIndex) -> Sequence[SiteAssets]:
            alarms = alarms_by_site(headend, index.scope)
            return [
                SiteAssets(site, index.keys_by_site[site.id], alarms.get(site.id, ())) for site in index.sites
            ]

        def all_assets(index: FleetIndex, _query: Query) -> int:
            return len(index.all_keys)

        self.assets: Read = KeptRead(
            "assets",
            cache,
            version=lambda: fleet.version,
            select=lambda index, query: index.key_steps(query),
            work=all_assets,
            encode=lambda keys: _list_steps(keys, assets_of),
            parts=lambda keys: list_parts(_encoded(assets_of(part)) for part in parts_of(keys)),
        )
        self.agents: Read = KeptRead(
            "agents",
            cache,
            # The times of sessions are corrected when the clock is stepped.
            version=lambda: (
                fleet.version,
                sessions.version,
                headend.clocks.version,
                headend.counters.clock_steps,
            ),
            select=lambda index, query: index.key_steps(query, has_row=connected),
            work=all_assets,
            encode=lambda keys: _list_steps(keys, agents_of),
            parts=lambda keys: list_parts(_encoded(agents_of(part)) for part in parts_of(keys)),
        )
        self.sites: Read = KeptRead(
            "sites",
            cache,
            version=site_version,
            select=lambda index, _: _at_once(sites_of(index)),
            work=all_assets,
            encode=lambda sites: _site_list_steps(headend, sites),
        )
        self.fleet: Read = KeptRead(
            "fleet",
            cache,
            version=sum_version,
            # Its keys are read in steps, and shown as one object.
            select=lambda index, _: _at_once((index.all_keys,)),
            work=all_assets,
            encode=lambda selected: _fleet_steps(headend, selected[0]),
        )
        # Its keys are the site, or none for the fleet, and the minutes.
        self.power: Read = KeptRead(
            "power",
            cache,
            version=lambda: (fleet.version, headend.recent_power.version),
            select=lambda index, query: _power_steps(headend, index, query),
            work=all_assets,
            encode=lambda responses: _encode_once(responses[0]),
        )


def asset_row(asset: Asset) -> AssetRow:
    """Return the row of an asset."""
    return AssetRow(*_asset_columns(asset))


def agent_row(headend: Headend, key: int) -> AgentRow | None:
    """Return the row of a connected asset; None for any other."""
    session = headend.sessions.session_of(key)
    if session is None:
        return None
    asset = headend.fleet.assets[key]
    return AgentRow(
        asset_id=asset.id,
        asset_name=asset.name,
        site_name=asset.site_name,
        peer=session.peer,
        agent_id=session.agent_id,
        connected_at=format_ms(session.connected_ms),
        clock_skew_s=_rounded(session.clock_skew_s),
        clock_error_s=_rounded(session.clock_error_s),
    )


def _rounded(seconds: float | None) -> float | None:
    # The protocol's timestamps have a resolution of 1 ms.
    return None if seconds is None else round(seconds, 3)


def _sample_versions(headend: Headend, now_ms: int) -> tuple[int, int, int]:
    """What changes with any sample, also by its age alone, and with any nameplate."""
    latest = headend.latest
    return headend.fleet.version, latest.version, latest.stale_epoch(now_ms)


def _key_of(query: Query) -> Hashable:
    return tuple(sorted((name, tuple(values)) for name, values in query.items()))


def _encoded(rows: Sequence[msgspec.Struct]) -> Sequence[bytes]:
    """Return the rows as one entry of a list; none where there are no rows."""
    return (_encode(rows)[1:-1],) if rows else ()


def _list_steps(
    keys: Sequence[int], rows_of: Callable[[Sequence[int]], Sequence[msgspec.Struct]]
) -> Steps[bytes]:
    encoded: list[bytes] = []
    for part in parts_of(keys):
        encoded += _encoded(rows_of(part))
        yield _ROW_US * len(part)
    return b"[" + b",".join(encoded) + b"]"


def _site_list_steps(headend: Headend, sites: Sequence[SiteAssets]) -> Steps[bytes]:
    encoded: list[bytes] = []
    for part in parts_of(sites):
        rows = yield from site_steps(headend, part)
        encoded.append(_encode(rows)[1:-1])
    return b"[" + b",".join(encoded) + b"]"


def _fleet_steps(headend: Headend, keys: Sequence[int]) -> Steps[bytes]:
    return _encode((yield from fleet_steps(headend, keys)))


def _power_steps(headend: Headend, index: FleetIndex, query: Query) -> Steps[Sequence[RecentPowerResponse]]:
    site_id, minutes = query_id(query, "site_id"), int(query["minutes"][0])
    site_ids = [site.id for site in index.sites] if site_id is None else [site_id]
    since_ms = headend.wall.now_ms() - minutes * 60_000
    points = yield from headend.recent_power.point_steps(site_ids, since_ms=since_ms)
    rows = [
        PowerPointRow(
            at=format_ms(point.at_ms),
            current_mw=_in_kw(point.current_mw),
            setpoint_mw=_in_kw(point.setpoint_mw),
            requested_mw=_in_kw(point.requested_mw),
            assets=point.assets,
            live_assets=point.live,
        )
        for point in points
    ]
    return [RecentPowerResponse(site_id=site_id, step_s=headend.recent_power.step_s, points=rows)]


def _in_kw(mw: float | None) -> float | None:
    # They are kept with 24 bits.
    return None if mw is None else round(mw, 3)


def _encode_once(response: RecentPowerResponse) -> Steps[bytes]:
    yield 0.0
    return _encode(response)


def _at_once(items: Sequence[T]) -> Steps[Sequence[T]]:
    yield 0.0
    return items
