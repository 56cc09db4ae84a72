"""Whether and when a request is sent again."""

import random
from typing import Any

from trioder.client.errors import HeadendError, HeadendUnavailable, TooManyRequests
from trioder.client.operation import Operation
from trioder.process.backoff import Backoff

RETRIES = 4
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0
# A headend that needs longer is left to the caller.
MAX_RETRY_AFTER_S = 60.0


class Attempts:
    """The attempts of one request: repeatable ones are sent again while the headend does not answer.

    Args:
        operation: the request.
        retries: how often it may be sent again.
        rng: for the delays.
    """

    def __init__(self, operation: Operation[Any], *, retries: int, rng: random.Random) -> None:
        self._left = retries if operation.repeatable else 0
        self._backoff = Backoff(first_s=FIRST_DELAY_S, max_s=MAX_DELAY_S, rng=rng)

    def delay_s(self, failure: HeadendError) -> float:
        """Return how long to wait before it is sent again; at least its `Retry-After`.

        Raises:
            HeadendError: `failure`, if it is not.
        """
        if self._left == 0 or not isinstance(failure, HeadendUnavailable | TooManyRequests):
            raise failure
        retry_after_s = failure.retry_after_s or 0.0
        if retry_after_s > MAX_RETRY_AFTER_S:
            raise failure
        self._left -= 1
        return max(retry_after_s, self._backoff.next_delay_s())
