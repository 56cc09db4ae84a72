"""`/session`: who is logged in. The token is in a cookie that scripts cannot read.

The headend alone knows which tokens are valid: it is asked at the login, and with every request after it.
"""

import math
import re
from typing import Any, Final, cast

import msgspec
import trio

from trioder.access.limits import Rate, RateLimit
from trioder.api.errors import ErrorCode
from trioder.api.http.hosts import parse_host
from trioder.api.http.request_log import REQUEST_ID
from trioder.console.exchange import Exchange, ExchangeError
from trioder.console.headend import HeadendClient
from trioder.domain.text import preview
from trioder.process.addresses import network_of

_COOKIE: Final = "trioder-session"
# Browsers accept names with it for this host alone, and over TLS alone.
_SECURE_PREFIX: Final = "__Host-"
# RFC 6750, 2.1. Browsers keep cookies of at most 4,096 characters, the name and attributes included.
_MAX_TOKEN_LENGTH: Final = 3_900
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_MAX_BODY_BYTES: Final = 16_384
_BODY_WITHIN_S: Final = 10.0
_MAX_ANSWER_BYTES: Final = 1_000_000
# Of wrong tokens from one address, as the headend's, to which all logins come from the console's address.
_WRONG_TOKENS: Final = Rate(per_s=0.1, burst=10)
_METHODS: Final = ("DELETE", "GET", "POST")


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    token: str


class _Caller(msgspec.Struct):
    """What every version's `/whoami` has."""

    name: str
    kind: str
    role: str
    tenant: str


class _Refusal(msgspec.Struct):
    error: str
    message: str


class Sessions:
    """Logs in and out.

    Args:
        headend: is asked whose a token is.
    """

    def __init__(self, headend: HeadendClient) -> None:
        self._headend = headend
        self._wrong_tokens = RateLimit(_WRONG_TOKENS)

    async def serve(self, exchange: Exchange) -> None:
        """Respond to a request for `/session`.

        Raises:
            ExchangeError: 400, 401, 405, 408, 413, 415, 429; 502: the headend does not respond.
        """
        match exchange.method:
            case "GET":
                await self._show(exchange)
            case "POST":
                await self._log_in(exchange)
            case "DELETE":
                await exchange.respond(204, self.clearing_headers(exchange))
            case method:
                raise ExchangeError(
                    405,
                    f"{preview(method)} is not allowed at /session",
                    headers=[(b"allow", ", ".join(_METHODS).encode())],
                )

    def token_of(self, exchange: Exchange) -> bytes | None:
        """Return the token in a request's cookie; None without one that can be a token."""
        tokens: dict[bytes, bytes] = {}
        for header in exchange.values(b"cookie"):
            for pair in header.split(b";"):
                found, _, value = pair.strip().partition(b"=")
                # Browsers send the cookie of the shortest path last: this console's. Another port of its host
                # can set one for a longer path.
                if _is_token(value):
                    tokens[found] = value
        names = (name.encode() for name in _cookie_names(exchange))
        return next((tokens[name] for name in names if name in tokens), None)

    def clearing_headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        """Return the headers that remove the cookie."""
        return [(b"set-cookie", _cookie(name, b"", max_age_s=0)) for name in _cookie_names(exchange)]

    async def _show(self, exchange: Exchange) -> None:
        token = self.token_of(exchange)
        try:
            caller = await self._whoami(exchange, token)
        except ExchangeError as error:
            if error.status == 401 and token is not None:
                error.headers += self.clearing_headers(exchange)
            raise
        await exchange.respond_json(caller)

    async def _log_in(self, exchange: Exchange) -> None:
        token = await _read_token(exchange)
        key, now_s = network_of(exchange.client), trio.current_time()
        wait_s = self._wrong_tokens.wait_s(key, now_s)
        if wait_s:
            raise ExchangeError(
                429,
                "too many wrong tokens from this address",
                headers=[(b"retry-after", b"%d" % math.ceil(wait_s))],
            )
        try:
            caller = await self._whoami(exchange, token)
        except ExchangeError as error:
            if error.status == 401:
                self._wrong_tokens.take(key, now_s)
            raise
        # A headend without tokens accepts any: such a one is not worth keeping.
        headers = [] if caller["open"] else [(b"set-cookie", _cookie(_new_cookie_name(exchange), token))]
        await exchange.respond_json(caller, headers=headers)

    async def _whoami(self, exchange: Exchange, token: bytes | None) -> dict[str, Any]:
        headers = [(b"accept", b"application/json"), (b"x-request-id", exchange.scope[REQUEST_ID].encode())]
        if token is not None:
            headers.append((b"authorization", b"Bearer " + token))
        async with self._headend.request("GET", b"/whoami", headers) as response:
            body = await response.read(max_bytes=_MAX_ANSWER_BYTES)
            retry_after = [header for header in response.headers if header[0] == b"retry-after"]
        try:
            if response.status == 200:
                kind = msgspec.json.decode(body, type=_Caller).kind
                caller = msgspec.json.decode(body, type=dict[str, Any])
                return {"open": kind == "open", "headend_url": self._headend.url, **caller}
            refusal = msgspec.json.decode(body, type=_Refusal)
        except (msgspec.DecodeError, UnicodeError):
            refusal = None
        if refusal is None or not 400 <= response.status < 600:
            raise ExchangeError(502, "what responds for the headend is no headend", code="unavailable")
        # A later version may have further codes.
        code = cast("ErrorCode", refusal.error)
        raise ExchangeError(response.status, refusal.message, code=code, headers=retry_after)


