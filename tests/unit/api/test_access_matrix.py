"""Every operation of the OpenAPI document, by every kind of caller, on what is its tenant's and what is not.

A new operation is in the matrix by itself; one whose parameters are not known here fails it.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from tests.unit.api.tenants import (
    EXPIRED,
    FIRST_START,
    UNKNOWN,
    WRONG,
    Tenants,
    add_schedules,
    asset_ids,
    open_tenants,
    secret_of,
    site_id,
    stored_id,
)
from trioder.domain.access import ROLES

OWN, OTHER = "alpha", "beta"
CALLERS = {
    "no token": None,
    "wrong": WRONG,
    "expired": EXPIRED,
    **{role: secret_of(role, OWN) for role in ROLES},
}


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    method: str
    path: str
    description: dict[str, Any]

    @property
    def role(self) -> str | None:
        return self.description.get("x-role")

    @property
    def names(self) -> list[tuple[str, str]]:
        """The parameters that name something: where they are, and what they are called."""
        return [
            (parameter["in"], parameter["name"])
            for parameter in self.description["parameters"]
            if parameter["in"] == "path"
            or parameter["name"] in {"asset_id", "site_id", "after"}
            or (parameter["name"] == "before" and parameter["schema"].get("format") == "uuid")
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations() -> list[Operation]:
    """Read them from the document, as any client would."""

    async def read() -> dict[str, Any]:
        async with open_tenants() as tenants:
            document: dict[str, Any] = await tenants.get("/openapi.json", secret=None)
            return document

    document = trio.run(read, clock=trio.testing.MockClock(autojump_threshold=0))
    return [
        Operation(method.upper(), path, description)
        for path, methods in document["paths"].items()
        for method, description in methods.items()
    ]


OPERATIONS = operations()


def id_of(name: str, tenant: str, tenants: Tenants, *, stored: bool = False) -> str:
    """What a parameter of this name is to a tenant; fails for one that is not known here."""
    return {
        "asset_id": asset_ids(tenant)[0],
        "after": asset_ids(tenant)[0],
        "site_id": site_id(tenant),
        "dispatch_id": stored_id(tenant) if stored else tenants.dispatch_ids[tenant],
        # The headend has all schedules in memory.
        "schedule_id": tenants.schedule_ids[tenant],
        "alarm_id": stored_id(tenant) if stored else tenants.alarm_ids[tenant],
        "before": stored_id(tenant) if stored else tenants.alarm_ids[tenant],
    }[name]


def path_with(operation: Operation, ids: dict[str, str], query: dict[str, str] | None = None) -> str:
    arguments = "&".join(f"{name}={value}" for name, value in (query or {}).items())
    return operation.path.format(**ids) + (f"?{arguments}" if arguments else "")


# Bodies without the name of an asset.
UNTARGETED = ("SiteLimitsBody", "AcknowledgeBody", "SkipBody")
TARGETING_LISTS = ("DispatchBody", "ScheduleBody")
# A body of another type fails.
SMALLEST_BODIES: dict[str, dict[str, Any]] = {
    "DispatchBody": {"mw": 1.0, "asset_id": asset_ids(OWN)[0]},
    "StopBody": {"asset_id": asset_ids(OWN)[0]},
    "SiteLimitsBody": {"export_limit_mw": 1e6},
    "AcknowledgeBody": {"comment": "seen"},
    "ScheduleBody": {
        "mw": 1.0,
        "duration_s": 60,
        "start": "2026-01-02T00:00:00Z",
        "asset_id": asset_ids(OWN)[0],
    },
    "SkipBody": {"start": FIRST_START},
}
CREATED = [("POST", "/schedules")]


def target_of(operation: Operation, tenant: str) -> dict[str, object]:
    """The fields of a body that name an asset of the tenant, where the body has such fields."""
    is_targeted = "requestBody" in operation.description and body_name(operation) not in UNTARGETED
    return {"asset_id": asset_ids(tenant)[0]} if is_targeted else {}


def body_name(operation: Operation) -> str:
    [content] = operation.description["requestBody"]["content"].values()
    name: str = content["schema"]["$ref"].rpartition("/")[2]
    return name


def body_of(operation: Operation, **fields: object) -> dict[str, Any]:
    """The options of a request with a body, where the operation takes one."""
    if "requestBody" not in operation.description:
        return {}
    body = SMALLEST_BODIES[body_name(operation)] | fields
    return {"data": msgspec.json.encode(body), "headers": {"content-type": "application/json"}}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
async def test_an_operation_is_for_its_role_and_shows_only_the_own_tenant(
    autojump_clock: object, operation: Operation, caller: str
) -> None:
    async with open_tenants() as tenants:
        await add_schedules(tenants)
        ids = {name: id_of(name, OWN, tenants) for where, name in operation.names if where == "path"}
        response = await tenants.raw(
            operation.method, path_with(operation, ids), secret=CALLERS[caller], **body_of(operation)
        )
        body = (await response.get_data()).decode()
        assert response.status_code == expected_status(operation, caller), body
        assert str(response.status_code) in operation.description["responses"]
        assert not [name for name in tenants.names_of(OTHER) if name in body]


def expected_status(operation: Operation, caller: str) -> int:
    if caller == "no token":
        return 200 if operation.role is None else 401
    if caller not in ROLES:
        # A token that is not valid is refused where none would be needed, too.
        return 401
    if operation.role is not None and ROLES.index(caller) < ROLES.index(operation.role):  # type: ignore[arg-type]  # checked by the comparison
        return 403
    # A fleet file has all tenants.
    return 403 if operation.path == "/fleet/reload" else success_of(operation)


def success_of(operation: Operation) -> int:
    return 201 if (operation.method, operation.path) in CREATED else 200


NAMING = [operation for operation in OPERATIONS if operation.names or "requestBody" in operation.description]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", NAMING, ids=str)
async def test_what_is_another_tenants_is_answered_as_what_does_not_exist(
    autojump_clock: object, operation: Operation, role: str
) -> None:
    if operation.role is not None and ROLES.index(role) < ROLES.index(operation.role):  # type: ignore[arg-type]  # checked by the comparison
        return
    async with open_tenants() as tenants:
        await add_schedules(tenants)

        async def answer(path: str, **options: Any) -> tuple[int, str]:
            response = await tenants.raw(
                operation.method, path, secret=secret_of(role, OWN), **(options or body_of(operation))
            )
            return response.status_code, (await response.get_data()).decode()

        own = {name: id_of(name, OWN, tenants) for where, name in operation.names if where == "path"}
        for stored in (False, True):
            for where, name in operation.names:
                foreign_id = id_of(name, OTHER, tenants, stored=stored)
                foreign, unknown = [
                    path_with(operation, own | {name: id_})
                    if where == "path"
                    else path_with(operation, own, {name: id_})
                    for id_ in (foreign_id, UNKNOWN)
                ]
                status, body = await answer(foreign)
                assert status == 404
                assert (status, body.replace(foreign_id, UNKNOWN)) == await answer(unknown)
        if "requestBody" not in operation.description or body_name(operation) in UNTARGETED:
            return
        for field, foreign_id in {"asset_id": asset_ids(OTHER)[0], "site_id": site_id(OTHER)}.items():
            fields: dict[str, object] = {"asset_id": None}
            status, body = await answer(operation.path, **body_of(operation, **fields | {field: foreign_id}))
            assert status == 404
            unknown_answer = await answer(operation.path, **body_of(operation, **fields | {field: UNKNOWN}))
            assert (status, body.replace(foreign_id, UNKNOWN)) == unknown_answer
        if body_name(operation) not in TARGETING_LISTS:
            return
        group = [asset_ids(OWN)[0], asset_ids(OTHER)[0]]
        status, body = await answer(operation.path, **body_of(operation, asset_id=None, asset_ids=group))
        assert (status, group[0] in body) == (404, False)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_an_operation_documents_its_role_and_its_refusals(operation: Operation) -> None:
    responses = set(operation.description["responses"])
    needed = {"401", "429"} | ({"403"} if operation.role in {"operator", "admin"} else set())
    assert needed <= responses
    optional = [{}] if operation.role is None else []
    assert operation.description["security"] == [*optional, {"bearer": []}]
    assert (operation.role or "no token") in operation.description["description"]


# What these answer has no names; of stops there are none.
NAMELESS = {
    *("/", "/openapi.json", "/health", "/whoami", "/stops"),
    *("/fleet", "/fleet/reload", "/fleet/power", "/fleet/history", "/sites/{site_id}/history"),
}


async def test_an_admin_of_all_tenants_sees_both(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        for operation in OPERATIONS:
            if operation.path in NAMELESS:
                continue
            # The last operation may have cancelled them.
            await add_schedules(tenants)
            seen = ""
            for tenant in (OWN, OTHER):
                ids = {
                    name: id_of(name, tenant, tenants) for where, name in operation.names if where == "path"
                }
                response = await tenants.raw(
                    operation.method,
                    path_with(operation, ids),
                    secret=secret_of("admin", "*"),
                    **body_of(operation, **target_of(operation, tenant)),
                )
                assert response.status_code == success_of(operation), str(operation)
                seen += (await response.get_data()).decode()
            for tenant in (OWN, OTHER):
                assert [name for name in tenants.names_of(tenant) if name in seen], (str(operation), tenant)
