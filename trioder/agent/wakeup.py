"""A place for one task to be parked at, and to be woken from by plain function calls.

It is a `trio.Event` that resets itself: cheap enough to wake 100,000 parked tasks a pulse.
"""

import trio


class Wakeup:
    """Wakes the one task that waits here; a wake while nobody waits is kept for the next wait.

    Wakes do not add up: all that come before the task runs again count as one. So the task looks at
    everything it could have been woken for, each time.
    """

    __slots__ = ("_kept", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._kept = False

    def wake(self) -> None:
        """Let the waiting task go on, or the next wait return at once."""
        task = self._task
        if task is None:
            self._kept = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Park the current task until it is woken.

        Raises:
            RuntimeError: another task waits here.
        """
        if self._task is not None:
            raise RuntimeError("another task is waiting for this wakeup")
        if self._kept:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        # Whatever came between the wake and now is seen by the task in any case.
        self._kept = False

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
