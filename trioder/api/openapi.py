"""`/openapi.json`: Quart-Schema walks the routes, msgspec describes their types.

Quart-Schema's own conversion of msgspec types loses lists and nested types.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from quart import Quart
from quart_schema import Info, OpenAPIProvider, QuartSchema, document
from werkzeug.routing.converters import BaseConverter

import trioder
from trioder.api.errors import ErrorBody
from trioder.api.schemas.resources import NoQuery

F = TypeVar("F", bound=Callable[..., Any])

_REFERENCE = "#/components/schemas/{name}"


def documented(
    response: Any,
    *,
    query: type[msgspec.Struct] = NoQuery,
    body: type[msgspec.Struct] | None = None,
    errors: tuple[int, ...] = (),
    also: dict[int, Any] | None = None,
) -> Callable[[F], F]:
    """Describe a route's parameters, body and responses; checks nothing. 400, 421 and 500 are implied."""
    responses: dict[int, Any] = {200: response, **(also or {})}
    responses |= dict.fromkeys(sorted({400, 421, 500, *errors}), ErrorBody)
    decorate: Callable[[F], F] = document(
        querystring=query,
        request=body,
        responses={status: (model, None) for status, model in responses.items()},
    )
    return decorate


def openapi_document(app: Quart) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the application's routes."""
    extension = QuartSchema(
        info=Info(
            title="trioder headend",
            version=trioder.__version__,
            description="Dispatches a fleet of grid batteries. + MW discharges to the grid, - MW charges.",
        ),
    )
    # The extension is not registered: it would validate and convert every request and response, and its
    # pages load scripts from other hosts.
    return _Provider(app, extension).schema()


class _Provider(OpenAPIProvider):
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
        if model is str:
            return {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}, {}
        schema, components = _schema_of(model)
        # The docstring of `list` does not describe its rows.
        described = get_args(model)[0] if get_origin(model) is list else model
        return {
            "description": (inspect.getdoc(described) or "").partition("\n")[0],
            "content": {"application/json": {"schema": schema}},
        }, components


def _schema_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    return schema, components
