"""What a client sent, read and checked: JSON bodies, query parameters, ids.

Each fault is an `ApiError` that names the value and the rule.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

import msgspec
from quart import request

from trioder.api.errors import ApiError, shown
from trioder.process.rfc3339 import parse_ms
from trioder.wire.checks import WireError, checked_name

T = TypeVar("T", bound=msgspec.Struct)

Query = Mapping[str, list[str]]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


async def read_json_body(decoder: msgspec.json.Decoder[T]) -> T:
    """The request's JSON object, of the decoder's type: 415, 413 or 400 when it is not one.

    Raises:
        ApiError: with the path of the field and what was expected there.
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in {"utf-8", "utf8"}:
        sent = request.headers.get("Content-Type", "")
        raise ApiError(415, f"content-type is {shown(sent)}; it must be 'application/json' in UTF-8")
    body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    if not body.strip():
        raise ApiError(400, "the body is empty; it must be a JSON object")
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"the body does not fit: {_one_line(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {_one_line(error)}") from None
    _refuse_repeated_keys(body)
    return value


def _refuse_repeated_keys(body: bytes) -> None:
    # Decoders disagree on which of two values counts; a command must not depend on it. The body has
    # been decoded by now, so it is an object without nesting and this cannot fail.
    names = [name for name, _ in json.loads(body, object_pairs_hook=list)]
    for name in names:
        if names.count(name) > 1:
            raise ApiError(400, f"the body has the field {shown(name)} more than once")


def _one_line(error: Exception) -> str:
    text = str(error).encode("unicode_escape").decode("ascii")
    return text if len(text) <= 200 else text[:197] + "..."


def checked_query(model: type[msgspec.Struct]) -> Query:
    """The query's parameters by name: none that `model` does not know, only lists more than once."""
    takes_many = _parameters_of(model)
    given = {name: request.args.getlist(name) for name in request.args}
    for name, values in given.items():
        if name not in takes_many:
            takes = f"it takes {', '.join(takes_many)}" if takes_many else "it takes none"
            raise ApiError(400, f"there is no query parameter {shown(name)} here; {takes}")
        if len(values) > 1 and not takes_many[name]:
            raise ApiError(400, f"{name} is given {len(values)} times; it must be given once")
    return given


@cache
def _parameters_of(model: type[msgspec.Struct]) -> Mapping[str, bool]:
    """By name, whether a parameter may be given more than once."""
    return {field.name: field.default_factory is list for field in msgspec.structs.fields(model)}


def query_limit(query: Query, *, highest: int, default: int) -> int:
    """`?limit=`, 1..highest."""
    return query_number(query, "limit", lowest=1, highest=highest, default=default)


def query_number(query: Query, name: str, *, lowest: int, highest: int, default: int) -> int:
    """A whole number, lowest..highest."""
    if name not in query:
        return default
    text = query[name][0]
    if not _WHOLE_NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
        raise ApiError(400, f"{name} is {shown(text)}; it must be a whole number from {lowest} to {highest}")
    return int(text)


def query_flag(query: Query, name: str, *, default: bool) -> bool:
    """`true` or `false`."""
    text = query_choice(query, name, ("true", "false"))
    return default if text is None else text == "true"


def query_choice(query: Query, name: str, choices: Sequence[str]) -> str | None:
    """One of some words; None when it is not given."""
    if name not in query:
        return None
    text = query[name][0]
    if text not in choices:
        raise ApiError(400, f"{name} is {shown(text)}; it must be {' or '.join(choices)}")
    return text


def is_id(text: str) -> bool:
    """Whether this is a UUID, in any case."""
    return _UUID.fullmatch(text) is not None


def query_ids(query: Query, name: str) -> Sequence[str]:
    """The ids given as `?name=`, canonical, in the order given; empty when there are none."""
    return [checked_id(name, text) for text in query.get(name, ())]


def query_id(query: Query, name: str) -> str | None:
    """The one id given as `?name=`."""
    ids = query_ids(query, name)
    return ids[0] if ids else None


def query_name(query: Query, name: str) -> str | None:
    """The name given as `?name=`, of the form in which agents give theirs."""
    if name not in query:
        return None
    try:
        return checked_name(name, query[name][0])
    except WireError as error:
        raise ApiError(400, str(error)) from None


def query_time_ms(query: Query, name: str) -> int | None:
    """An RFC 3339 instant as milliseconds since the Unix epoch."""
    if name not in query:
        return None
    text = query[name][0]
    try:
        return parse_ms(text)
    except ValueError:
        rule = "it must be an RFC 3339 time such as 2026-01-02T03:04:05Z, with a + written as %2B"
        raise ApiError(400, f"{name} is {shown(text)}; {rule}") from None


def checked_id(name: str, text: str) -> str:
    """A UUID in its canonical lower-case form."""
    if not is_id(text):
        raise ApiError(400, f"{name} is {shown(text)}; it must be a UUID")
    return text.lower()
