"""The operations are those of the OpenAPI document, with all parameters, and both clients have them."""

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgspec
import pytest

from tests.unit.api.rest import open_rest
from trioder.client import AsyncHeadendClient, HeadendClient, StepBody, commands, reads
from trioder.client.feed import Feed
from trioder.client.lists import LineList, Listing
from trioder.client.operation import Operation

# A value for every parameter of every operation: some exclude each other, which is the headend's to say.
VALUES: dict[str, Any] = {
    "active": True,
    "agent_id": "agent-1",
    "alarm_id": "alarm",
    "allocations": True,
    "asset_id": "asset",
    "asset_ids": ["a", "b"],
    "comment": "seen",
    "connected": True,
    "dispatch_id": "dispatch",
    "dry_run": True,
    "duration_s": 60,
    "end": "2026-01-02T00:00:00Z",
    "event_type": "TRIP",
    "expires_in_s": 5.0,
    "export_limit_mw": 1.0,
    "fleet": True,
    "idempotency_key": "key",
    "import_limit_mw": 1.0,
    "kind": "away",
    "limit": 3,
    "minutes": 5,
    "misfire_s": 60,
    "mw": 1.0,
    "origin": "agent",
    "principal": "alice",
    "recurrence": "FREQ=DAILY",
    "resolution": "1h",
    "resplit": True,
    "reversion_mw": 1.0,
    "schedule_id": "schedule",
    "severity": "major",
    "site_id": "site",
    "start": "2026-01-01T00:00:00Z",
    "state": "open",
    "steps": [StepBody(duration_s=60, mw=1.0)],
    "strategy": "equal",
    "timezone": "UTC",
    "until": "2026-01-01T00:00:00Z",
    "valid_until": "2026-01-01T00:00:00Z",
    "wait_ack_s": 5,
}


def functions_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {
        name: each
        for name, each in vars(module).items()
        if inspect.isfunction(each) and each.__module__ == module.__name__ and not name.startswith("_")
    }


FUNCTIONS = functions_of(reads) | functions_of(commands)


def operations() -> Iterator[Operation[Any]]:
    for build in FUNCTIONS.values():
        match built := build(**{name: VALUES[name] for name in inspect.signature(build).parameters}):
            case Listing():
                yield built.page("position", 3)
            case LineList():
                yield built.operation
            case _:
                yield built
    feed = Feed(site_ids=["site"], asset_ids=["asset"], topics=["fleet"], rng=None)  # type: ignore[arg-type]
    yield feed.request()


@pytest.fixture
async def document(autojump_clock: object) -> dict[str, Any]:
    async with open_rest() as rest:
        described: dict[str, Any] = await rest.get("/openapi.json")
        return described


async def test_every_operation_of_the_document_is_there_and_no_other(document: dict[str, Any]) -> None:
    described = {
        (method.upper(), route)
        for route, methods in document["paths"].items()
        for method in methods
        if method in {"get", "post", "put", "delete"}
    }
    assert {(each.method, each.route) for each in operations()} == described


async def test_each_has_the_parameters_of_the_document(document: dict[str, Any]) -> None:
    sent: dict[tuple[str, str], set[str]] = {}
    for each in operations():
        sent.setdefault((each.method, each.route), set()).update(name for name, _ in each.query)
    for (method, route), names in sent.items():
        parameters = document["paths"][route][method.lower()].get("parameters", ())
        assert names == {each["name"] for each in parameters if each["in"] == "query"}, (method, route)


async def test_each_body_has_the_fields_of_the_document(document: dict[str, Any]) -> None:
    for each in operations():
        described = document["paths"][each.route][each.method.lower()]
        if "requestBody" not in described:
            assert each.content is None
            continue
        reference = described["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        assert each.content is not None
        assert set(msgspec.json.decode(each.content)) == set(schema["properties"]), each.route


async def test_each_success_of_the_document_is_one(document: dict[str, Any]) -> None:
    for each in operations():
        responses = document["paths"][each.route][each.method.lower()]["responses"]
        successes = {int(status) for status in responses if int(status) < 300}
        if each.route == "/health":
            successes.add(503)
        assert each.statuses == successes, each.route


@pytest.mark.parametrize("client", [HeadendClient, AsyncHeadendClient])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_clients_have_it_with_its_parameters_and_documentation(client: type, name: str) -> None:
    method, build = getattr(client, name), FUNCTIONS[name]
    assert method.__doc__ == build.__doc__
    _, *parameters = inspect.signature(method).parameters
    assert parameters == list(inspect.signature(build).parameters)


def test_parameters_that_are_not_ids_are_keywords() -> None:
    for name, build in FUNCTIONS.items():
        for parameter in inspect.signature(build).parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                assert parameter.name.endswith("_id"), (name, parameter)


def test_only_reads_and_requests_with_a_key_are_repeatable() -> None:
    for each in operations():
        assert each.repeatable == (each.method == "GET" or "Idempotency-Key" in each.headers), each.route
    assert {each.route for each in operations() if "Idempotency-Key" in each.headers} == {
        "/dispatch",
        "/schedules",
    }


def test_each_command_has_a_key_of_its_own() -> None:
    keys = {commands.dispatch(mw=1.0, fleet=True).headers["Idempotency-Key"] for _ in range(100)}
    assert len(keys) == 100
