"""`/metrics`: the headend's counters and gauges, read per scrape, and a histogram of REST requests.

A tenant sees the figures of its own assets, and nothing of the process.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import chain

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import trioder
from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.domain.access import ALL_TENANTS, EVERYTHING
from trioder.domain.alarms import KINDS, RULES, AlarmFilter
from trioder.domain.quality import Quality
from trioder.events.counters import Counters, TenantCounters
from trioder.gateway.agent_clocks import SkewSummary
from trioder.process.queued_output import log_lines_dropped
from trioder.process.slices import Steps
from trioder.rpc import PeerLimits
from trioder.store.stats import StoreStats

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
# The cost of finding the site of a connected asset.
_ASSET_US = 0.2


@dataclass(frozen=True, slots=True)
class Connected:
    """What is connected, within a scope: agents with an asset there, and these assets by site."""

    agents: int
    assets_by_site: Counter[str]

    @property
    def assets(self) -> int:
        """How many assets."""
        return self.assets_by_site.total()


def connected_steps(headend: Headend, index: FleetIndex) -> Steps[Connected]:
    """Count what is connected, in steps."""
    assets, agents, assets_by_site = headend.fleet.assets, 0, Counter[str]()
    for session in headend.sessions:
        sites = [assets[key].site_id for key in session.asset_keys]
        inside = [site_id for site_id in sites if site_id in index.keys_by_site]
        agents += bool(inside)
        assets_by_site.update(inside)
        yield _ASSET_US * len(sites)
    return Connected(agents, assets_by_site)


class Metrics:
    """The metrics of one headend, in a registry of their own."""

    def __init__(self, headend: Headend, by_tenant: TenantCounters) -> None:
        self._by_tenant = by_tenant
        self._alarms = headend.alarms.register
        self._schedules = headend.schedules
        self._registry = CollectorRegistry()
        self._registry.register(_HeadendCollector(headend))
        self._requests = Histogram(
            "trioder_http_request_duration_seconds",
            "REST requests by route and status, from the request's head to the end of the response.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._observed: dict[tuple[str, str, int], Histogram] = {}

    def observe_request(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Record a REST request; labels have a bounded number of values, whatever clients send."""
        # Looking up the labels costs more than the rest.
        key = method if method in _METHODS else "other", route, status
        observed = self._observed.get(key)
        if observed is None:
            observed = self._observed[key] = self._requests.labels(key[0], route or "none", str(status))
        observed.observe(duration_s)

    def text(self, accept: str, index: FleetIndex, connected: Connected) -> tuple[bytes, str]:
        """Return the exposition and its content type.

        Args:
            accept: the Accept header, which requests a format.
            index: of what the caller sees.
            connected: within that.
        """
        encode, content_type = choose_encoder(accept)
        families: Iterable[Metric] = self._tenant_families(index, connected)
        if index.scope == EVERYTHING:
            families = chain(self._registry.collect(), families)
        return encode(_Families(families)), content_type

    def _tenant_families(self, index: FleetIndex, connected: Connected) -> Iterator[Metric]:
        assets, assets_connected = Counter[str](), Counter[str]()
        for site in index.sites:
            assets[site.tenant] += len(index.keys_by_site[site.id])
            assets_connected[site.tenant] += connected.assets_by_site[site.id]
        yield _gauges("tenant_assets", "Assets of each tenant.", "tenant", assets)
        yield _gauges(
            "tenant_assets_connected",
            "Assets of each tenant with a connected agent.",
            "tenant",
            assets_connected,
        )
        yield from self._alarm_families(index)
        if index.scope.site_ids is not None:
            # The counters are of whole tenants.
            return
        dispatches = CounterMetricFamily(
            "trioder_tenant_dispatches_requested",
            "Dispatches requested to the assets of each tenant; * for several tenants' together.",
            labels=["tenant"],
        )
        for tenant, count in self._by_tenant.dispatches.items():
            if index.scope.tenant in {ALL_TENANTS, tenant}:
                dispatches.add_metric([tenant], count)
        yield dispatches
        refusals = CounterMetricFamily(
            "trioder_tenant_requests_refused",
            "REST requests refused with 401, 403 or 429, by the tenant of the token; empty if unknown.",
            labels=["tenant", "status"],
        )
        for (tenant, status), count in self._by_tenant.refusals.items():
            if index.scope.tenant in {ALL_TENANTS, tenant}:
                refusals.add_metric([tenant, str(status)], count)
        yield refusals
        occurrences = CounterMetricFamily(
            "trioder_schedule_occurrences",
            "Occurrences of schedules that have ended, by the tenant of the schedule and by how they ended.",
            labels=["tenant", "outcome"],
        )
        for (tenant, state), count in self._schedules.register.outcomes.items():
            if index.scope.tenant in {ALL_TENANTS, tenant}:
                occurrences.add_metric([tenant, state], count)
        yield occurrences

    def _alarm_families(self, index: FleetIndex) -> Iterator[Metric]:
        which = AlarmFilter(scope=index.scope)
        seen = [alarm for alarm in self._alarms.open_alarms() if which.matches(alarm)]
        by_kind = Counter((alarm.kind, alarm.severity) for alarm in seen)
        family = GaugeMetricFamily(
            "trioder_alarms_open", "Open alarms, by kind and severity.", labels=["kind", "severity"]
        )
        for kind, severity in {**{(kind, RULES[kind].severity): 0 for kind in KINDS}, **by_kind}:
            family.add_metric([kind, severity], by_kind[kind, severity])
        yield family
        by_tenant = Counter(alarm.tenant for alarm in seen)
        yield _gauges(
            "tenant_alarms_open",
            "Open alarms of each tenant; * for several tenants' and the headend's own.",
            "tenant",
            by_tenant,
        )


