"""Python's garbage collector, set for a process that holds many objects for long."""

import gc

# A full collection looks at all that came to stay since then: half a second with 2,500 sessions.
# By Python's own thresholds (700, 10, 10) it came about as often as that takes while they opened. The middle
# one looks at 20,000 objects, 5 ms: with 10 instead of 2 it held up the event loop for 25 ms.
_THRESHOLDS = (10_000, 2, 50)


def freeze_gc() -> None:
    """What stands now stands until the end: pass it over from now on, and look at the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
