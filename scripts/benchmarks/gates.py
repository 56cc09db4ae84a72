"""What the streams of a load wait for, whatever they send."""

import trio


class Gates:
    """All streams begin together, and are closed only when all are done.

    Attributes:
        every_s: from one batch of a stream to the next; 0 for as soon as the window has room.
        begin_s: on Trio's clock, when the streams begin; told before `begin`.
        until_s: when no stream begins anything new any more; likewise.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.begin_s = 0.0
        self.until_s = 0.0
        self.begin = trio.Event()
        self.close = trio.Event()
