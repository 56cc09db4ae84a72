"""Before every test module: psycopg must not be imported before trio-asyncio, whichever test comes first."""

import trio_asyncio  # noqa: F401  # replaces functions of asyncio that psycopg keeps when it is imported
