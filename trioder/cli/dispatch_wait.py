"""Waits until a dispatch has come as far as the user wants, and shows how far it is."""

import time
from collections.abc import Mapping

from trioder.cli.connection import command_error
from trioder.cli.dispatch_outcome import Goal, is_reached, progress_text, shortcomings
from trioder.cli.exit_codes import NOT_FULFILLED, TIMED_OUT, CommandError
from trioder.cli.output import note
from trioder.cli.printable import line_of
from trioder.cli.progress import Progress
from trioder.cli.quantities import duration_text
from trioder.cli.settings import Settings
from trioder.client import HeadendClient, HeadendUnavailable
from trioder.schemas.dispatch import DispatchRow

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 1.0
# A headend is restarted in less; then the wait goes on.
_MAX_AWAY_S = 60.0


def wait_for_goal(
    client: HeadendClient, dispatch_id: str, goal: Goal, *, timeout_s: int | None, settings: Settings
) -> DispatchRow | None:
    """Return the dispatch, without its allocations, when it has come so far; None if the time is over.

    Args:
        client: of the headend.
        dispatch_id: which.
        goal: what is waited for.
        timeout_s: how long; None is as long as it takes.
        settings: for the message.

    Raises:
        CommandError: the headend is away for too long.
        HeadendError: a request is refused.
    """
    started = time.monotonic()
    delay_s, away_since = _FIRST_DELAY_S, None
    with Progress() as progress:
        while True:
            try:
                dispatch = client.show_dispatch(dispatch_id, allocations=False)
            except HeadendUnavailable as error:
                now = time.monotonic()
                away_since = away_since or now
                if now - away_since > _MAX_AWAY_S:
                    raise command_error(error, settings) from None
                progress.show(f"the headend does not answer, for {duration_text(now - away_since)}")
            else:
                away_since = None
                if is_reached(dispatch, goal):
                    return dispatch
                progress.show(progress_text(dispatch, goal))
            left_s = None if timeout_s is None else started + timeout_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return None
            time.sleep(delay_s if left_s is None else min(delay_s, left_s))
            delay_s = min(2 * delay_s, _MAX_DELAY_S)


def check_fulfilled(dispatch: DispatchRow, names: Mapping[str, str]) -> None:
    """Return if a dispatch is wholly fulfilled, as far as it has come.

    Raises:
        CommandError: it is not; with the reasons.
    """
    if reasons := shortcomings(dispatch, names):
        raise CommandError("the dispatch is not wholly fulfilled: " + "; ".join(reasons), NOT_FULFILLED)


def timed_out(dispatch: DispatchRow, goal: Goal, timeout_s: int) -> CommandError:
    """Return that the time is over; the dispatch goes on."""
    return CommandError(
        f"after {duration_text(timeout_s)} the dispatch is at: {progress_text(dispatch, goal)}. It goes on; "
        f"trioder dispatch cancel {line_of(dispatch.dispatch_id or '')} ends it",
        TIMED_OUT,
    )


def interrupted(dispatch_id: str) -> None:
    """Say that Ctrl-C has ended the waiting only."""
    shown = line_of(dispatch_id)
    note(f"\nthe dispatch {shown} goes on; trioder dispatch cancel {shown} ends it")
