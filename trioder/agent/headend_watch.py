"""How long the agent has been without a headend, and the one timer that ends the wait for it.

What happens then is the plant's affair.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Never

import trio

from trioder.agent.wakeup import Wakeup


class HeadendWatch:
    """Calls once when there was no session for `hold_s`, and again only after there was one in between.

    Time counts from the end of a session, or from when the watch was made.

    Args:
        hold_s: how long setpoints hold without a headend; infinity for ever.
        lost: is given the instant, on Trio's clock, at which the time was over, and `hold_s`.
    """

    def __init__(self, *, hold_s: float, lost: Callable[[float, float], Awaitable[None]]) -> None:
        self._hold_s = hold_s
        self._lost = lost
        self._connected = False
        self._due_s = trio.current_time() + hold_s
        self._changed = Wakeup()

    def connected(self) -> None:
        """A session stands."""
        self._connected = True
        self._due_s = math.inf
        self._changed.wake()

    def disconnected(self) -> None:
        """There is no session; may be told again while there is none."""
        if self._connected:
            self._connected = False
            self._due_s = trio.current_time() + self._hold_s
            self._changed.wake()

    def suspended(self, passed_s: float) -> None:
        """The machine was suspended for so long, without a headend if there was no session."""
        self._due_s -= passed_s
        self._changed.wake()

    async def run(self) -> Never:
        """Watch until cancelled."""
        while True:
            with trio.move_on_at(self._due_s):
                await self._changed.wait()
            due_s = self._due_s
            if due_s <= trio.current_time():
                self._due_s = math.inf
                await self._lost(due_s, self._hold_s)
