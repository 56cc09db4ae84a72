"""One Chromium for all browser tests of a process, and a system for those of a file."""

import json
import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import trio

from scripts.make_fleet import make_fleet
from tests.browser.chromium import MISSING, Chromium, find_chromium, open_chromium
from tests.browser.consoles import Console, open_console
from tests.browser.records import Records, make_records
from tests.e2e.processes import ROOT
from trioder.fleet import load_fleet


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
    scenario = folder / "scenario.json"
    actions = [{"do": "trip", "assets": {"ids": [fleet.assets[-1].id]}, "at_s": 5}]
    scenario.write_text(json.dumps({"name": "An asset trips", "actions": actions}))
    with open_console(folder, fleet, launcher={"SCENARIO": str(scenario)}) as running:
        yield running


@pytest.fixture(scope="session")
def records(console: Console) -> Records:
    """Return records that the console's fleet has."""
    return trio.run(make_records, console)


@pytest.fixture(scope="module")
def small_console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Return a console of six assets, without a database; access is open. The tests of a file share it."""
    with open_small_console(tmp_path_factory.mktemp("small")) as running:
        yield running


@pytest.fixture(scope="module")
def access_console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Return a console of six assets, without a database, that needs a token."""
    with open_small_console(tmp_path_factory.mktemp("access"), with_access=True) as running:
        yield running


def open_small_console(folder: Path, *, with_access: bool = False) -> AbstractContextManager[Console]:
    fleet = make_fleet(6, random.Random(1))
    return open_console(folder, fleet, tick_s=0.5, database_url="none", with_access=with_access)
