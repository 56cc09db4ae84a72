"""`/openapi.json`: Quart-Schema walks the routes, msgspec describes their types.

Quart-Schema's own conversion of msgspec types loses lists and nested types.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, TypeVar, get_args

import msgspec
from quart import Quart
from quart_schema import HttpSecurityScheme, Info, OpenAPIProvider, QuartSchema, document
from werkzeug.routing.converters import BaseConverter
from werkzeug.routing.rules import Rule

import trioder
from trioder.api.access import state_role, stated_role
from trioder.api.errors import ErrorBody
from trioder.api.ndjson import NDJSON
from trioder.domain.access import Role
from trioder.schemas.resources import NoQuery
from trioder.schemas.stream import EVENTS, EventStream

F = TypeVar("F", bound=Callable[..., Any])

_REFERENCE = "#/components/schemas/{name}"
_SCHEME = "bearer"
_HAS_ETAG = "_trioder_has_etag"
_TEXT = {"type": "string"}
_CONDITIONS = (
    "With `If-None-Match` (entity tags, or *) the response is 304 if one of them is current; with "
    "`Accept-Encoding: gzip` the body is compressed, unless it is small."
)
_CONDITIONAL_HEADERS = {
    "ETag": {
        "description": "The weak entity tag; of telemetry, independent of ages and remaining times.",
        "schema": _TEXT,
    },
    "Vary": {"description": "The headers of the request on which the response depends.", "schema": _TEXT},
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Lists, of one type or another, that are also available as lines."""

    models: tuple[Any, ...]


def documented(
    response: Any,
    *,
    role: Role | None,
    query: type[msgspec.Struct] = NoQuery,
    body: type[msgspec.Struct] | None = None,
    status: int = 200,
    errors: tuple[int, ...] = (),
    also: dict[int, Any] | None = None,
    has_etag: bool = False,
    lines: bool = False,
) -> Callable[[F], F]:
    """Describe a route's parameters, body and responses, and state the role that it needs.

    400, 401, 421, 429, 500, 503, and 403 for roles above viewer are implied. Only the role is checked, by
    `AccessControl`.

    Args:
        response: the type of the body of a success; a tuple of several.
        role: the lowest role that may use it; None for a route that needs no token.
        query: the query parameters.
        body: the type of the request's body.
        status: of a success.
        errors: further statuses of errors.
        also: the bodies of other statuses than `status`.
        has_etag: whether it has an entity tag, is not sent again to a client that has it, and is compressed.
        lines: the lists of a 200 are also available as lines, a row each.
    """
    implied = {400, 401, 421, 429, 500, 503} | ({403} if role in {"operator", "admin"} else set())
    models = response if isinstance(response, tuple) else (response,)
    responses: dict[int, Any] = {status: Rows(models) if lines else response, **(also or {})}
    responses |= dict.fromkeys(sorted({*implied, *errors}), ErrorBody)
    describe: Callable[[F], F] = document(
        querystring=query,
        request=body,
        responses={status: (model, None) for status, model in responses.items()},
    )

    def decorate(view: F) -> F:
        state_role(view, role)
        setattr(view, _HAS_ETAG, has_etag)
        return describe(view)

    return decorate


def openapi_document(app: Quart) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the application's routes."""
    extension = QuartSchema(
        info=Info(
            title="trioder headend",
            version=trioder.__version__,
            description="Dispatches a fleet of grid batteries. + MW discharges to the grid, - MW charges. "
            "A token has a role (viewer, operator or admin) and a tenant: nothing outside of that is shown "
            "or commanded. A headend without any token on file needs none.",
        ),
        security_schemes={
            _SCHEME: HttpSecurityScheme(scheme="bearer"),
        },
    )
    # The extension is not registered: it would validate and convert every request and response, and its
    # pages load scripts from other hosts.
    return _Provider(app, extension).schema()


class _Provider(OpenAPIProvider):
    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        role = stated_role(self._app.view_functions[rule.endpoint], rule.endpoint)
        needed = "Needs no token." if role is None else f"Needs the role {role}."
        for operations in paths.values():
            for operation in operations.values():
                operation["description"] = f"{operation['description']}\n\n{needed}".strip()
                # An empty requirement: a token is optional.
                operation["security"] = [{_SCHEME: []}] if role is not None else [{}, {_SCHEME: []}]
                if role is not None:
                    operation["x-role"] = role
                if getattr(self._app.view_functions[rule.endpoint], _HAS_ETAG, False):
                    _describe_conditions(operation)
        return paths, components

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        parameter = super().build_path_parameter(name, converter)
        parameter["schema"]["format"] = "uuid"
        return parameter

    def build_querystring_parameters(self, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        (_,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE)
        parameters = []
        for name, schema in components.pop(model.__name__)["properties"].items():
            # An optional parameter is not a nullable one.
            kinds = [kind for kind in schema.pop("anyOf", [schema]) if kind.get("type") != "null"]
            described = {**kinds[0], **{key: value for key, value in schema.items() if value is not None}}
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "description": described.pop("description", ""),
                    "schema": described,
                }
            )
        return parameters, components

    def build_request_body(
        self,
        model: Any,
        source: Any,  # noqa: ARG002  # the base class's signature
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        schema, components = _schema_of(model)
        return {"required": True, "content": {"application/json": {"schema": schema}}}, components

    def build_response_object(
        self,
        model: Any,
        headers_model: Any,  # noqa: ARG002  # the base class's signature
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if model is EventStream:
            return _described_events()
        if model is str:
            return {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}, {}
        models = model.models if isinstance(model, Rows) else model if isinstance(model, tuple) else (model,)
        schemas, components = msgspec.json.schema_components(models, ref_template=_REFERENCE)
        content = {"application/json": {"schema": _one_of(schemas)}}
        if isinstance(model, Rows):
            # Of each line.
            content[NDJSON] = {"schema": _one_of([schema["items"] for schema in schemas])}
        return {
            "description": " Or: ".join(_first_line(each) for each in models),
            "content": content,
        }, components


def _described_events() -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe server-sent events, with the type of the data of each."""
    kinds = list(dict.fromkeys(EVENTS.values()))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = dict(zip(kinds, schemas, strict=True))
    content = {
        "schema": {"type": "string"},
        "x-events": {name: schema_of[kind] for name, kind in EVENTS.items()},
    }
    description = (inspect.getdoc(EventStream) or "").partition("\n")[0]
    return {"description": description, "content": {"text/event-stream": content}}, components


def _describe_conditions(operation: dict[str, Any]) -> None:
    operation["description"] = f"{operation['description']}\n\n{_CONDITIONS}"
    operation["responses"][200]["headers"] = _CONDITIONAL_HEADERS | {
        "Content-Encoding": {"description": "gzip, if the body is compressed.", "schema": _TEXT}
    }
    operation["responses"][304] = {
        "description": "The client has the current representation.",
        "headers": _CONDITIONAL_HEADERS,
    }


def _first_line(model: Any) -> str:
    # The docstring of `list` does not describe its rows.
    described = get_args(model)[0] if isinstance(model, GenericAlias) else model
    return (inspect.getdoc(described) or "").partition("\n")[0]


def _one_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"oneOf": list(schemas)} if len(schemas) > 1 else schemas[0]


def _schema_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    return schema, components
