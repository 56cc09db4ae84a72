"""What `/metrics` tells: the headend's own numbers, read when asked, and REST requests, noted as they end."""

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import trioder
from trioder.api.context import Headend
from trioder.domain.quality import Quality
from trioder.events.counters import Counters
from trioder.gateway.agent_clocks import SkewSummary
from trioder.process.queued_output import log_lines_dropped
from trioder.rpc import PeerLimits
from trioder.store.stats import StoreStats

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


class Metrics:
    """One headend's metrics, in a registry of their own."""

    def __init__(self, headend: Headend) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_HeadendCollector(headend))
        self._requests = Histogram(
            "trioder_http_request_duration_seconds",
            "REST requests by route and status, from the first header to the end of the answer.",
            ["method", "route", "status"],
            registry=self._registry,
        )

    def observe_request(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Note one REST request. What a client may choose freely is no label: it would fill the memory."""
        known_method = method if method in _METHODS else "other"
        self._requests.labels(known_method, route or "none", str(status)).observe(duration_s)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _clock_metrics(clocks: SkewSummary) -> Iterator[Metric]:
    """A few numbers of all agents: a series for each would be without bound."""
    skew = GaugeMetricFamily(
        "trioder_agent_clock_skew_seconds",
        "How far agents' clocks are ahead of the headend's, of those connected whose clock is known.",
        labels=["bound"],
    )
    if clocks.least_s is not None and clocks.most_s is not None:
        skew.add_metric(["min"], clocks.least_s)
        skew.add_metric(["max"], clocks.most_s)
    yield skew
    yield GaugeMetricFamily(
        "trioder_agents_clock_skewed",
        "Connected agents whose clock was found to be off by more than 2 s, and not below 1 s since.",
        value=clocks.alarmed,
    )
    yield GaugeMetricFamily(
        "trioder_agents_clock_unknown", "Connected agents whose clock is not known.", value=clocks.unknown
    )


class _HeadendCollector(Collector):
    def __init__(self, headend: Headend) -> None:
        self._headend = headend

    def collect(self) -> Iterator[Metric]:
        headend = self._headend
        yield InfoMetricFamily("trioder_build", "This headend.", value={"version": trioder.__version__})
        yield GaugeMetricFamily(
            "trioder_start_time_seconds",
            "When the headend started, in Unix time.",
            value=headend.started_ms / 1000,
        )
        yield GaugeMetricFamily("trioder_assets", "Assets in the fleet.", value=len(headend.fleet.keys))
        yield GaugeMetricFamily(
            "trioder_assets_connected",
            "Assets that an agent drives now.",
            value=headend.sessions.assets_connected,
        )
        yield GaugeMetricFamily(
            "trioder_assets_suspect",
            "Assets whose latest sample cannot be: left out of sums and splits.",
            value=headend.latest.count(Quality.SUSPECT),
        )
        yield GaugeMetricFamily(
            "trioder_assets_bad",
            "Assets whose latest sample the device itself flagged as bad: left out of sums and splits.",
            value=headend.latest.count(Quality.BAD),
        )
        yield GaugeMetricFamily("trioder_agents_connected", "Live sessions.", value=len(headend.sessions))
        yield GaugeMetricFamily(
            "trioder_outbox_backlog_seconds_max",
            "Age of the newest telemetry that is kept, of the connected agent that is furthest behind.",
            value=headend.ingest.furthest_behind_s(),
        )
        yield GaugeMetricFamily(
            "trioder_dispatch_members_deviating",
            "Members of dispatches whose power is not what was asked, now.",
            value=headend.dispatcher.deviating(),
        )
        yield GaugeMetricFamily(
            "trioder_assets_nameplate_differs",
            "Assets whose agents registered another nameplate than the fleet file's.",
            value=headend.dispatcher.limits.different,
        )
        yield from _peer_metrics(headend.peers)
        all_batches, fullest = headend.ingest.outbox_batches()
        yield GaugeMetricFamily(
            "trioder_outbox_batches",
            "Telemetry batches that connected agents keep, for they are not committed.",
            value=all_batches,
        )
        yield GaugeMetricFamily(
            "trioder_outbox_batches_max", "The same of the fullest outbox alone.", value=fullest
        )
        yield from _clock_metrics(headend.clocks.summary(headend.sessions))
        database = GaugeMetricFamily(
            "trioder_database_state", "1 for the state that the database is in.", labels=["state"]
        )
        for state in ("ok", "error", "disabled"):
            database.add_metric([state], float(headend.store.health == state))
        yield database
        yield CounterMetricFamily(
            "trioder_log_lines_dropped",
            "Log lines dropped because nobody read standard error, or it could not be written.",
            value=log_lines_dropped(),
        )
        for figure in fields(StoreStats):
            family = CounterMetricFamily if figure.metadata["kind"] == "counter" else GaugeMetricFamily
            value = getattr(headend.store.stats, figure.name)
            yield family(f"trioder_store_{figure.name}", figure.metadata["help"], value=value)
        for counter in fields(Counters):
            yield CounterMetricFamily(
                f"trioder_{counter.name}",
                counter.metadata["help"],
                value=getattr(headend.counters, counter.name),
            )


def _peer_metrics(peers: PeerLimits) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "trioder_grpc_peer_memory_bytes", "What gRPC peers make the headend hold.", value=peers.held_bytes
    )
    yield GaugeMetricFamily(
        "trioder_grpc_peer_memory_limit_bytes",
        "What they may make it hold (HEADEND_PEER_MEMORY_MB).",
        value=peers.options.memory_bytes,
    )
    connections = GaugeMetricFamily(
        "trioder_grpc_connections", "Open gRPC connections, by whether an agent registered.", labels=["state"]
    )
    connections.add_metric(["registered"], peers.registered_count)
    connections.add_metric(["unregistered"], peers.unregistered_count)
    yield connections
    refused = CounterMetricFamily(
        "trioder_grpc_refused",
        "gRPC connections that were closed, or calls that were refused, by the limit that they exceeded.",
        labels=["reason"],
    )
    for reason, count in peers.refusals.counts.items():
        refused.add_metric([reason], count)
    yield refused
