"""Listens on the ports of a server."""

import ipaddress
from contextlib import AsyncExitStack

import trio

from trioder.process.addresses import Address


class PortError(Exception):
    """An address that cannot be listened on."""


async def listen(address: Address, variable: str, ports: AsyncExitStack) -> list[trio.SocketListener]:
    """Listen on all addresses of a host; the listeners are closed with `ports`.

    Args:
        address: where.
        variable: what the address is called in errors.
        ports: closes them.

    Raises:
        PortError: the port is in use, or the address is not of this machine.
    """
    try:
        # Trio sets SO_REUSEADDR but not SO_REUSEPORT, with which two servers could share a port unnoticed.
        listeners = await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        raise PortError(f"{variable} {address} cannot be listened on: {error.strerror or error}") from None
    for listener in listeners:
        await ports.enter_async_context(listener)
    return listeners


def on_loopback(listeners: list[trio.SocketListener]) -> bool:
    """Whether only this machine reaches them."""
    return all(ipaddress.ip_address(one.socket.getsockname()[0]).is_loopback for one in listeners)


def address_of(listeners: list[trio.SocketListener]) -> str:
    """Return the first one's host:port."""
    host, port = listeners[0].socket.getsockname()[:2]
    return str(Address(host, port))
