"""How a call ends: the status codes of gRPC, and the error that carries them."""

from enum import IntEnum

from h2.errors import ErrorCodes


class StatusCode(IntEnum):
    """The codes, as https://grpc.github.io/grpc/core/md_doc_statuscodes.html numbers them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call ended with a status other than OK.

    A handler raises it to send the status; a client's methods raise the status that they received.
    """

    def __init__(self, status: StatusCode, message: str = "") -> None:
        super().__init__(f"{status.name}: {message}" if message else status.name)
        self.status = status
        self.message = message

    def fresh(self) -> "RpcError":
        """Return the same error without a traceback.

        An error that is kept with its traceback is a reference cycle (traceback, frame, variable) that holds
        all that the frames hold, some messages among them, until a collector runs.
        """
        return RpcError(self.status, self.message)


_STATUS_OF_RESET: dict[int, StatusCode] = {
    ErrorCodes.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCodes.CANCEL: StatusCode.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


def error_of_reset(code: int) -> RpcError:
    """Return the error for RST_STREAM with an HTTP/2 error code."""
    status = _STATUS_OF_RESET.get(code, StatusCode.INTERNAL)
    return RpcError(status, f"the peer reset the call ({error_name(code)})")


def error_name(code: int) -> str:
    """Return the name of an HTTP/2 error code; its number if it has none."""
    try:
        return str(ErrorCodes(code).name)
    except ValueError:
        return str(code)
