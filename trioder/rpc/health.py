"""grpc.health.v1.Health: the serving status of the server and of each service."""

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


class HealthStatus:
    """The serving status by service; "" is the server as a whole."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": True}
        self._changed = trio.Event()

    def set_serving(self, service: str, serving: bool) -> None:
        """Set the status of a service and wake the watchers."""
        self._serving[service] = serving
        self._changed.set()
        self._changed = trio.Event()

    def state(self, service: str) -> bool | None:
        """Return whether a service is serving; None if it is unknown."""
        return self._serving.get(service)

    async def wait_changed(self) -> None:
        """Wait until the status of any service is set."""
        await self._changed.wait()


def health_services(health: HealthStatus) -> dict[Method[Any, Any], Handler]:
    """Return the handlers of the standard health service."""

    async def check(call: _Call) -> None:
        service = (await call.receive()).service
        serving = health.state(service)
        if serving is None:
            raise RpcError(StatusCode.NOT_FOUND, f"no service {service[:200]!r} is known here")
        await call.send(_response(serving=serving))

    async def watch(call: _Call) -> None:
        service = (await call.receive()).service
        sent: pb.HealthCheckResponse | None = None
        while True:
            response = _response(serving=health.state(service))
            if response != sent:
                await call.send(response)
                sent = response
            else:
                await health.wait_changed()

    return {HEALTH_CHECK: check, HEALTH_WATCH: watch}


def _response(*, serving: bool | None) -> pb.HealthCheckResponse:
    states = pb.HealthCheckResponse
    status = {True: states.SERVING, False: states.NOT_SERVING, None: states.SERVICE_UNKNOWN}[serving]
    return pb.HealthCheckResponse(status=status)
