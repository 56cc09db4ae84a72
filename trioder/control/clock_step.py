"""What a step of the headend's clock does to its commands: their times are corrected, their terms stay.

Durations count steady time. All times of a command are kept as wall time, so that they can be shown and
recorded as they are; when the wall clock is set, they are moved with it. `valid_until` alone is what the user
said it is, an instant of the right clock.
"""

from dataclasses import replace

from trioder.control.model import AssetSetpoint, Dispatch


def shift_command(command: Dispatch, by_ms: int) -> None:
    """Move all times of a command by so much."""
    command.dispatched_ms += by_ms
    command.queue_until_ms += by_ms
    command.next_look_ms += by_ms
    command.next_adjust_ms += by_ms
    command.next_raise_look_ms += by_ms
    command.next_raise_ms += by_ms
    command.next_trial_ms += by_ms
    for standing in command.standings.values():
        standing.good_since_ms = _shifted(standing.good_since_ms, by_ms)
    command.ends_ms = _shifted_end(command.ends_ms, command.valid_until_ms, by_ms)
    command.resplits = [replace(resplit, at_ms=resplit.at_ms + by_ms) for resplit in command.resplits]
    for member in command.members.values():
        _shift_member(member, command.valid_until_ms, by_ms)


def bound_terms(command: Dispatch, now_ms: int) -> None:
    """Let what is left of a command that was recorded earlier be no more than what was asked for.

    The clock that it was recorded by may have been ahead of the one now.
    """
    latest_queue_ms = now_ms + round(command.expires_in_s * 1000)
    latest_end_ms = None if command.duration_s is None else now_ms + command.duration_s * 1000
    command.queue_until_ms = min(command.queue_until_ms, latest_queue_ms)
    command.ends_ms = _earlier(command.ends_ms, latest_end_ms)
    for member in command.members.values():
        member.queue_until_ms = min(member.queue_until_ms, latest_queue_ms)
        member.ends_ms = _earlier(member.ends_ms, latest_end_ms)
        if member.sent_ms is not None:
            member.sent_ms = min(member.sent_ms, now_ms)


def _shift_member(member: AssetSetpoint, valid_until_ms: int | None, by_ms: int) -> None:
    member.queue_until_ms += by_ms
    member.ends_ms = _shifted_end(member.ends_ms, valid_until_ms, by_ms)
    member.sent_ms = _shifted(member.sent_ms, by_ms)
    member.answered_ms = _shifted(member.answered_ms, by_ms)
    member.tracking_ms = _shifted(member.tracking_ms, by_ms)
    member.ended_ms = _shifted(member.ended_ms, by_ms)
    watch = member.watch
    if watch is not None:
        watch.arrives_ms = _shifted(watch.arrives_ms, by_ms)
        watch.off_since_ms = _shifted(watch.off_since_ms, by_ms)
        watch.suspect_since_ms = _shifted(watch.suspect_since_ms, by_ms)
        watch.last_ms += by_ms


def _shifted_end(ends_ms: int | None, valid_until_ms: int | None, by_ms: int) -> int | None:
    if valid_until_ms is None:
        return _shifted(ends_ms, by_ms)
    # An end that an agent has reported as so many seconds from then is a duration as well.
    return valid_until_ms if ends_ms == valid_until_ms else _earlier(_shifted(ends_ms, by_ms), valid_until_ms)


def _shifted(ts_ms: int | None, by_ms: int) -> int | None:
    return None if ts_ms is None else ts_ms + by_ms


def _earlier(ends_ms: int | None, latest_ms: int | None) -> int | None:
    if ends_ms is None or latest_ms is None:
        return ends_ms
    return min(ends_ms, latest_ms)
