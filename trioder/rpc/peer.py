"""The peer of a stream: its address, and its certificate."""

from contextlib import suppress
from dataclasses import dataclass

import trio

from trioder.access.certificate_fields import read_certificate
from trioder.access.tls_stream import TlsStream


class TlsRefusedError(Exception):
    """The TLS session did not negotiate HTTP/2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The peer of a connection.

    Attributes:
        address: "host:port", or "in memory" for a stream that has none.
        certificate: the peer's certificate, DER; None without TLS or when it presented none.
    """

    address: str
    certificate: bytes | None = None

    @property
    def certificate_serial(self) -> str:
        """The serial number of its certificate, in hex as in the access file; empty without one."""
        with suppress(ValueError):
            if self.certificate is not None:
                return read_certificate(self.certificate).serial
        return ""

    @property
    def certificate_expires_s(self) -> float | None:
        """Until when its certificate is valid, Unix time; None without one."""
        with suppress(ValueError):
            if self.certificate is not None:
                return read_certificate(self.certificate).not_after_s
        return None


async def peer_of(stream: trio.abc.Stream) -> Peer:
    """Return the peer, after the handshake of a TLS stream.

    Raises:
        TlsRefusedError: h2 was not negotiated.
        trio.BrokenResourceError: the handshake failed.
    """
    if isinstance(stream, TlsStream):
        await stream.do_handshake()
        if stream.alpn_protocol != "h2":
            raise TlsRefusedError("the peer did not negotiate h2 (ALPN): the gRPC port speaks nothing else")
        return Peer(address=_address(stream.transport_stream), certificate=stream.peer_certificate)
    return Peer(address=_address(stream))


def address_of(stream: trio.abc.Stream) -> str:
    """Return the peer's "host:port", before any handshake; see `Peer.address`."""
    return _address(stream.transport_stream if isinstance(stream, TlsStream) else stream)


def host_of(stream: trio.abc.Stream) -> str:
    """Return the peer's host, before any handshake."""
    address = address_of(stream)
    return address.rpartition(":")[0].strip("[]") or address


async def first_byte(stream: trio.abc.Stream) -> None:
    """Wait until the peer has sent something, which is not consumed, or has closed."""
    transport = stream.transport_stream if isinstance(stream, TlsStream) else stream
    if isinstance(transport, trio.SocketStream):
        await trio.lowlevel.wait_readable(transport.socket)


def _address(stream: trio.abc.Stream) -> str:
    if not isinstance(stream, trio.SocketStream):
        return "in memory"
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "gone"
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name) or "unix socket"
