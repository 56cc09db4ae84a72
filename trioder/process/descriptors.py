"""How many files and sockets this process may have open: the limit, raised as far as that goes."""

import resource
import sys

# REST's connections, the database's, files.
RESERVED_DESCRIPTORS = 200


def peer_descriptors(limit: int) -> int:
    """Return how many of `limit` descriptors connections of agents may have; the rest is kept in reserve.

    Where there are few, each side has half.
    """
    return limit - min(RESERVED_DESCRIPTORS, limit // 2)


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one, and return what holds now.

    Many systems begin with 1,024, for the sake of programs that use `select`; those here do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # macOS tells of no limit, and has one.
            return soft
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard
