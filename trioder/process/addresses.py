"""Parses addresses, ``host:port`` or ``http://host:port``, and endpoints, which ``https://`` makes TLS.

IPv6 hosts are in brackets.
"""

import ipaddress
import re
from typing import NamedTuple

import click

_ADDRESS = re.compile(
    r"(?:http://)?(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^\[\]:/]*)):(?P<port>[0-9]+)/?",
    re.ASCII | re.IGNORECASE,
)
_HTTPS = re.compile(r"\s*https://", re.ASCII | re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?", re.ASCII)


class Address(NamedTuple):
    """An address to listen on or connect to; an IPv6 host is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Endpoint(NamedTuple):
    """A server to connect to, over TLS or plain; an IPv6 host is without brackets."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return str(Address(self.host, self.port))

    def __str__(self) -> str:
        return f"https://{self.authority}" if self.tls else self.authority


def parse_address(text: str) -> Address:
    """Parse one address.

    Raises:
        ValueError: the text says what is wrong.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an address; it must be host:port, such as 127.0.0.1:50051")
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"{text!r} has the port {port}; it must be in 0..65535")
    return Address(_host(text, match), port)


def parse_endpoint(text: str) -> Endpoint:
    """Parse the address of a server; `https://` before it is TLS.

    Raises:
        ValueError: the text says what is wrong.
    """
    address, tls = _HTTPS.subn("", text, count=1)
    if tls and "://" in address:
        raise ValueError(f"{text!r} is not an address; it must be https://host:port")
    host, port = parse_address(address)
    if port == 0:
        raise ValueError(f"{text!r} has the port 0; it must be in 1..65535")
    return Endpoint(host, port, bool(tls))


def _host(text: str, match: re.Match[str]) -> str:
    if (ipv6 := match["ipv6"]) is not None:
        try:
            return str(ipaddress.IPv6Address(ipv6))
        except ValueError:
            raise ValueError(f"{text!r} has {ipv6!r} in brackets; that is not an IPv6 address") from None
    host: str = match["host"]
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} has the host {host!r}; it must be a name or an IP address")
    return host


def host_of_peer(peer: str) -> str:
    """Return the host of a connection's `host:port`, for limits: of IPv6 the /64, which one machine has."""
    return network_of(peer.rpartition(":")[0].strip("[]"))


def network_of(host: str) -> str:
    """Return what shares a limit: an IPv4 address, or the /64 that a site is allocated of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


class AddressType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The type of an option whose value is an `Address`."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Return an `Address` as it is, and text parsed by `parse_address`."""
        if isinstance(value, Address):
            return value
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class EndpointType(click.ParamType):  # type: ignore[type-arg]  # as above
    """The type of an option whose value is an `Endpoint`."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Return an `Endpoint` as it is, and text parsed by `parse_endpoint`."""
        if isinstance(value, Endpoint):
            return value
        try:
            return parse_endpoint(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
