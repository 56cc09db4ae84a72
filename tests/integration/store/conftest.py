"""One server for all tests of this folder that do not harm it, and a database each."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.store.servers import own_database, run_password_server, run_server, run_sql


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_server(tmp_path_factory.mktemp("server")) as url:
        # The machine is never switched off here: what the kernel has is as good as on the disk.
        run_sql(url, "ALTER SYSTEM SET fsync = off")
        run_sql(url, "SELECT pg_reload_conf()")
        yield url


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    with own_database(server_url) as url:
        yield url


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(scope="module")
def password_server() -> Iterator[str]:
    with run_password_server("s3cret") as url:
        yield url


@pytest.fixture
def password_url(password_server: str) -> str:
    with psycopg.connect(password_server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return password_server
