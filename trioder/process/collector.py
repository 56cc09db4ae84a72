"""Python's garbage collector, set for a process that holds many objects for long."""

import gc

# A full collection looks at all that came to stay since then: half a second with 2,500 sessions.
# By Python's own thresholds (700, 10, 10) it came about as often as that takes while they opened.
_THRESHOLDS = (10_000, 10, 10)


def settle_collector() -> None:
    """What stands now stands until the end: pass it over from now on, and look at the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
