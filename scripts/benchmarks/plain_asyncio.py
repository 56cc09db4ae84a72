"""Undoes what trio-asyncio replaces in asyncio; to be imported before anything else of the store.

The store's modules import trio-asyncio, whose replacements of asyncio's functions are slower: a peer on
asyncio must not pay for that.
"""

import asyncio
import asyncio.events
import asyncio.tasks

# They keep references to the functions.
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

import trio_asyncio  # noqa: E402, F401  # here, and only once

for _module, _name, _function in _found:
    setattr(_module, _name, _function)
