"""grpc.health.v1.Health: whether the server and each of its services serve."""

from typing import Any

import trio

from trioder.rpc import health_pb2 as pb
from trioder.rpc.method import Method, method_of
from trioder.rpc.services import Handler, ServerCall
from trioder.rpc.status import RpcError, StatusCode

_SERVICE = pb.DESCRIPTOR.services_by_name["Health"]
HEALTH_CHECK: Method[pb.HealthCheckRequest, pb.HealthCheckResponse] = method_of(_SERVICE, "Check")
HEALTH_WATCH: Method[pb.HealthCheckRequest, pb.HealthCheckResponse] = method_of(_SERVICE, "Watch")

_Call = ServerCall[pb.HealthCheckRequest, pb.HealthCheckResponse]


class HealthBoard:
    """What serves and what does not; "" is the server as a whole."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": True}
        self._changed = trio.Event()

    def set_serving(self, service: str, serving: bool) -> None:
        """Set the state of a service and tell those who watch."""
        self._serving[service] = serving
        self._changed.set()
        self._changed = trio.Event()

    def state(self, service: str) -> bool | None:
        """Return whether a service serves; None if it is not known."""
        return self._serving.get(service)

    async def wait_changed(self) -> None:
        """Wait until some service's state is set."""
        await self._changed.wait()


def health_services(board: HealthBoard) -> dict[Method[Any, Any], Handler]:
    """Return the standard health service over a board."""

    async def check(call: _Call) -> None:
        service = (await call.receive()).service
        serving = board.state(service)
        if serving is None:
            raise RpcError(StatusCode.NOT_FOUND, f"no service {service[:200]!r} is known here")
        await call.send(_response(serving=serving))

    async def watch(call: _Call) -> None:
        service = (await call.receive()).service
        told: pb.HealthCheckResponse | None = None
        while True:
            response = _response(serving=board.state(service))
            if response != told:
                await call.send(response)
                told = response
            else:
                await board.wait_changed()

    return {HEALTH_CHECK: check, HEALTH_WATCH: watch}


def _response(*, serving: bool | None) -> pb.HealthCheckResponse:
    states = pb.HealthCheckResponse
    status = {True: states.SERVING, False: states.NOT_SERVING, None: states.SERVICE_UNKNOWN}[serving]
    return pb.HealthCheckResponse(status=status)
