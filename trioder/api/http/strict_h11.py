"""h11 with strict parsing, against request smuggling.

h11 accepts bare line feeds, folded header lines, and a body with two lengths; a proxy in front that reads
them differently sees one request where h11 sees two. This subclasses h11's private receive buffer, so h11's
version is bounded.
"""

import re

import h11
from h11._receivebuffer import ReceiveBuffer

from trioder.access.tls_errors import TLS_ON_PLAIN_CONNECTION, is_tls

_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLDED = re.compile(rb"\r\n[ \t]")
# h11 quotes a malformed header, which may be a secret: the fault is logged and sent back.
_QUOTED_HEADER = re.compile(r"(header (?:line|name|value)\b).*", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(rb"host[ \t]*:", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """The server side of a connection.

    Attributes:
        fault: the last protocol error of the client, as h11 describes it, but without values of headers;
            empty when there was none.
    """

    def __init__(self, *, max_head_bytes: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=max_head_bytes)
        self.fault = ""
        self._receive_buffer = _StrictBuffer(self)

    @property
    def head_is_incomplete(self) -> bool:
        """Whether a request's head has been received in part."""
        return self.their_state is h11.IDLE and bool(self._receive_buffer)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event as h11 does; `h11.RemoteProtocolError` carries the response's status."""
        if self.their_state is h11.MUST_CLOSE:
            # What follows the last request is ignored (RFC 9112, 9.6); h11 would refuse it, and its response.
            self._receive_buffer.maybe_extract_at_most(len(self._receive_buffer))
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                _check_framing(event)
                # 100 (Continue) is for content that is still to be sent (RFC 9110, 10.1.1).
                self.client_is_waiting_for_100_continue &= _has_content(event)
        except h11.RemoteProtocolError as error:
            self.fault = _QUOTED_HEADER.sub(r"\1", str(error))
            raise
        return event


class _StrictBuffer(ReceiveBuffer):
    def __init__(self, connection: StrictConnection) -> None:
        super().__init__()
        self._connection = connection
        self._searched = 0

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines of a head, or of a chunked body's trailer, when they are complete."""
        if is_tls(self._data):
            raise h11.LocalProtocolError(TLS_ON_PLAIN_CONNECTION)
        if self._data[:2] == b"\r\n":
            self._searched = 0
            return super().maybe_extract_lines()
        end = self._data.find(b"\r\n\r\n", max(0, self._searched - 3))
        if _BARE_LF.search(self._data, max(0, self._searched - 1), end if end >= 0 else len(self._data)):
            raise h11.LocalProtocolError("a line ends in LF alone; it must end in CRLF")
        if end < 0:
            self._searched = len(self._data)
            return None
        self._searched = 0
        if _FOLDED.search(self._data, 0, end):
            raise h11.LocalProtocolError("a header line is folded")
        lines = super().maybe_extract_lines()
        if lines is not None and self._connection.their_state is h11.IDLE:
            _check_hosts(lines)
        return lines


def _check_hosts(lines: list[bytearray]) -> None:
    # 421 instead of h11's 400: the status of every request that does not name a known host.
    hosts = sum(1 for line in lines[1:] if _HOST.match(line))
    if hosts > 1:
        raise h11.LocalProtocolError(f"{hosts} Host headers; there must be one", error_status_hint=421)
    if not hosts and lines[0].endswith(b" HTTP/1.1"):
        raise h11.LocalProtocolError("no Host header", error_status_hint=421)


def _check_framing(request: h11.Request) -> None:
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        raise h11.RemoteProtocolError("both content-length and transfer-encoding; there must be one of them")
    if request.http_version < b"1.1":
        raise h11.RemoteProtocolError("transfer-encoding in HTTP/1.0, which does not know it")


def _has_content(request: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
        for name, value in request.headers
    )
