"""Undoes what trio-asyncio replaces in asyncio; to be imported before anything else of the store.

The store's modules import trio-asyncio, whose replacements of asyncio's functions are slower: a peer on
asyncio must not pay for that.
"""

import asyncio

# They keep references to the functions.
import grpc.aio  # type: ignore[import-untyped]  # noqa: F401
import psycopg  # noqa: F401

_found = [(module, dict(vars(module))) for module in (asyncio, asyncio.events, asyncio.tasks)]

import trio_asyncio  # noqa: E402, F401  # here, and only once

for _module, _names in _found:
    vars(_module).update(_names)
