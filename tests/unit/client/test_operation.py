"""One request: how it is written, and what its responses mean."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from trioder.client import (
    Conflict,
    Forbidden,
    HeadendError,
    HeadendUnavailable,
    NotFound,
    RequestRefused,
    TooManyRequests,
    Unauthorized,
    UnexpectedResponse,
    commands,
    reads,
)
from trioder.client.operation import Operation, time_text
from trioder.schemas.resources import AssetRow, HealthResponse

DISPATCH = commands.dispatch(mw=5.0, asset_id="a", duration_s=60)


def error_body(message: str, code: str = "bad_request") -> bytes:
    return msgspec.json.encode({"error": code, "message": message})


def failure_of(
    operation: Operation[object], status: int, body: bytes, headers: dict[str, str] | None = None
) -> HeadendError:
    with pytest.raises(HeadendError) as raised:
        operation.result(status, headers or {}, body)
    return raised.value


def test_what_is_not_given_is_not_sent() -> None:
    assert DISPATCH.content is not None
    assert msgspec.json.decode(DISPATCH.content) == {
        "asset_id": "a",
        "mw": 5.0,
        "duration_s": 60,
        "reversion_mw": 0.0,
        "dry_run": False,
    }
    assert DISPATCH.query == (("allocations", "true"),)
    assert reads.schedules(limit=5).query == (("limit", "5"),)


def test_lists_are_repeated_parameters() -> None:
    page = reads.telemetry(asset_ids=["a", "b"]).page(None, 7)
    assert page.query == (("asset_id", "a"), ("asset_id", "b"), ("limit", "7"))


def test_an_id_cannot_change_the_path() -> None:
    assert reads.asset("../stop?x=1#é").path == "/assets/..%2Fstop%3Fx%3D1%23%C3%A9"


def test_the_missing_id_of_a_dry_run_is_refused() -> None:
    with pytest.raises(ValueError, match="dispatch_id is None, as in the response to a dry run"):
        commands.cancel_dispatch(None)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, None),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 678_999, UTC), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000Z"),
    ],
)
def test_times_are_rfc_3339(time: datetime | str | None, text: str | None) -> None:
    assert time_text("start", time) == text


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^start is 2026-01-02T00:00:00; it must have a time zone$"):
        reads.history("a", start=datetime(2026, 1, 2))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRefused),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, RequestRefused),
        (421, RequestRefused),
        (429, TooManyRequests),
    ],
)
def test_a_refusal_has_the_headend_s_message_code_and_status(status: int, kind: type) -> None:
    error = failure_of(DISPATCH, status, error_body("no", "some_code"))
    assert type(error) is kind
    assert isinstance(error, RequestRefused)
    assert (str(error), error.message, error.code, error.status) == ("no", "no", "some_code", status)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("mw is 99.0; asset a takes -8.0 to 10.0 MW", "mw"),
        ("the body does not fit: Expected `float`, got `str` - at `$.mw`", "mw"),
        ("duration_s is 0; it must be 1 to 31622400 s", "duration_s"),
        ("there is no asset a in the fleet", None),
        # A field that was not sent.
        ("strategy is given with asset_id; it is for commands to many assets", "asset_id"),
    ],
)
def test_a_refusal_names_the_field(message: str, field: str | None) -> None:
    error = failure_of(DISPATCH, 400, error_body(message))
    assert isinstance(error, RequestRefused)
    assert error.field == field


@pytest.mark.parametrize("status", [408, 502, 503, 504])
@pytest.mark.parametrize("body", [error_body("the headend is stopping", "unavailable"), b"<html>Bad Gateway"])
def test_a_headend_that_is_away_is_unavailable(status: int, body: bytes) -> None:
    error = failure_of(DISPATCH, status, body, {"retry-after": "5"})
    assert isinstance(error, HeadendUnavailable)
    assert (error.status, error.retry_after_s) == (status, 5.0)


@pytest.mark.parametrize("text", ["", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1e9", "9" * 400])
def test_a_retry_after_that_is_no_number_of_seconds_is_none(text: str) -> None:
    error = failure_of(DISPATCH, 503, b"", {"retry-after": text})
    assert isinstance(error, HeadendUnavailable)
    assert error.retry_after_s is None


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_what_the_api_does_not_document_is_unexpected(status: int) -> None:
    error = failure_of(reads.asset("a"), status, b"<html>another server" + b"x" * 10_000)
    assert isinstance(error, UnexpectedResponse)
    assert error.status == status
    assert str(error).startswith(f"the response to GET /assets/a is {status}: '<html>another server")
    assert len(str(error)) < 300


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": 3}'])
def test_a_body_that_does_not_fit_is_unexpected(body: bytes) -> None:
    assert isinstance(failure_of(reads.asset("a"), 200, body), UnexpectedResponse)


def test_an_internal_error_has_the_headend_s_message() -> None:
    error = failure_of(reads.asset("a"), 500, error_body("the headend failed to answer this request"))
    assert isinstance(error, UnexpectedResponse)
    assert "the headend failed to answer this request" in str(error)


def test_fields_of_a_later_version_are_ignored() -> None:
    row = AssetRow(*["text"] * 5, *[1.0] * 11)  # type: ignore[arg-type]
    body = msgspec.json.encode({**msgspec.structs.asdict(row), "colour": "red"})
    assert reads.asset("a").result(200, {}, body) == row


def test_a_degraded_headend_shows_its_health() -> None:
    degraded = HealthResponse(status="degraded", db="error")
    assert reads.health().result(503, {}, msgspec.json.encode(degraded)) == degraded
    assert isinstance(failure_of(reads.health(), 503, error_body("stopping")), HeadendUnavailable)


@pytest.mark.parametrize("asset_id", ["", ".", ".."])
def test_an_id_that_would_lead_to_another_path_is_no_id(asset_id: str) -> None:
    with pytest.raises(ValueError, match="another path"):
        reads.asset(asset_id)
