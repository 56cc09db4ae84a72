"""Hot reads: which requests are answered from memory, under the access rules of all others.

Only responses of success are given here. What is to be refused, does not exist, or takes long to make is left
to Quart, which decides all of it anew.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from trioder.api.access import AccessControl
from trioder.api.asset_query import FleetIndexes
from trioder.api.errors import ApiError
from trioder.api.http.hot_path import Client, HotResponse
from trioder.api.http.hot_requests import HotRequest
from trioder.api.http.request_log import RequestLog, request_id_of
from trioder.api.ndjson import accepts_lines
from trioder.api.parsing import check_parameters
from trioder.api.reads import Read, Reads
from trioder.api.representations import Answer, Wishes, row_answer
from trioder.domain.access import EVERYTHING, Principal
from trioder.process.slices import Steps, run_at_once
from trioder.schemas.resources import AgentsQuery, AssetsQuery, LatestQuery, NoQuery

_ONE_PREFIX = "/telemetry/"
_REQUEST_ID = b"x-request-id"
# Longer Accept headers are read by Quart.
_MAX_ACCEPT_LENGTH = 256

Health = Callable[[Principal | None], Steps[Answer]]


class _Route(NamedTuple):
    """A route: its rule, and its endpoint in Quart."""

    rule: str
    endpoint: str
    model: type[msgspec.Struct]
    read: Read | None


class FastReads:
    """Implements `HotReads`.

    Args:
        reads: of the headend.
        health: returns the response of `/health` to a caller, in steps.
        indexes: of the fleet.
        access: admits the callers.
        request_log: gets the requests that were answered.
    """

    def __init__(
        self,
        reads: Reads,
        health: Health,
        *,
        indexes: FleetIndexes,
        access: AccessControl,
        request_log: RequestLog,
    ) -> None:
        self._latest = reads.latest
        self._health = health
        self._indexes = indexes
        self._access = access
        self._request_log = request_log
        self._one = _Route("/telemetry/<asset_id>", "telemetry.show_latest", NoQuery, None)
        self._by_path = {
            route.rule: route
            for route in (
                _Route("/telemetry", "telemetry.list_latest", LatestQuery, reads.latest),
                _Route("/assets", "assets.list_assets", AssetsQuery, reads.assets),
                _Route("/agents", "agents.list_agents", AgentsQuery, reads.agents),
                _Route("/sites", "fleet.list_sites", NoQuery, reads.sites),
                _Route("/fleet", "fleet.show_fleet", NoQuery, reads.fleet),
                _Route("/health", "health.show_health", NoQuery, None),
            )
        }

    def respond(self, request: HotRequest, client: Client) -> HotResponse | None:
        """See `HotReads`."""
        began_s = self._request_log.clock()
        path, headers = request.path, request.headers
        route = self._one if path.startswith(_ONE_PREFIX) else self._by_path.get(path)
        accept = headers.get(b"accept", b"")
        if route is None or len(accept) > _MAX_ACCEPT_LENGTH or not _is_json_wanted(accept):
            return None
        admission = self._access.admit_now(route.endpoint, _text(headers, b"authorization"), client=client)
        if admission is None:
            return None
        try:
            answer = self._answer(route, request, admission.caller)
        except ApiError:
            return None
        close = None if answer is None else self._access.count_now(admission, is_stream=answer.is_long)
        if answer is None or close is None:
            return None
        given = headers.get(_REQUEST_ID)
        request_id = request_id_of(() if given is None else ((_REQUEST_ID, given),))
        caller = admission.caller

        def finish() -> None:
            close()
            self._request_log.record(
                method="GET",
                route=route.rule,
                raw_path=path.encode(),
                status=answer.status,
                duration_s=self._request_log.clock() - began_s,
                client=client,
                request_id=request_id,
                principal=None if caller is None or caller.kind == "open" else caller.name,
            )

        return HotResponse(answer, request_id, finish)

    def _answer(self, route: _Route, request: HotRequest, caller: Principal | None) -> Answer | None:
        query = request.query
        if query:
            check_parameters(query, route.model)
        if route is not self._one and route.read is None:
            # Figures of a tenant are counted asset by asset.
            is_short = caller is None or caller.scope == EVERYTHING
            return run_at_once(self._health(caller)) if is_short else None
        index = self._indexes.of(EVERYTHING if caller is None else caller.scope)
        if route.read is None:
            row = self._latest.one(index, request.path.removeprefix(_ONE_PREFIX))
            return None if row is None else row_answer(row)
        headers = request.headers
        wishes = Wishes(_text(headers, b"if-none-match"), _text(headers, b"accept-encoding"))
        return route.read.now(index, query, wishes)


@lru_cache(maxsize=256)
def _is_json_wanted(accept: bytes) -> bool:
    # Lines are made by Quart.
    return not accept or not accepts_lines(accept.decode("latin-1"))


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
