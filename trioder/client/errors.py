"""What can go wrong with a request: one hierarchy, by what a caller can do about it."""

from trioder.schemas.dispatch import DispatchRow


class HeadendError(Exception):
    """A request did not succeed; the text is one sentence for people."""


class HeadendUnavailable(HeadendError):
    """The headend did not answer, or cannot answer now; the same request may succeed later.

    What was sent as a command may have been carried out, unless `status` says that it was refused.

    Attributes:
        status: of the last response; None without one.
        retry_after_s: when the headend expects to answer again; None where it does not say.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class UnexpectedResponse(HeadendError):
    """The response is not one that the API documents: of another server, another version, or a defect.

    Attributes:
        status: of the response.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class RequestRefused(HeadendError):
    """The headend refused the request, and nothing was done; it has to be changed before it is sent again.

    Attributes:
        status: of the response, 400 to 499.
        code: the headend's, such as `out_of_bounds`.
        message: the headend's, which names the value and the rule.
        field: the parameter or field of the body that the message names first; None if it names none.
    """

    def __init__(self, message: str, *, status: int, code: str, field: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field


class Unauthorized(RequestRefused):
    """401: a token is needed, or the one that was sent is unknown, expired or revoked."""


class Forbidden(RequestRefused):
    """403: the token's role does not permit it."""


class NotFound(RequestRefused):
    """404: it does not exist, or lies outside of the token's tenant and sites."""


class Conflict(RequestRefused):
    """409: its present state does not permit it, or the Idempotency-Key was used for another command."""


class TooManyRequests(RequestRefused):
    """429: the limit of requests, or of open streams, is reached.

    Attributes:
        retry_after_s: when the request may be sent again; None where the headend does not say.
    """

    def __init__(
        self, message: str, *, status: int, code: str, field: str | None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, status=status, code=code, field=field)
        self.retry_after_s = retry_after_s


class DispatchEnded(HeadendError):
    """A dispatch ended without the state that was waited for.

    Attributes:
        dispatch: its last record.
    """

    def __init__(self, message: str, *, dispatch: DispatchRow) -> None:
        super().__init__(message)
        self.dispatch = dispatch
