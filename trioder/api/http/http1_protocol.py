"""Hypercorn's HTTP/1.1 protocol, strict: known hosts only, no upgrades, every error in JSON."""

import re

import h11
import structlog
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol

from trioder.api.errors import error_json
from trioder.api.http.hosts import AllowedHosts
from trioder.api.http.strict_h11 import StrictConnection
from trioder.domain.text import escape
from trioder.events.counters import Counters

log = structlog.stdlib.get_logger(__name__)

# From a request's first byte to the end of its head, against clients that send one byte at a time.
HEAD_TIMEOUT_S = 10.0
_MAX_FAULT_LENGTH = 160
_HEAD_STATES = frozenset({h11.IDLE, h11.SEND_RESPONSE})
_BODY_STATES = frozenset({h11.SEND_BODY})
_Sendable = h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Http1Protocol(H11Protocol):
    """HTTP/1.1 without upgrades."""

    hosts: AllowedHosts
    counters: Counters
    # What the option for the hosts is called in errors.
    hosts_variable: str
    connection: StrictConnection
    # Further data from the client is not parsed.
    refused = False
    # The head of a response with a known length, to be sent in one piece with the body.
    _head = b""

    @property
    def peer(self) -> str:
        """The address of the client, for the log."""
        return "" if self.client is None else f"{self.client[0]}:{self.client[1]}"

    @property
    def has_read_all(self) -> bool:
        """Whether the request was received completely."""
        return not self.refused and self.connection.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.stream is None

    @property
    def is_between_requests(self) -> bool:
        """Whether the next byte begins a request, and all responses are sent."""
        return (
            self.stream is None
            and not self.refused
            and self.connection.our_state is h11.IDLE
            and self.connection.their_state is h11.IDLE
            and not self.connection.head_is_incomplete
        )

    async def handle(self, event: Event) -> None:
        """See `H11Protocol`."""
        try:
            await super().handle(event)
        except h11.RemoteProtocolError as error:
            self.connection.fault = str(error)
            await self.refuse(error.error_status_hint)

    async def refuse(self, status_code: int) -> None:
        """Respond with an error to a request that reaches no route, and close the connection."""
        await self._send_error_response(status_code)
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """See `H11Protocol`."""
        if isinstance(event, Response) and self.connection.their_state is h11.SEND_BODY:
            # The response precedes the end of the body, the rest of which would be parsed as a request.
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        # Called with every request; hypercorn's version upgrades to HTTP/2. An Upgrade header may be
        # ignored (RFC 9110, 7.8).
        if event.http_version not in {b"1.0", b"1.1"}:
            raise h11.RemoteProtocolError("not HTTP/1", error_status_hint=505)
        for name, value in event.headers:
            if name == b"host":
                self._check_host(value)

    def _check_host(self, authority: bytes) -> None:
        host = authority.decode("latin-1")
        if not self.hosts.allows(host, local_address=None if self.server is None else self.server[0]):
            raise h11.RemoteProtocolError(f"'{host}'", error_status_hint=421)

    def _path_of(self, target: bytes) -> bytes:
        """Return the target in origin form; clients of a proxy send the absolute form (RFC 9112, 3.2.2)."""
        if target.startswith(b"/") or target == b"*":
            return target
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise h11.RemoteProtocolError("the target is neither a path nor an http:// or https:// URL")
        self._check_host(match[1])
        return match[2] if match[2].startswith(b"/") else b"/" + match[2]

    async def _create_stream(self, request: h11.Request) -> None:
        if self.connection.they_are_waiting_for_100_continue:
            # Hypercorn would send it while the application runs, perhaps after the response.
            await self._send_continue()
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=self._path_of(request.target),
                headers=headers,
                http_version=request.http_version,
            )
        )

    async def _send_continue(self) -> None:
        headers = self.config.response_headers("h11")
        await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=headers))

    async def _send_h11_event(self, event: _Sendable) -> None:
        is_head = isinstance(event, h11.Response | h11.InformationalResponse)
        if self.connection.our_state not in (_HEAD_STATES if is_head else _BODY_STATES):
            # The client has disconnected or was refused: the application's response is discarded.
            return
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            # After a protocol error of the client, h11 may not allow a response.
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        has_length = isinstance(event, h11.Response) and any(
            name == b"content-length" for name, _ in event.headers
        )
        self._head = data if has_length else b""
        if data and not has_length:
            await self.send(RawData(data=data))

    async def _send_error_response(self, status_code: int) -> None:
        if status_code == 501:
            # From h11, for codings other than chunked: the body's length is unknown (RFC 9112, 6.3).
            status_code = 400
        self.refused = True
        self.counters.rest_requests_refused += 1
        fault = escape(self.connection.fault, length=_MAX_FAULT_LENGTH)
        message = {
            408: f"the request line and headers did not arrive within {HEAD_TIMEOUT_S:g} s",
            421: f"this port does not answer for the host of the request: {fault}; "
            f"{self.hosts_variable} names those that it answers for",
            431: f"the request line and headers are larger than {self.config.h11_max_incomplete_size} bytes",
            505: "this port speaks HTTP/1.1",
        }.get(status_code, f"the request is not well-formed HTTP/1.1: {fault}")
        body = error_json(status_code, message)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        log.info("request refused", status=status_code, message=message, peer=self.peer)
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())
