"""Persistence in PostgreSQL: a synchronous queue, one writer, and the only code that knows psycopg.

Under trio-asyncio: whoever opens the store is inside of `trio_asyncio.open_loop()`.
"""

# Before psycopg, which keeps the functions of asyncio that this replaces.
import trio_asyncio  # noqa: F401

from trioder.store.postgres.open import open_postgres_store

__all__ = ["open_postgres_store"]
