"""The hosts that the REST port answers for: any other is a request that was meant for somebody else.

A page of a foreign site may have its name resolved to this machine (DNS rebinding), and would then be of the
same origin as the headend. What it cannot choose is the Host header, which names its own site.
"""

import ipaddress
import re
from collections.abc import Iterable

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?))"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_MAX_PORT = 65535


class KnownHosts:
    """Hosts by name or address; one without a port is known on every port.

    Args:
        hosts: such as `headend.example`, `10.0.0.5:3001` or `[::1]`.
        own_address: whether the address that a client has connected to is one of them.

    Raises:
        ValueError: one is not a host; the message names it.
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
    def of_address(cls, bound_host: str) -> "KnownHosts":
        """By default: the address as bound, the one that a client has connected to, and those of loopback."""
        bound = f"[{bound_host}]" if ":" in bound_host else bound_host
        return cls([bound, *LOCAL_HOSTS], own_address=True)

    def knows(self, authority: str, *, local_address: str | None) -> bool:
        """Whether a request to this host, perhaps with a port, is for this headend.

        Args:
            authority: of the Host header or the request's target.
            local_address: the address that the client has connected to.
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
        ValueError: it is none; the message names it.
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
    # Without the zone of a link-local address, which no URL names.
    return address.partition("%")[0].lower()