class _Families(Collector):
    """Metrics that were collected already, as the encoders read them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _HeadendCollector(Collector):
    def __init__(self, headend: Headend) -> None:
        self._headend = headend

    def collect(self) -> Iterator[Metric]:
        headend = self._headend
        yield InfoMetricFamily("trioder_build", "This headend.", value={"version": trioder.__version__})
        yield _gauge("start_time_seconds", "Start time of the headend, Unix time.", headend.started_ms / 1000)
        yield _gauge("assets", "Assets in the fleet.", len(headend.fleet.keys))
        yield _gauge("assets_connected", "Assets with a connected agent.", headend.sessions.assets_connected)
        yield _gauge(
            "assets_suspect",
            "Assets whose latest sample is implausible; excluded from sums and allocations.",
            headend.latest.count(Quality.SUSPECT),
        )
        yield _gauge(
            "assets_bad",
            "Assets whose latest sample the device flagged as bad; excluded from sums and allocations.",
            headend.latest.count(Quality.BAD),
        )
        yield _gauge("streams_open", "Open live feeds.", len(headend.feed))
        yield _gauge("agents_connected", "Open sessions.", len(headend.sessions))
        yield _gauge(
            "outbox_backlog_seconds_max",
            "Age of the newest committed telemetry, of the connected agent that is furthest behind.",
            headend.ingest.furthest_behind_s(),
        )
        yield _gauge(
            "dispatch_members_deviating",
            "Members of dispatches whose power deviates from the setpoint.",
            headend.dispatcher.deviating(),
        )
        yield _gauge(
            "assets_nameplate_differs",
            "Assets whose agent registered a nameplate that differs from the fleet file's.",
            headend.dispatcher.limits.different,
        )
        yield from _peer_metrics(headend.peers)
        batches, fullest = headend.ingest.outbox_batches()
        yield _gauge(
            "outbox_batches", "Uncommitted telemetry batches in connected agents' outboxes.", batches
        )
        yield _gauge("outbox_batches_max", "Uncommitted telemetry batches in the fullest outbox.", fullest)
        yield from _clock_metrics(headend.clocks.summary(headend.sessions))
        states = {state: float(headend.store.health == state) for state in ("ok", "error", "disabled")}
        yield _gauges("database_state", "1 for the current state of the database.", "state", states)
        yield CounterMetricFamily(
            "trioder_log_lines_dropped",
            "Log lines dropped because standard error was full or not writable.",
            value=log_lines_dropped(),
        )
        depth = GaugeMetricFamily(
            "trioder_event_queue_depth", "Facts that wait to be read by a subscriber.", labels=["subscriber"]
        )
        dropped = CounterMetricFamily(
            "trioder_events_dropped",
            "Facts dropped because a subscriber's queue was full.",
            labels=["subscriber"],
        )
        for subscriber, stats in headend.events.stats():
            depth.add_metric([subscriber], stats.depth)
            dropped.add_metric([subscriber], stats.dropped)
        yield depth
        yield dropped
        for figure in fields(StoreStats):
            family = CounterMetricFamily if figure.metadata["kind"] == "counter" else GaugeMetricFamily
            value = getattr(headend.store.stats, figure.name)
            yield family(f"trioder_store_{figure.name}", figure.metadata["help"], value=value)
        for counter in fields(Counters):
            value = getattr(headend.counters, counter.name)
            yield CounterMetricFamily(f"trioder_{counter.name}", counter.metadata["help"], value=value)


def _clock_metrics(clocks: SkewSummary) -> Iterator[Metric]:
    """Aggregates over all agents: a series for each agent would be unbounded."""
    skew = {}
    if clocks.least_s is not None and clocks.most_s is not None:
        skew = {"min": clocks.least_s, "max": clocks.most_s}
    yield _gauges(
        "agent_clock_skew_seconds",
        "Smallest and largest lead of connected agents' clocks over the headend's; unknown ones excluded.",
        "bound",
        skew,
    )
    yield _gauge(
        "agents_clock_skewed",
        "Connected agents with a clock skew alarm: raised above 2 s, cleared below 1 s.",
        clocks.alarmed,
    )
    yield _gauge("agents_clock_unknown", "Connected agents with unknown clock skew.", clocks.unknown)


def _peer_metrics(peers: PeerLimits) -> Iterator[Metric]:
    yield _gauge("grpc_peer_memory_bytes", "Memory used on behalf of gRPC peers.", peers.used_bytes)
    yield _gauge(
        "grpc_peer_memory_limit_bytes",
        "Limit of that memory (HEADEND_PEER_MEMORY_MB).",
        peers.options.memory_bytes,
    )
    yield _gauges(
        "grpc_connections",
        "Open gRPC connections, by whether an agent has registered.",
        "state",
        {"registered": peers.registered_count, "unregistered": peers.unregistered_count},
    )
    refused = CounterMetricFamily(
        "trioder_grpc_refused",
        "gRPC connections closed and calls refused, by the limit that was exceeded.",
        labels=["reason"],
    )
    for reason, count in peers.refusals.counts.items():
        refused.add_metric([reason], count)
    yield refused


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"trioder_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"trioder_{name}", text, labels=[label])
    for label_value, value in values.items():
        family.add_metric([label_value], value)
    return family
