"""All routes: agents, health, metrics, the OpenAPI document, errors and the request log."""

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tests.unit.api.feeds import follow
from tests.unit.api.rest import make_fleet, open_rest, uuid_of
from trioder.events.counters import Counters
from trioder.schemas.resources import RESOLUTIONS
from trioder.wire.records import Registration

ROUTES = [
    "/",
    "/assets",
    "/sites",
    "/fleet",
    "/telemetry",
    "/dispatch",
    "/agents",
    "/health",
    "/openapi.json",
]


async def test_agents_lists_the_connected_assets(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(2, agent_id="late")
        session = rest.connect(1)
        session.clock_skew_s, session.clock_error_s = -3_600.00049, 0.0021
        rows = await rest.get("/agents")
        assert rows[0] == {
            "asset_id": uuid_of(1001),
            "asset_name": "Battery 0/1",
            "site_name": "Site 0",
            "peer": "127.0.0.1:4711",
            "agent_id": "agent-1",
            "connected_at": "2026-01-01T00:00:00.000Z",
            "clock_skew_s": -3600.0,
            "clock_error_s": 0.002,
        }
        assert (rows[1]["clock_skew_s"], rows[1]["clock_error_s"]) == (None, None)
        assert [row["asset_id"] for row in rows] == [uuid_of(1001), uuid_of(1002)]
        after = f"/agents?limit=1&after={uuid_of(1001)}"
        assert [row["agent_id"] for row in await rest.get(after)] == ["late"]


async def test_a_disconnected_agent_is_not_listed(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.headend.sessions.release(rest.connect(0))
        assert await rest.get("/agents") == []


async def test_health_counts_what_is_connected(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        assert await rest.get("/health") == {
            "status": "ok",
            "db": "disabled",
            "db_reason": "",
            "db_backlog_rows": 0,
            "agents": 1,
            "assets_connected": 2,
            "assets": 4,
        }


async def test_health_is_degraded_during_shutdown(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.headend.closing.set()
        status, body = await rest.ask("GET", "/health")
        assert (status, body["status"]) == (503, "degraded")


async def test_the_index_leads_to_every_list(autojump_clock: object) -> None:
    async with open_rest() as rest:
        index = await rest.get("/")
        async with follow(rest) as follower:
            assert (follower.status, index["links"].pop("stream")) == (200, "/stream")
        for link in index["links"].values():
            assert (await rest.raw("GET", link)).status_code == 200


async def test_metrics_are_prometheus_text_with_every_counter(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1)
        clock_unix_ms = rest.headend.wall.now_ms() - 5_000
        registered = Registration(
            agent_id="a", epoch=1, protocol=1, outbox_id="", asset_ids=(), clock_unix_ms=clock_unix_ms
        )
        rest.headend.clocks.session_opened(session, registered)
        rest.headend.counters.samples_received = 7
        await rest.get("/assets")
        await rest.ask("BREW", "/assets")
        await rest.ask("GET", "/nothing-here")
        response = await rest.raw("GET", "/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families((await response.get_data()).decode())
            for sample in family.samples
        }
        assert samples["trioder_samples_received_total",] == 7
        assert samples["trioder_assets_connected",] == 2
        assert samples["trioder_database_state", "disabled"] == 1
        assert samples["trioder_agent_clock_skew_seconds", "min"] == -5
        assert samples["trioder_agent_clock_skew_seconds", "max"] == -5
        assert samples["trioder_agents_clock_skewed",] == 0
        assert samples["trioder_agents_clock_unknown",] == 0
        for name in Counters.__slots__:
            assert (f"trioder_{name}_total",) in samples
        count = "trioder_http_request_duration_seconds_count"
        assert samples[count, "GET", "/assets", "200"] == 1
        assert samples[count, "other", "none", "405"] == 1
        assert samples[count, "GET", "none", "404"] == 1


@pytest.mark.parametrize(
    "path", ["/nothing", "/assets/", "/telemetry//history", "/%00", "/%ff", "/docs", "/redocs", "/static/x"]
)
async def test_an_unknown_route_is_not_found_in_json(autojump_clock: object, path: str) -> None:
    async with open_rest() as rest:
        response = await rest.raw("GET", path)
        assert response.content_type == "application/json"
        assert (response.status_code, (await response.get_json())["error"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/assets", "GET, HEAD, OPTIONS"),
        ("DELETE", "/health", "GET, HEAD, OPTIONS"),
        ("PUT", "/dispatch", "GET, HEAD, OPTIONS, POST"),
        ("BREW", "/dispatch", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_a_wrong_method_is_refused_with_the_allowed_ones(
    autojump_clock: object, method: str, path: str, allowed: str
) -> None:
    async with open_rest() as rest:
        response = await rest.raw(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        assert (await response.get_json())["error"] == "method_not_allowed"


async def test_options_lists_the_methods_and_grants_no_origin(autojump_clock: object) -> None:
    async with open_rest() as rest:
        response = await rest.raw("OPTIONS", "/dispatch", headers={"origin": "http://elsewhere.example"})
        assert (response.status_code, response.headers["allow"]) == (
            204,
            "GET, HEAD, OPTIONS, POST",
        )
        assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_refuses_unknown_parameters(autojump_clock: object, path: str) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"{path}?colour=red")
        assert (status, body["error"]) == (400, "bad_request")
        assert "'colour'" in body["message"]


async def test_every_request_is_logged_once(autojump_clock: object) -> None:
    async with open_rest() as rest:
        with capture_logs() as lines:
            await rest.raw("GET", "/assets?limit=0")
        [line] = [line for line in lines if line["event"] == "request"]
        assert line.pop("duration_ms") >= 0
        assert line == {
            "event": "request",
            "log_level": "info",
            "method": "GET",
            "path": "/assets",
            "status": 400,
            "peer": line["peer"],
            "request_id": line["request_id"],
        }


async def test_a_crash_is_logged_and_its_details_are_not_sent(autojump_clock: object) -> None:
    async with open_rest() as rest:

        @rest.app.get("/crash")
        async def crash() -> str:
            raise RuntimeError("secret detail")

        with capture_logs() as lines:
            status, body = await rest.ask("GET", "/crash")
        assert (status, body["error"]) == (500, "internal_error")
        assert "secret" not in json.dumps(body)
        [crashed] = [line for line in lines if line["event"] == "request crashed"]
        assert str(crashed["exc_info"]) == "secret detail"
        assert await rest.get("/health")


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        here = {node["$ref"]} if "$ref" in node else set()
        return here.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


async def test_the_openapi_document_covers_every_route_and_error(autojump_clock: object) -> None:
    async with open_rest() as rest:
        description = await rest.get("/openapi.json")
        assert description["openapi"].startswith("3.1")
        served = {
            (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
            for rule in rest.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
        operations = {
            (path, method): operation
            for path, methods in description["paths"].items()
            for method, operation in methods.items()
        }
        assert operations.keys() == served
        names = [operation["operationId"] for operation in operations.values()]
        assert len(names) == len(set(names))
        schemas = description["components"]["schemas"]
        assert references(description) == {f"#/components/schemas/{name}" for name in schemas}
        for (path, _), operation in operations.items():
            assert operation["summary"]
            for response in operation["responses"].values():
                assert response["description"]
            for status in ("400", "500"):
                [content] = operation["responses"][status]["content"].values()
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
            in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path" and p["required"]}
            assert in_path == set(re.findall(r"{(\w+)}", path))


async def test_the_openapi_document_has_types_bounds_and_bodies(autojump_clock: object) -> None:
    async with open_rest() as rest:
        paths = (await rest.get("/openapi.json"))["paths"]
        parameters = {p["name"]: p for p in paths["/telemetry"]["get"]["parameters"]}
        assert set(parameters) == {"site_id", "asset_id", "limit", "after"}
        assert parameters["asset_id"]["schema"]["items"] == {"type": "string", "format": "uuid"}
        assert parameters["limit"]["schema"]["minimum"] == 1
        assert parameters["site_id"]["schema"] == {"type": "string", "format": "uuid"}
        row = {"$ref": "#/components/schemas/AssetRow"}
        assert paths["/assets"]["get"]["responses"]["200"]["content"] == {
            "application/json": {"schema": {"type": "array", "items": row}},
            "application/x-ndjson": {"schema": row},
        }
        history = paths["/telemetry/{asset_id}/history"]["get"]
        rows = [{"$ref": f"#/components/schemas/{name}"} for name in ("HistoryRow", "HistoryBucketRow")]
        assert history["responses"]["200"]["content"]["application/x-ndjson"]["schema"] == {"oneOf": rows}
        resolutions = next(p["schema"] for p in history["parameters"] if p["name"] == "resolution")["enum"]
        assert sorted(resolutions) == sorted(RESOLUTIONS)
        body = paths["/dispatch"]["post"]["requestBody"]
        assert body["required"] is True
        assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/DispatchBody"}


async def test_responses_have_the_fields_of_the_openapi_document(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet()) as rest:
        rest.report(0, 1, 2, 3)
        rest.connect(0)
        await rest.post(b'{"fleet": true, "mw": 1}')
        json = {"content-type": "application/json"}
        await rest.ask("POST", "/stop", data=b'{"fleet": true}', headers=json)
        schemas = (await rest.get("/openapi.json"))["components"]["schemas"]
        for path, name in {
            "/assets": "AssetRow",
            "/sites": "SiteRow",
            "/telemetry": "TelemetryRow",
            "/dispatch": "DispatchRow",
            "/agents": "AgentRow",
            "/agents/processes": "AgentProcessRow",
            "/stops": "StopInForceRow",
        }.items():
            assert set((await rest.get(path))[0]) == set(schemas[name]["required"])
