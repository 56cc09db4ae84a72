"""`/openapi.json`: Quart-Schema walks the routes, msgspec describes their types.

Quart-Schema's own reading of msgspec types loses lists and nested types; this one does not.
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
    answer: Any,
    *,
    query: type[msgspec.Struct] = NoQuery,
    body: type[msgspec.Struct] | None = None,
    errors: tuple[int, ...] = (),
    also: dict[int, Any] | None = None,
) -> Callable[[F], F]:
    """Say what a route takes and answers; it checks nothing. 400, 421 and 500 go without saying."""
    responses: dict[int, Any] = {200: answer, **(also or {})}
    responses |= dict.fromkeys(sorted({400, 421, 500, *errors}), ErrorBody)
    decorate: Callable[[F], F] = document(
        querystring=query,
        request=body,
        responses={status: (model, None) for status, model in responses.items()},
    )
    return decorate


def openapi_document(app: Quart) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the application's routes."""
    extension = QuartSchema(
        info=Info(
            title="trioder headend",
            version=trioder.__version__,
            description="Commands a fleet of grid batteries. + MW discharges to the grid, - MW charges.",
        ),
    )
    # The extension itself stays off the application: it would check and convert on every request, and
    # its pages load their scripts from elsewhere.
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
            # A parameter that may be absent is not one that may be null.
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
        source: Any,  # noqa: ARG002  # the base class's
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        schema, components = _schema_of(model)
        return {"required": True, "content": {"application/json": {"schema": schema}}}, components

    def build_response_object(
        self,
        model: Any,
        headers_model: Any,  # noqa: ARG002  # the base class's
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if model is str:
            return {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}, {}
        schema, components = _schema_of(model)
        # A list's own docstring says nothing of what is in it.
        described = get_args(model)[0] if get_origin(model) is list else model
        return {
            "description": (inspect.getdoc(described) or "").partition("\n")[0],
            "content": {"application/json": {"schema": schema}},
        }, components


def _schema_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    return schema, components
