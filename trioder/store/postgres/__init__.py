"""Persistence in PostgreSQL: bounded queues, two writers, and the only code that uses psycopg.

The caller runs `trio_asyncio.open_loop()`.
"""

# Before psycopg, which keeps references to the functions of asyncio that this replaces.
import trio_asyncio  # noqa: F401

from trioder.store.postgres.open import open_postgres_store

__all__ = ["open_postgres_store"]
