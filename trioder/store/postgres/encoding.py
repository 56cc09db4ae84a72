"""Databases that are not in UTF8: what works in them, and what is refused, in one sentence.

The server converts what is sent as UTF-8 into its own encoding. SQL_ASCII takes every byte as it is; others,
LATIN1 for one, have no room for every character.
"""

import re

import psycopg
import structlog

from trioder.domain.fleet import Fleet
from trioder.store.postgres.database import DatabaseError
from trioder.store.postgres.pg_connection import Connection

log = structlog.stdlib.get_logger(__name__)

# With these every text can be written.
_WHOLE = ("UTF8", "SQL_ASCII")
_REMEDY = "make a database with ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"


def encoding_of(connection: Connection) -> str:
    """The encoding of the database itself, as PostgreSQL names it."""
    return connection.info.parameter_status("server_encoding") or "unknown"


def warn_of_encoding(connection: Connection) -> None:
    """Log what may be lost in a database of this encoding."""
    encoding = encoding_of(connection)
    if encoding not in _WHOLE:
        log.warning(
            "the database is not in UTF8: records with a text that it cannot hold are dropped and counted",
            encoding=encoding,
            remedy=_REMEDY,
        )


def names_refused(
    connection: Connection, error: psycopg.errors.UntranslatableCharacter, fleet: Fleet
) -> DatabaseError:
    """The error of a fleet with a name that the database cannot hold; names the first of them."""
    # byte sequence 0xe9 0x9b 0xbb in encoding "UTF8"; in every language of the server.
    sequence = re.search(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*", str(error))
    character = ""
    if sequence is not None:
        character = bytes.fromhex(sequence[0].replace("0x", "")).decode(errors="replace")
    texts = [text for site in fleet.sites for text in (site.name, site.location)]
    texts += [text for asset in fleet.assets for text in (asset.name, asset.location)]
    name = next((text for text in texts if character and character in text), "?")
    return DatabaseError(
        f"the database's encoding is {encoding_of(connection)}, which cannot hold the name {name!r} of the "
        f"fleet file; UTF8 can: {_REMEDY}"
    )
