"""gRPC over Trio, on purerpc's sans-I/O core; knows nothing of batteries."""

from trioder.rpc.client import Channel, ClientCall, connect, open_channel
from trioder.rpc.method import Method, method_of
from trioder.rpc.options import ConnectionOptions, PeerOptions
from trioder.rpc.peer import Peer
from trioder.rpc.peer_access import PeerAccess
from trioder.rpc.peer_limits import PeerLimits
from trioder.rpc.server import serve_connection, serve_rpc
from trioder.rpc.services import Handler, ServerCall, Services
from trioder.rpc.status import RpcError, StatusCode

__all__ = [
    "Channel",
    "ClientCall",
    "ConnectionOptions",
    "Handler",
    "Method",
    "Peer",
    "PeerAccess",
    "PeerLimits",
    "PeerOptions",
    "RpcError",
    "ServerCall",
    "Services",
    "StatusCode",
    "connect",
    "method_of",
    "open_channel",
    "serve_connection",
    "serve_rpc",
]
