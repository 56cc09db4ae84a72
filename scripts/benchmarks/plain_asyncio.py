"""The store's modules under asyncio itself: to be imported before anything else of the store is.

They import trio-asyncio, which puts slower functions of its own in the place of asyncio's. A peer that
runs on asyncio is not to pay for that, so that they are put back; the loop it has to choose itself.
"""

import asyncio
import asyncio.events
import asyncio.tasks

# They keep the functions that they find.
import grpc.aio  # type: ignore[import-untyped]  # noqa: F401
import psycopg  # noqa: F401

_NAMES = (
    "_get_running_loop",
    "current_task",
    "get_event_loop",
    "get_event_loop_policy",
    "get_running_loop",
    "new_event_loop",
    "set_event_loop",
    "set_event_loop_policy",
)
_MODULES = (asyncio, asyncio.events, asyncio.tasks)
_found = [
    (module, name, getattr(module, name)) for module in _MODULES for name in _NAMES if hasattr(module, name)
]

import trio_asyncio  # noqa: E402, F401  # now, and once for all

for _module, _name, _function in _found:
    setattr(_module, _name, _function)
