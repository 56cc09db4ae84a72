"""The hosts whose requests the REST port accepts: protection against DNS rebinding.

A foreign site may let its own name resolve to this machine, and its pages would then have the headend's
origin. They cannot forge the Host header, which names that site.
"""

import ipaddress
import re
from collections.abc import Iterable

# What the headend's option is called.
HOSTS_VARIABLE = "HEADEND_HTTP_HOSTS"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?))"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_MAX_PORT = 65535


class AllowedHosts:
    """Hosts by name or address; an entry without a port matches every port.

    Args:
        hosts: such as `headend.example`, `10.0.0.5:3001` or `[::1]`.
        own_address: whether the local address of a client's connection is one of them.

    Raises:
        ValueError: an entry is not a host; the message names it.
    """

    def __init__(self, hosts: Iterable[str], *, own_address: bool = False) -> None:
        self._own_address = own_address
        self._on_any_port: set[str] = set()
        self._on_one_port: set[tuple[str, int]] = set()
        for text in hosts:
            host, port = parse_host(text)
            if port is None:
                self._on_any_port.add(host)
            else:
                self._on_one_port.add((host, port))

    @classmethod
    def of_address(cls, bound_host: str) -> "AllowedHosts":
        """Return the default hosts: the bound address, the connection's local address, and loopback."""
        bound = f"[{bound_host}]" if ":" in bound_host else bound_host
        return cls([bound, *LOCAL_HOSTS], own_address=True)

    def allows(self, authority: str, *, local_address: str | None) -> bool:
        """Whether a request to this host is for this headend.

        Args:
            authority: host and optional port, from the Host header or the request's target.
            local_address: the connection's local address.
        """
        try:
            host, port = parse_host(authority, default_port=80)
        except ValueError:
            return False
        if host in self._on_any_port or (host, port) in self._on_one_port:
            return True
        return self._own_address and local_address is not None and host == _canonical(local_address)


def parse_host(text: str, *, default_port: int | None = None) -> tuple[str, int | None]:
    """Return a host in its canonical form, and its port.

    Raises:
        ValueError: it is not a host; the message names it.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a host; it must be a name or an address, such as [::1] or db:3001")
    port = default_port if match["port"] is None else int(match["port"])
    if port is not None and port > _MAX_PORT:
        raise ValueError(f"{text!r} has the port {port}; it must be in 0..{_MAX_PORT}")
    if match["ipv6"] is None:
        return match["name"].lower(), port
    try:
        return str(ipaddress.IPv6Address(match["ipv6"])), port
    except ValueError:
        raise ValueError(f"{text!r} has {match['ipv6']!r} in brackets; that is not an IPv6 address") from None


def _canonical(address: str) -> str:
    # URLs do not carry the zone of a link-local address.
    return address.partition("%")[0].lower()
