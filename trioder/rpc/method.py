"""A method of a service: its path and the types of its messages."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[Req, Res]):
    """One method of a service; `service` is the full name, with its package."""

    service: str
    name: str
    request_type: type[Req]
    response_type: type[Res]
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        """The HTTP/2 path that names the method."""
        return f"/{self.service}/{self.name}"


def method_of(service: ServiceDescriptor, name: str) -> Method[Any, Any]:
    """Return a method of a generated module's `DESCRIPTOR.services_by_name[...]`.

    Raises:
        KeyError: the service has no such method.
    """
    method = service.methods_by_name[name]
    return Method(
        service=service.full_name,
        name=name,
        request_type=GetMessageClass(method.input_type),
        response_type=GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
    )
