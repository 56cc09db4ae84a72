"""TLS over any Trio stream.

Unlike `trio.SSLStream` it sends the alert of a failed handshake, so that the peer learns the reason; it can
be half-closed while another task reads, as an HTTP/1.1 connection needs; and the steps of a handshake can be
paced.
"""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

# Larger data is encrypted in pieces: what the transport has not taken yet is held twice.
_PIECE_BYTES = 64 * 1024
_RECEIVE_BYTES = 64 * 1024
# How long a peer may take to read an alert: closing with unread data resets the connection, and the alert is
# lost.
_ALERT_WITHIN_S = 1.0
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class StepPacer:
    """Lets one handshake step proceed in each pass of the event loop, in order.

    A step blocks the loop for 0.2 to 0.6 ms with keys on P-256, for about 1 ms with RSA of 2,048 bits.
    """

    def __init__(self) -> None:
        self._turn = trio.Lock()

    async def wait(self) -> None:
        """Wait for the next pass without a step."""
        async with self._turn:
            pass


class TlsStream(trio.abc.HalfCloseableStream):
    """TLS over a transport. One task may send while another receives.

    A transport that ends without a closure alert ends the stream in order, as for `https`: HTTP/1.1 and
    HTTP/2 have lengths of their own.

    Args:
        transport: closed with this stream.
        context: of `access.tls`.
        server_hostname: of a client: the name or address that the server's certificate must have; None for a
            server.
        pace: awaited before each step of the handshake that costs CPU time.

    Attributes:
        transport_stream: the transport.
        received_nothing: the peer has sent no byte yet.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        pace: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.transport_stream = transport
        self.received_nothing = True
        self._server_side = server_hostname is None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=self._server_side, server_hostname=server_hostname
        )
        self._pace = pace
        self._sending = trio.Lock()
        self._established = False
        self._closed = False
        self._failure: ssl.SSLError | None = None

    @property
    def alpn_protocol(self) -> str | None:
        """The application protocol that was negotiated."""
        return self._tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate, DER; None when it presented none."""
        return self._tls.getpeercert(binary_form=True)

    async def do_handshake(self) -> None:
        """Do the handshake, before anything is sent or received; nothing if it is done.

        Raises:
            trio.BrokenResourceError: it failed; `access.tls.explain` says why.
        """
        if self._established:
            await trio.lowlevel.checkpoint()
            return
        if self._server_side:
            await self._fill()
        while True:
            await self._pace()
            try:
                self._tls.do_handshake()
                self._established = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self._failure = error
            if self._failure is not None:
                with trio.move_on_after(_ALERT_WITHIN_S):
                    await self._send_alert()
                raise trio.BrokenResourceError(str(self._failure)) from self._failure
            await self._flush()
            if self._established:
                return
            await self._fill()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes; none at the end of the stream.

        Raises:
            trio.BrokenResourceError: the connection or the TLS session is broken.
        """
        most = max_bytes or _RECEIVE_BYTES
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while (data := self._decrypt(most)) is None:
            if self._outgoing.pending:
                await self._flush()
            await self._fill()
            waited = True
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    def _decrypt(self, most: int) -> bytes | None:
        """Return up to so many bytes of the records that have arrived, none at the end; None if none has."""
        pieces: list[bytes] = []
        while most > 0:
            if self._failure is not None:
                break
            try:
                piece = self._tls.read(most)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b"".join(pieces)
            except ssl.SSLError as error:
                self._failure = error
                break
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            most -= len(piece)
        if pieces:
            return b"".join(pieces)
        if self._failure is not None:
            raise trio.BrokenResourceError(str(self._failure)) from self._failure
        return None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of the data.

        Raises:
            trio.BrokenResourceError: the connection or the TLS session is broken.
        """
        self._check_open()
        await self._acquire()
        try:
            with memoryview(data) as view:
                for start in range(0, len(view), _PIECE_BYTES):
                    self._encrypt(view[start : start + _PIECE_BYTES])
                    await self.transport_stream.send_all(self._outgoing.read())
        finally:
            self._sending.release()

    def _encrypt(self, piece: memoryview) -> None:
        try:
            self._tls.write(piece)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may take data."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send the closure alert, and end the transport's sending side; receiving goes on.

        Raises:
            trio.BusyResourceError: another task is sending.
            trio.BrokenResourceError: the connection is broken.
        """
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            raise trio.BusyResourceError("another task is sending") from None
        try:
            await self._send_closure()
            if isinstance(self.transport_stream, trio.abc.HalfCloseableStream):
                await self.transport_stream.send_eof()
        finally:
            self._sending.release()

    async def aclose(self) -> None:
        """Send the closure alert if the transport takes it at once, and close both."""
        try:
            if self._established and not self._sending.locked():
                with trio.move_on_after(_ALERT_WITHIN_S), suppress(*_GONE):
                    async with self._sending:
                        await self._send_closure()
        finally:
            self._closed = True
            await self.transport_stream.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError

    async def _send_closure(self) -> None:
        if self._failure is None and self._established:
            # It would wait for the peer's; the want of that, and failures of the session, change nothing.
            with suppress(ssl.SSLError):
                self._tls.unwrap()
        await self.transport_stream.send_all(self._outgoing.read())

    async def _send_alert(self) -> None:
        with suppress(*_GONE):
            await self._flush()
            if isinstance(self.transport_stream, trio.abc.HalfCloseableStream):
                await self.transport_stream.send_eof()
                while await self.transport_stream.receive_some(_RECEIVE_BYTES):
                    pass

    async def _fill(self) -> None:
        data = await self.transport_stream.receive_some(_RECEIVE_BYTES)
        if data:
            self.received_nothing = False
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._acquire()
            try:
                await self.transport_stream.send_all(self._outgoing.read())
            finally:
                self._sending.release()

    async def _acquire(self) -> None:
        # Without a checkpoint where it is free: the transport has one.
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
