"""Requests to the headend's REST API, by a pool of connections.

Beneath httpx2's client, whose cookies, redirects and headers of its own have no place in what is passed on.
"""

import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx2
import structlog
import trio

from trioder.access.tls import explain
from trioder.api.http.hosts import parse_host
from trioder.api.http.request_log import CutOffError
from trioder.api.http.serving import MAX_CONNECTIONS
from trioder.console.exchange import ExchangeError
from trioder.process.addresses import Endpoint
from trioder.process.nurseries import leaf_exceptions

log = structlog.stdlib.get_logger(__name__)

# The feed sends a heartbeat every 2 s, and the headend limits what may take longer.
_TIMEOUTS_S: Final = {"connect": 3.0, "read": 60.0, "write": 30.0, "pool": 5.0}
# A dispatch waits for at most 30 s.
_HEAD_WITHIN_S: Final = 60.0
# The headend closes connections that are idle for 30 s: they must not be used at that moment.
_IDLE_S: Final = 10.0
_IDLE_CONNECTIONS: Final = 20
# Of a TLS connection that is closed amid a response.
_CLOSE_WITHIN_S: Final = 0.5
_RETRIED_METHODS: Final = frozenset({"GET", "HEAD"})

Headers = Sequence[tuple[bytes, bytes]]


class HeadendTlsError(Exception):
    """The CA of the headend's certificate cannot be used; the text names the file and the reason."""


class RequestBody(httpx2.AsyncByteStream):
    """A body that is passed on as it arrives."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise NotImplementedError


class HeadendResponse:
    """A response of which the body is still to be received.

    Attributes:
        status: of HTTP.
        headers: names in small letters.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._parts = response.aiter_raw()
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]

    async def receive_part(self) -> bytes | None:
        """Return the next part of the body, in its content coding, as it arrives; None at its end.

        Raises:
            CutOffError: the headend has broken off.
        """
        try:
            return await anext(self._parts, None)
        except httpx2.TransportError as error:
            raise CutOffError(str(error)) from None

    async def read(self, *, max_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            CutOffError: the headend has broken off, or its body is longer than `max_bytes`.
        """
        body = bytearray()
        while (part := await self.receive_part()) is not None:
            body += part
            if len(body) > max_bytes:
                raise CutOffError(f"the body is longer than {max_bytes:,} bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """Close the connection, unless all was received; takes at most 0.5 s, also when cancelled."""
        with trio.move_on_after(_CLOSE_WITHIN_S, shield=True), suppress(httpx2.TransportError):
            await self._response.aclose()
            # Generators that were left amid the body end by the error that they meet now.
            while await anext(self._parts, None) is not None:
                pass


class HeadendClient:
    """The headend, as the console sees it; see `open_headend_client`.

    Attributes:
        url: of the headend, for people's own requests.
        open_requests: of which the response has not ended.
    """

    def __init__(self, transport: httpx2.AsyncHTTPTransport, endpoint: Endpoint, *, host: str) -> None:
        self._transport = transport
        self._url = httpx2.URL(
            scheme="https" if endpoint.tls else "http", host=endpoint.host, port=endpoint.port
        )
        self._host = (host or endpoint.authority).encode()
        self._extensions: dict[str, object] = {"timeout": _TIMEOUTS_S}
        if host:
            self._extensions["sni_hostname"] = parse_host(host)[0]
        self.url = f"{'https' if endpoint.tls else 'http'}://{endpoint.authority}"
        self._is_away = False
        self.open_requests = 0

    @asynccontextmanager
    async def request(
        self, method: str, target: bytes, headers: Headers, body: RequestBody | None = None
    ) -> AsyncIterator[HeadendResponse]:
        """Send a request, and give the head of its response; the rest of it is dropped at the end.

        Args:
            method: in capitals.
            target: the path and query, percent-encoded.
            headers: without Host.
            body: None for none.

        Raises:
            ExchangeError: 502: the headend cannot be reached; or what `body` raises.
        """
        self.open_requests += 1
        try:
            response = HeadendResponse(await self._begin(method, target, headers, body))
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self.open_requests -= 1

    async def _begin(
        self, method: str, target: bytes, headers: Headers, body: RequestBody | None
    ) -> httpx2.Response:
        request = httpx2.Request(
            method,
            self._url,
            headers=[(b"host", self._host), *headers],
            stream=body or httpx2.ByteStream(b""),
            # The target as it came: httpx2 would normalise it.
            extensions={"target": target, **self._extensions},
        )
        try:
            # A head that comes in small parts is within the time limit of each read.
            with trio.fail_after(_HEAD_WITHIN_S):
                try:
                    response = await self._transport.handle_async_request(request)
                except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                    # The headend has closed an idle connection just now.
                    if method not in _RETRIED_METHODS or body is not None:
                        raise
                    response = await self._transport.handle_async_request(request)
        except trio.TooSlowError:
            raise self._away(httpx2.ReadTimeout(f"no response within {_HEAD_WITHIN_S:g} s")) from None
        except httpx2.TransportError as error:
            raise self._away(error) from None
        if self._is_away:
            self._is_away = False
            log.info("the headend responds again", headend=self.url)
        return response

    def _away(self, error: httpx2.TransportError) -> ExchangeError:
        reason = _reason_of(error)
        if not self._is_away:
            self._is_away = True
            log.warning("the headend does not respond", headend=self.url, reason=reason)
        return ExchangeError(502, f"the headend at {self.url} does not respond: {reason}", code="unavailable")


def _reason_of(error: httpx2.TransportError) -> str:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        # Of each address of a host, one.
        causes += leaf_exceptions(cause) if isinstance(cause, BaseExceptionGroup) else [cause]
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLError):
            return explain(cause)
        if isinstance(cause, OSError) and cause.errno:
            # Those of name resolution are negative, and have a text of their own.
            return os.strerror(cause.errno) if cause.errno > 0 else cause.strerror or str(cause)
    return next((str(cause) for cause in causes if str(cause)), type(error).__name__)


@asynccontextmanager
async def open_headend_client(
    endpoint: Endpoint, *, host: str = "", context: ssl.SSLContext | None = None
) -> AsyncIterator[HeadendClient]:
    """Open a client of the headend; its connections are made when they are needed.

    Args:
        endpoint: where the headend's REST is.
        host: its name in its certificate and in the Host header; by default that of the endpoint.
        context: of TLS; see `client_context`.
    """
    limits = httpx2.Limits(
        # One for each connection of a browser: a feed must not have to wait for another to end.
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=_IDLE_CONNECTIONS,
        keepalive_expiry=_IDLE_S,
    )
    transport = httpx2.AsyncHTTPTransport(
        verify=context or ssl.create_default_context(), trust_env=False, limits=limits
    )
    try:
        yield HeadendClient(transport, endpoint, host=host)
    finally:
        with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
            await transport.aclose()


def client_context(ca: Path | None) -> ssl.SSLContext:
    """Return the TLS of connections to the headend.

    Args:
        ca: PEM: the CAs of its certificate, or that certificate itself; None for those of the system.

    Raises:
        HeadendTlsError: see there.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise HeadendTlsError(f"HEADEND_HTTP_CA {ca} cannot be loaded: {reason}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
