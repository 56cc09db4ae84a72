"""Error responses: one JSON body for every way in which a request can fail.

Routes raise `ApiError`, also for what the domain refuses.
"""

from http import HTTPStatus
from typing import Literal

import msgspec
import structlog
from quart import Quart, request
from quart_trio.wrappers import TrioResponse
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from trioder.domain.text import preview

log = structlog.stdlib.get_logger(__name__)

ErrorCode = Literal[
    "bad_request",
    "out_of_bounds",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "conflict",
    "payload_too_large",
    "unsupported_media_type",
    "misdirected_request",
    "too_many_requests",
    "internal_error",
    "unavailable",
]

_CODE_OF_STATUS: dict[int, ErrorCode] = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    421: "misdirected_request",
    429: "too_many_requests",
    503: "unavailable",
}


class ErrorBody(msgspec.Struct, kw_only=True):
    """An error: a stable code, and one sentence for people that names the value and the rule."""

    error: ErrorCode
    message: str


class ApiError(Exception):
    """A request fails with this HTTP status, code and message.

    Args:
        status: of the response.
        message: one sentence for people.
        code: None for that of the status.
        retry_after_s: when the same request may succeed; None when that is not known.
        challenge: the value of WWW-Authenticate; None for no such header.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: ErrorCode | None = None,
        retry_after_s: int | None = None,
        challenge: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code: ErrorCode = code or code_of_status(status)
        self.message = message
        self.headers: dict[str, str] = {}
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)
        if challenge is not None:
            self.headers["WWW-Authenticate"] = challenge


def code_of_status(status: int) -> ErrorCode:
    """Return the default error code of an HTTP status."""
    return _CODE_OF_STATUS.get(status, "bad_request" if status < 500 else "internal_error")


def error_json(status: int, message: str, *, code: ErrorCode | None = None) -> bytes:
    """Return the body of an error response."""
    return msgspec.json.encode(ErrorBody(error=code or code_of_status(status), message=message))


def register_error_handlers(app: Quart, *, max_body_bytes: int, body_timeout_s: float) -> None:
    """Respond to every failure with an `ErrorBody`; unexpected exceptions are logged with a traceback."""

    @app.errorhandler(ApiError)
    async def on_api_error(error: ApiError) -> TrioResponse:
        response = _error_response(error.status, error.message, code=error.code)
        response.headers.extend(error.headers)
        return response

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> TrioResponse:
        status = error.code or 500
        match status:
            case 404:
                message = f"there is nothing at {preview(request.path)}; / lists what there is"
            case 405:
                message = f"{preview(request.method)} is not allowed at {preview(request.path)}"
            case 408:
                message = f"the body did not arrive within {body_timeout_s:g} s"
            case 413:
                message = f"the body is larger than {max_body_bytes} bytes"
            case _:
                message = HTTPStatus(status).description or HTTPStatus(status).phrase
        response = _error_response(status, message)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    async def on_crash(error: Exception) -> TrioResponse:
        log.error("request crashed", method=request.method, path=request.path, exc_info=error)
        return _error_response(500, "the headend failed to answer this request; its log says why")


def _error_response(status: int, message: str, *, code: ErrorCode | None = None) -> TrioResponse:
    return TrioResponse(error_json(status, message, code=code), status, content_type="application/json")
