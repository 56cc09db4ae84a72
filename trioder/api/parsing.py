"""Parsing and validation of requests: JSON bodies, query parameters, ids.

Every error is an `ApiError` that names the value and the rule.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

import msgspec
from quart import request

from trioder.api.errors import ApiError
from trioder.domain.text import CANONICAL_UUID, TextError, escape, preview, valid_name
from trioder.process.rfc3339 import parse_ms

T = TypeVar("T", bound=msgspec.Struct)

Query = Mapping[str, list[str]]

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


async def read_json_body(decoder: msgspec.json.Decoder[T]) -> T:
    """Return the request's JSON object, of the decoder's type.

    Raises:
        ApiError: 415, 413 or 400; the message names the field and what was expected there.
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in {"utf-8", "utf8"}:
        sent = request.headers.get("Content-Type", "")
        raise ApiError(415, f"content-type is {preview(sent)}; it must be 'application/json' in UTF-8")
    body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    if not body.strip():
        raise ApiError(400, "the body is empty; it must be a JSON object")
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"the body does not fit: {_reason(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {_reason(error)}") from None
    _refuse_duplicate_fields(body)
    return value


def _reason(error: Exception) -> str:
    return escape(str(error), length=200)


def _refuse_duplicate_fields(body: bytes) -> None:
    # Decoders disagree on which of two values counts; a dispatch must not depend on that. The body was
    # decoded before, so this cannot fail.
    json.loads(body, object_pairs_hook=_check_names)


def _check_names(fields: list[tuple[str, object]]) -> None:
    names = [name for name, _ in fields]
    for name in names:
        if names.count(name) > 1:
            raise ApiError(400, f"the body has the field {preview(name)} more than once")


def checked_query(model: type[msgspec.Struct]) -> Query:
    """Return the query parameters by name: only fields of `model`, and only its lists more than once."""
    query = {name: request.args.getlist(name) for name in request.args}
    check_parameters(query, model)
    return query


def check_parameters(query: Query, model: type[msgspec.Struct]) -> None:
    """Check that there are only fields of `model`, and only its lists more than once.

    Raises:
        ApiError: 400.
    """
    repeatable = _repeatable_by_name(model)
    for name, values in query.items():
        if name not in repeatable:
            takes = f"it takes {', '.join(repeatable)}" if repeatable else "it takes none"
            raise ApiError(400, f"there is no query parameter {preview(name)} here; {takes}")
        if len(values) > 1 and not repeatable[name]:
            raise ApiError(400, f"{name} is given {len(values)} times; it must be given once")


@cache
def _repeatable_by_name(model: type[msgspec.Struct]) -> Mapping[str, bool]:
    """Return whether each parameter may be repeated."""
    return {field.name: field.default_factory is list for field in msgspec.structs.fields(model)}


def query_limit(query: Query, *, highest: int, default: int) -> int:
    """Return `?limit=`, 1..highest."""
    return query_number(query, "limit", lowest=1, highest=highest, default=default)


def query_number(query: Query, name: str, *, lowest: int, highest: int, default: int) -> int:
    """Return a whole number, lowest..highest."""
    if name not in query:
        return default
    text = query[name][0]
    if not _WHOLE_NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
        raise ApiError(
            400, f"{name} is {preview(text)}; it must be a whole number from {lowest} to {highest}"
        )
    return int(text)


def query_flag(query: Query, name: str, *, default: bool) -> bool:
    """Return a parameter that is `true` or `false`."""
    text = query_choice(query, name, ("true", "false"))
    return default if text is None else text == "true"


def query_choice(query: Query, name: str, choices: Sequence[str]) -> str | None:
    """Return one of the choices; None when the parameter is absent."""
    if name not in query:
        return None
    text = query[name][0]
    if text not in choices:
        raise ApiError(400, f"{name} is {preview(text)}; it must be {' or '.join(choices)}")
    return text


def is_id(text: str) -> bool:
    """Whether this is a UUID, in upper or lower case."""
    return CANONICAL_UUID.fullmatch(text.lower()) is not None


def query_ids(query: Query, name: str) -> Sequence[str]:
    """Return every id given as `?name=`, in canonical form."""
    return [checked_id(name, text) for text in query.get(name, ())]


def query_id(query: Query, name: str) -> str | None:
    """Return the one id given as `?name=`."""
    ids = query_ids(query, name)
    return ids[0] if ids else None


def query_name(query: Query, name: str) -> str | None:
    """Return the name given as `?name=`, by the rules for agents' names."""
    if name not in query:
        return None
    try:
        return valid_name(name, query[name][0])
    except TextError as error:
        raise ApiError(400, str(error)) from None


def query_time_ms(query: Query, name: str) -> int | None:
    """Return the time given as `?name=`, as milliseconds since the Unix epoch."""
    if name not in query:
        return None
    return checked_time_ms(name, query[name][0], hint=", with a + written as %2B")


def checked_time_ms(name: str, text: str, *, hint: str = "") -> int:
    """Return an RFC 3339 time as milliseconds since the Unix epoch."""
    try:
        return parse_ms(text)
    except ValueError:
        rule = f"it must be an RFC 3339 time such as 2026-01-02T03:04:05Z{hint}"
        raise ApiError(400, f"{name} is {preview(text)}; {rule}") from None


def checked_id(name: str, text: str) -> str:
    """Return a UUID in its canonical lower-case form."""
    if not is_id(text):
        raise ApiError(400, f"{name} is {preview(text)}; it must be a UUID")
    return text.lower()
