"""One server for all tests of this folder that do not harm it, and a database each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.store.servers import own_database, run_server


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    with own_database(server_url) as url:
        yield url


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
