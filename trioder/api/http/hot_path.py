"""Answers hot reads of a connection without hypercorn and Quart, one after the other, as they arrived.

Which requests these are is decided in `hot_requests`, what they are answered in `HotReads`; the rest of what
has arrived is returned, for the usual way.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Protocol

import structlog
import trio
from hypercorn.config import Config

from trioder.api.http.hosts import AllowedHosts
from trioder.api.http.hot_requests import HotRequest, HotRequestParser
from trioder.api.representations import LONG_BYTES, Answer

log = structlog.stdlib.get_logger(__name__)

_READ_BYTES = 65536
_END_OF_HEAD = b"\r\n\r\n"
# As Quart's for streams.
_RESPONSE_TIMEOUT_S = 300.0

Client = tuple[str, int] | None


class HotResponse(NamedTuple):
    """A response that can be sent at once.

    Attributes:
        finish: to be called when it is sent, or was given up.
    """

    answer: Answer
    request_id: str
    finish: Callable[[], None]


class HotReads(Protocol):
    """Knows the responses to hot reads."""

    def respond(self, request: HotRequest, client: Client) -> HotResponse | None:
        """Return the response; None if the request is not one of them, or has to go the usual way."""


class HotPath:
    """The hot reads of one connection.

    Args:
        reads: what is answered.
        hosts: whose requests are accepted.
        config: of the headers of every response.
        addresses: the client's address and port, and the local ones.
        is_closing: whether the connection is to be closed after the present response.
        receive: reads from the stream.
        send: writes to the stream. The connection watches `sending_since_s`: a cancel scope for each response
            would cost as much as the response.
        give_up: closes the connection without delay.

    Attributes:
        sending_since_s: on Trio's clock, since when a response, or a piece of one, is being sent; None when
            none is.
        active_s: likewise, when it last began to send.
    """

    def __init__(
        self,
        reads: HotReads,
        *,
        hosts: AllowedHosts,
        config: Config,
        addresses: tuple[Client, Client],
        is_closing: Callable[[], bool],
        receive: Callable[[int], Awaitable[bytes | bytearray]],
        send: Callable[[bytes | memoryview], Awaitable[None]],
        give_up: Callable[[], None],
    ) -> None:
        self.sending_since_s: float | None = None
        self.active_s = -math.inf
        self._reads = reads
        self._hosts = hosts
        self._config = config
        self._client, server = addresses
        self._local_address = None if server is None else server[0]
        self._is_closing = is_closing
        self._receive = receive
        self._send = send
        self._give_up = give_up
        self._parser = HotRequestParser()
        self._allowed_host: bytes | None = None

    async def serve(self, data: bytes, *, at_most: int) -> tuple[bytes, int]:
        """Answer hot reads while nothing else arrives; each response is a checkpoint.

        Errors of the stream are the caller's.

        Args:
            data: what has arrived, with no part of a request before it.
            at_most: so many requests.

        Returns:
            The data after them, empty at the end of the stream or when it is to be closed; and how many they
            were.
        """
        answered = 0
        while True:
            start = 0
            while start < len(data) and answered < at_most and not self._is_closing():
                end = data.find(_END_OF_HEAD, start) + len(_END_OF_HEAD)
                response = None if end < start + len(_END_OF_HEAD) else self._response_to(data[start:end])
                if response is None:
                    break
                self.sending_since_s = trio.current_time()
                try:
                    answer = response.answer
                    head = self._head_of(answer, response.request_id)
                    if answer.is_long:
                        await self._send_long(head, answer)
                    else:
                        await self._send(head + answer.body)
                finally:
                    self.active_s, self.sending_since_s = self.sending_since_s or self.active_s, None
                    response.finish()
                answered += 1
                start = end
            if start < len(data) or not data or self._is_closing():
                return data[start:], answered
            data = bytes(await self._receive(_READ_BYTES))

    def _response_to(self, head: bytes) -> HotResponse | None:
        request = self._parser.parse(head)
        if request is None or not self._allows(request.headers[b"host"]):
            return None
        return self._reads.respond(request, self._client)

    def _allows(self, host: bytes) -> bool:
        # A client sends the same one again and again.
        if host == self._allowed_host:
            return True
        if not self._hosts.allows(host.decode("latin-1"), local_address=self._local_address):
            return False
        self._allowed_host = host
        return True

    async def _send_long(self, head: bytes, answer: Answer) -> None:
        with trio.move_on_after(_RESPONSE_TIMEOUT_S) as timeout:
            for piece in _slices(answer.body) if answer.parts is None else _chunks(answer.parts()):
                await self._send(head + piece if head else piece)
                head, self.sending_since_s = b"", trio.current_time()
        if timeout.cancelled_caught:
            self._give_up()

    def _head_of(self, answer: Answer, request_id: str) -> bytes:
        has_length = answer.parts is None and answer.status != HTTPStatus.NOT_MODIFIED
        before, after = _fixed_lines(answer.status, answer.headers)
        own = b"\r\n".join([b"%b: %b" % header for header in self._config.response_headers("h11")])
        return b"%b%b%b\r\nx-request-id: %b\r\n%b%b\r\n\r\n" % (
            before,
            b"\r\ncontent-length: %d" % len(answer.body) if has_length else b"",
            after,
            request_id.encode(),
            own,
            b"" if answer.parts is None else b"\r\nTransfer-Encoding: chunked",
        )


@lru_cache(maxsize=512)
def _fixed_lines(status: int, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bytes]:
    """Return the first lines of a response, as h11 writes them: without a reason.

    What precedes the length of the body, and what follows it.
    """
    lines = [f"{name}: {value}" for name, value in headers]
    places = 1 if headers[0][0] == "content-type" else 0
    before = "\r\n".join([f"HTTP/1.1 {status} ", *lines[:places]])
    return before.encode("latin-1"), "".join(f"\r\n{line}" for line in lines[places:]).encode("latin-1")


def _slices(body: bytes) -> Iterator[memoryview]:
    # Not copied: many clients may receive the same body.
    whole = memoryview(body)
    for start in range(0, len(body), LONG_BYTES):
        yield whole[start : start + LONG_BYTES]


def _chunks(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"
