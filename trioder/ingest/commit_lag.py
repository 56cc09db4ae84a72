"""How far an outbox is behind, as the headend can tell: the time of the newest batch that is kept for good.

Synchronous, and of constant size: of the batches that the store has in hand, one is watched.
"""


class CommitLag:
    """Follows one outbox.

    Attributes:
        newest_ms: when, by the headend's clock, a batch was made that is kept, as all before it are; it may
            lag by what one transaction holds. While none is known to be kept, of the first that came in its
            turn; None before that.
    """

    def __init__(self) -> None:
        self.newest_ms: int | None = None
        self._watched: tuple[int, int] | None = None

    def came(self, batch_seq: int, made_ms: int) -> None:
        """A batch has come in its turn, whether the store has room for it or not."""
        if self.newest_ms is None:
            self.newest_ms = made_ms
        if self._watched is None:
            self._watched = (batch_seq, made_ms)

    def committed(self, batch_seq: int) -> None:
        """Every batch up to this one is kept."""
        if self._watched is not None and batch_seq >= self._watched[0]:
            self.newest_ms = self._watched[1]
            self._watched = None

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's own clock was set ahead by this."""
        if self.newest_ms is not None:
            self.newest_ms += by_ms
        if self._watched is not None:
            self._watched = (self._watched[0], self._watched[1] + by_ms)
