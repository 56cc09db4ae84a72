"""One Chromium for all browser tests of a process, and a system for those of a file."""

import os
import random
from collections.abc import Iterator

import pytest
import trio

from scripts.make_fleet import make_fleet
from tests.browser.chromium import MISSING, Chromium, find_chromium, open_chromium
from tests.browser.consoles import Console, open_console
from tests.browser.records import Records, make_records
from tests.e2e.processes import ROOT
from trioder.domain.access import Role
from trioder.domain.fleet import Fleet
from trioder.fleet import load_fleet

# Role and tenant by the name of the token.
TOKENS: dict[str, tuple[Role, str]] = {
    "viewer": ("viewer", "default"),
    "operator": ("operator", "default"),
    "admin": ("admin", "default"),
    "guest": ("operator", "elsewhere"),
    "to revoke": ("viewer", "default"),
    "to expire": ("viewer", "default"),
}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Return a running Chromium; without one the tests skip, or fail if REQUIRE_BROWSER says so."""
    if find_chromium() is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER is 1, but: {MISSING}")
        pytest.skip(MISSING)
    with open_chromium() as running:
        yield running


# Chromium comes first in each: without one, nothing else is started.
@pytest.fixture(scope="session")
def console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Return a console of the default fleet, with a database; access is open. The last asset has tripped."""
    folder = tmp_path_factory.mktemp("full")
    fleet = load_fleet(ROOT / "assets.yaml")
    with open_console(folder, fleet, trips=fleet.assets[-1].id) as running:
        yield running


@pytest.fixture(scope="session")
def records(console: Console) -> Records:
    """Return records that the console's fleet has."""
    return trio.run(make_records, console)


@pytest.fixture(scope="module")
def small_console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Return a console of six assets, without a database; access is open. The tests of a file share it."""
    folder = tmp_path_factory.mktemp("small")
    with open_console(folder, small_fleet(), tick_s=0.5, database_url="none") as running:
        yield running


@pytest.fixture(scope="module")
def access_console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Return a console of six assets, without a database, that needs a token."""
    folder = tmp_path_factory.mktemp("access")
    with open_console(folder, small_fleet(), tick_s=0.5, database_url="none", tokens=TOKENS) as running:
        yield running


def small_fleet() -> Fleet:
    return make_fleet(6, random.Random(1))
