"""grpcio at the other end, in a process of its own: a server of the probe's methods, and clients.

Run as a program: `grpcio_peer.py serve [cert key ca]` prints its port; `grpcio_peer.py hang PORT` opens
a call that never ends, prints so, and waits to be killed.
"""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

BIG = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]


def _stub(channel: grpc.Channel, kind: str, name: str) -> Any:
    return getattr(channel, kind)(
        f"/probe.Probe/{name}",
        request_serializer=BytesValue.SerializeToString,
        response_deserializer=BytesValue.FromString,
    )


class Stubs:
    """The probe's methods as a grpcio client calls them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.unary = _stub(channel, "unary_unary", "Unary")
        self.count = _stub(channel, "unary_stream", "Count")
        self.join = _stub(channel, "stream_unary", "Join")
        self.echo = _stub(channel, "stream_stream", "Echo")
        self.hang = _stub(channel, "stream_stream", "Hang")
        self.refuse = _stub(channel, "unary_unary", "Refuse")
        self.crash = _stub(channel, "unary_unary", "Crash")
        self.flood = _stub(channel, "unary_stream", "Flood")
        self.nowhere = _stub(channel, "unary_unary", "Nowhere")


class _Service(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self.last_call_over = threading.Event()

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        kinds = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "Count": (grpc.unary_stream_rpc_method_handler, self.count),
            "Join": (grpc.stream_unary_rpc_method_handler, self.join),
            "Echo": (grpc.stream_stream_rpc_method_handler, self.echo),
            "Hang": (grpc.stream_stream_rpc_method_handler, self.hang),
            "WasCancelled": (grpc.unary_unary_rpc_method_handler, self.was_cancelled),
            "Refuse": (grpc.unary_unary_rpc_method_handler, self.refuse),
        }
        if name not in kinds:
            return None
        kind, behaviour = kinds[name]
        return kind(behaviour, BytesValue.FromString, BytesValue.SerializeToString)

    def unary(self, request: BytesValue, context: Any) -> BytesValue:
        return request

    def count(self, request: BytesValue, context: Any) -> Iterator[BytesValue]:
        for number in range(int(request.value)):
            yield BytesValue(value=b"%d" % number)

    def join(self, requests: Iterator[BytesValue], context: Any) -> BytesValue:
        return BytesValue(value=b"".join(request.value for request in requests))

    def echo(self, requests: Iterator[BytesValue], context: Any) -> Iterator[BytesValue]:
        for request in requests:
            yield request
            if request.value == b"enough":
                return

    def hang(self, requests: Iterator[BytesValue], context: Any) -> Iterator[BytesValue]:
        context.add_callback(self.last_call_over.set)
        yield BytesValue(value=b"hanging")
        self.last_call_over.wait()

    def was_cancelled(self, request: BytesValue, context: Any) -> BytesValue:
        return BytesValue(value=b"yes" if self.last_call_over.wait(5) else b"no")

    def refuse(self, request: BytesValue, context: Any) -> BytesValue:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.value.decode())


def _serve(*tls: str) -> None:
    server = grpc.server(
        futures.ThreadPoolExecutor(20),
        handlers=[_Service()],
        options=[*BIG, ("grpc.so_reuseport", 0), ("grpc.http2.max_ping_strikes", 0)],
    )
    if tls:
        cert, key, ca = (open(path, "rb").read() for path in tls)  # noqa: PTH123, SIM115
        credentials = grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)
        port = server.add_secure_port("localhost:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _say(str(port))
    # A line asks for a graceful stop, the end of the input for one at once.
    grace = 5.0 if sys.stdin.readline() else 0.0
    server.stop(grace).wait()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _hang(port: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = Stubs(channel).hang(iter([BytesValue()]))
        _say("open")
        time.sleep(600)
        call.cancel()


if __name__ == "__main__":
    {"serve": _serve, "hang": _hang}[sys.argv[1]](*sys.argv[2:])
