"""An auto-reset event for one task, cheap enough to wake 100,000 parked tasks per pulse."""

import trio


class Wakeup:
    """Wakes the one task that waits; a wake without a waiting task makes the next wait return at once.

    All wakes before the task runs again count as one, so that the task must check every possible reason.
    """

    __slots__ = ("_is_set", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._is_set = False

    def wake(self) -> None:
        """Wake the waiting task, or make the next wait return at once."""
        task = self._task
        if task is None:
            self._is_set = True
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
        if self._is_set:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        # The task checks every reason from here on, so that earlier wakes need no second run.
        self._is_set = False

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
