"""Keeps what a user has set for other PostgreSQL servers (PG* variables) away from the embedded one.

libpq and the server itself read them: PGSERVICE and PGOPTIONS make our connections fail, PGPORT moves the
server's socket, PGDATESTYLE changes what it answers. A connection string cannot overrule all of them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_PREFIX = "PG"


def pg_variables(environment: Mapping[str, str]) -> list[str]:
    """The names of the variables that PostgreSQL's programs and libraries may read, sorted."""
    return sorted(name for name in environment if name.startswith(_PREFIX))


def server_environment() -> dict[str, str]:
    """The environment of the embedded server, of its guardian and of initdb."""
    hidden = set(pg_variables(os.environ))
    ours = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**ours, "LC_ALL": "C", "TZ": "UTC"}


@contextmanager
def pg_variables_hidden() -> Iterator[None]:
    """Take the PG* variables out of this process's environment for as long as the block runs.

    libpq reads them whenever it connects, so this is the process's own matter, not one connection's: for use
    where all connections are to the embedded server. What was there is put back at the end.
    """
    hidden = {name: os.environ.pop(name) for name in pg_variables(os.environ)}
    try:
        yield
    finally:
        os.environ.update(hidden)