async def _read_token(exchange: Exchange) -> bytes:
    content_type = (exchange.value(b"content-type") or b"").partition(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise ExchangeError(
            415, f"the Content-Type is {preview(content_type.decode('latin-1'))}; it must be application/json"
        )
    body = bytearray()
    with trio.move_on_after(_BODY_WITHIN_S) as scope:
        while (part := await exchange.receive_part()) is not None:
            body += part
            if len(body) > _MAX_BODY_BYTES:
                raise ExchangeError(413, f"the body is larger than {_MAX_BODY_BYTES} bytes")
    if scope.cancelled_caught:
        raise ExchangeError(408, f"the body did not arrive within {_BODY_WITHIN_S:g} s")
    try:
        token = msgspec.json.decode(body, type=_Login).token.strip().encode()
    except (msgspec.DecodeError, UnicodeError):
        # The error of the decoder could quote a secret.
        raise ExchangeError(400, 'the body must be JSON of the form {"token": "..."}') from None
    if not _is_token(token):
        raise ExchangeError(
            400,
            f"the token has {len(token)} bytes; a token has 1 to {_MAX_TOKEN_LENGTH} letters, digits and "
            "- . _ ~ + / =",
        )
    return token


def _is_token(value: bytes) -> bool:
    return len(value) <= _MAX_TOKEN_LENGTH and _TOKEN.fullmatch(value) is not None


def _cookie_names(exchange: Exchange) -> list[str]:
    """Return the names that the cookie can have; consoles on other ports of this host have others.

    Browsers send the cookies of a host to all of its ports. The first that is there counts.
    """
    host = exchange.value(b"host")
    port = None if host is None else parse_host(host.decode("latin-1"))[1]
    name = _COOKIE if port is None else f"{_COOKIE}-{port}"
    secure = f"{_SECURE_PREFIX}{name}"
    return [secure] if exchange.is_secure else [secure, name]


def _new_cookie_name(exchange: Exchange) -> str:
    """Return the name of a new cookie: a secure one also where a proxy in front ends TLS."""
    is_secure = exchange.is_secure or (exchange.value(b"origin") or b"").startswith(b"https://")
    return _cookie_names(exchange)[0 if is_secure else -1]


def _cookie(name: str, token: bytes, *, max_age_s: int | None = None) -> bytes:
    attributes = ["HttpOnly", "SameSite=Strict", "Path=/"]
    if name.startswith(_SECURE_PREFIX):
        attributes.append("Secure")
    if max_age_s is not None:
        attributes.append(f"Max-Age={max_age_s}")
    return b"%s=%s; %s" % (name.encode(), token, "; ".join(attributes).encode())
