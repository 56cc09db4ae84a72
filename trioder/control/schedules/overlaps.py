"""Which occurrences of a new schedule share assets and time with those of others.

While both run, an asset is under the schedule whose occurrence started later.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import trio

from trioder.domain.schedules import Overlap, Schedule

# How far ahead, and how many starts of each schedule.
HORIZON_MS = 31 * 86_400_000
MAX_STARTS = 1_000
MAX_OVERLAPS = 100

# Returns the starts of a schedule from an instant on, within the horizon.
StartsOf = Callable[[Schedule], Sequence[int]]


def overlap_with_itself(schedule: Schedule, starts: Sequence[int], *, assets: int) -> Overlap | None:
    """Return the first overlap of a schedule's own occurrences."""
    for start_ms, next_ms in pairwise(starts):
        end_ms = schedule.end_ms(start_ms)
        if next_ms < end_ms:
            return Overlap(schedule_id=schedule.schedule_id, start_ms=next_ms, end_ms=end_ms, assets=assets)
    return None


def first_overlap(
    schedule: Schedule, starts: Sequence[int], other: Schedule, other_starts: Sequence[int]
) -> tuple[int, int] | None:
    """Return when two schedules first overlap, from and until; None if they do not. Starts ascend."""
    position = 0
    for start_ms in starts:
        end_ms = schedule.end_ms(start_ms)
        while position < len(other_starts) and other.end_ms(other_starts[position]) <= start_ms:
            position += 1
        if position == len(other_starts):
            return None
        other_ms = other_starts[position]
        if other_ms < end_ms:
            return max(start_ms, other_ms), min(end_ms, other.end_ms(other_ms))
    return None


async def find_overlaps(
    schedule: Schedule,
    keys: Collection[int],
    others: Sequence[Schedule],
    *,
    keys_of: Callable[[Schedule], Sequence[int]],
    starts_of: StartsOf,
) -> Sequence[Overlap]:
    """Return the first overlap with each other schedule, and with itself; at most `MAX_OVERLAPS`.

    Args:
        schedule: the new one.
        keys: its assets.
        others: those that are active.
        keys_of: returns the assets of a schedule.
        starts_of: returns its next starts.
    """
    await trio.lowlevel.checkpoint()
    starts, mine = starts_of(schedule), frozenset(keys)
    found = [one for one in (overlap_with_itself(schedule, starts, assets=len(mine)),) if one is not None]
    for other in others:
        if len(found) >= MAX_OVERLAPS:
            break
        await trio.lowlevel.checkpoint()
        times = first_overlap(schedule, starts, other, starts_of(other))
        if times is None:
            continue
        shared = len(mine.intersection(keys_of(other)))
        if shared:
            found.append(
                Overlap(schedule_id=other.schedule_id, start_ms=times[0], end_ms=times[1], assets=shared)
            )
    return found
