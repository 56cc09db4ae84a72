"""How often something may happen: at once, and for long."""

from trioder.rpc.options import ConnectionOptions


class RateLimit:
    """A token bucket over a count that only grows.

    Args:
        at_once: tokens in the full bucket, with which it begins.
        per_s: tokens that are added a second.
        now_s: the time now, on the clock that `exceeded` is given.
    """

    def __init__(self, *, at_once: int, per_s: float, now_s: float) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._left = float(at_once)
        self._seen = 0
        self._at_s = now_s

    def exceeded(self, count: int, *, now_s: float) -> bool:
        """Take as many tokens as the count has grown by; True if there were not as many."""
        fresh = count - self._seen
        if fresh == 0:
            return False
        self._seen = count
        self._left = min(self._at_once, self._left + (now_s - self._at_s) * self._per_s) - fresh
        self._at_s = now_s
        return self._left < 0


class PeerRates:
    """How often one peer may open calls, and send frames that are none."""

    def __init__(self, options: ConnectionOptions, *, now_s: float) -> None:
        self._options = options
        self._control_frames = RateLimit(
            at_once=options.control_frames_at_once, per_s=options.control_frames_per_s, now_s=now_s
        )
        self._calls = RateLimit(at_once=options.calls_at_once, per_s=options.calls_per_s, now_s=now_s)

    def exceeded(self, *, control_frames: int, calls: int, now_s: float) -> tuple[str, str] | None:
        """Return why the peer is to be ended, if it is: a reason of `refusals`, and the number.

        Args:
            control_frames: so far.
            calls: so far.
            now_s: the time now.
        """
        if self._control_frames.exceeded(control_frames, now_s=now_s):
            count = self._options.control_frames_at_once
            return "control_frame_rate", f"the peer sent more than {count} control frames at once"
        if self._calls.exceeded(calls, now_s=now_s):
            return "call_rate", f"the peer opened more than {self._options.calls_at_once} calls at once"
        return None
