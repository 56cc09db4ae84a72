import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.rpc import StatusCode
from trioder.rpc.headers import (
    MalformedHeadersError,
    encode_timeout,
    read_request,
    read_response,
    read_trailers,
)

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a/B"), ("content-type", "application/grpc")]


@given(st.floats(min_value=0, allow_nan=False))
def test_a_timeout_is_read_as_it_was_written(timeout_s: float) -> None:
    text = encode_timeout(timeout_s)
    read_s = read_request([*REQUEST, ("grpc-timeout", text)]).timeout_s

    assert read_s == pytest.approx(min(timeout_s, 99_999_999), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("http_status", "status"),
    [
        ("400", "INTERNAL"),
        ("401", "UNAUTHENTICATED"),
        ("404", "UNIMPLEMENTED"),
        ("503", "UNAVAILABLE"),
        ("418", "UNKNOWN"),
    ],
)
def test_an_http_status_stands_for_a_status(http_status: str, status: str) -> None:
    error = read_response([(":status", http_status), ("content-type", "text/html")])

    assert error is not None
    assert error.status is StatusCode[status]


def test_a_response_that_is_not_grpc_is_unknown() -> None:
    error = read_response([(":status", "200"), ("content-type", "text/html")])

    assert error is not None
    assert error.status is StatusCode.UNKNOWN


@pytest.mark.parametrize(
    "fields", [[], [("content-type", "application/grpc")], [(":status", "200"), ("A", "b")]]
)
def test_a_malformed_response_is_found(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(MalformedHeadersError):
        read_response(fields)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5", "NOT_FOUND"),
        ("99", "UNKNOWN"),
        ("", "UNKNOWN"),
        ("-1", "UNKNOWN"),
        ("\uff19", "UNKNOWN"),
        ("9" * 5000, "UNKNOWN"),
    ],
)
def test_any_status_in_the_trailers_is_understood(text: str, status: str) -> None:
    error = read_trailers([("grpc-status", text), ("grpc-message", "%E7%94%B5%zz%ff")])

    assert error is not None
    assert error.status is StatusCode[status]


def test_trailers_of_an_ok_are_no_error() -> None:
    assert read_trailers([("grpc-status", "0")]) is None
