"""Parses addresses: ``host:port`` or ``http://host:port``, IPv6 in brackets."""

import ipaddress
import re
from typing import NamedTuple

import click

_ADDRESS = re.compile(
    r"(?:http://)?(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^\[\]:/]*)):(?P<port>[0-9]+)/?",
    re.ASCII | re.IGNORECASE,
)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?", re.ASCII)


class Address(NamedTuple):
    """An address to listen on or connect to; an IPv6 host is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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
    host = peer.rpartition(":")[0].strip("[]")
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
