"""Limits of the process: open files, and the thresholds of the garbage collector."""

import gc
import resource
import sys

# For REST's and the database's connections, and files.
RESERVED_DESCRIPTORS = 200

# A full collection visits every object not frozen: half a second with 2,500 sessions, and with Python's own
# thresholds (700, 10, 10) nearly continuous while they opened. The middle one visits 20,000 objects in 5 ms;
# with 10 instead of 2 it blocked the event loop for 25 ms.
_GC_THRESHOLDS = (10_000, 2, 50)


def peer_descriptors(limit: int) -> int:
    """Return how many of `limit` descriptors agents' connections may use; the others are in reserve.

    If there are few, each side gets half.
    """
    return limit - min(RESERVED_DESCRIPTORS, limit // 2)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard one, and return the limit in force.

    Many systems start with 1,024, for the sake of programs that use `select`; ours do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # macOS reports no limit, but has one.
            return soft
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def freeze_gc() -> None:
    """Freeze startup objects; raise the collector's thresholds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
