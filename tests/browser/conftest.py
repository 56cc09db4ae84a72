"""One Chromium for all browser tests of a process; each test has a browser context of its own."""

import os
from collections.abc import Iterator

import pytest

from tests.browser.chromium import MISSING, Chromium, find_chromium, open_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Return a running Chromium; without one the tests skip, or fail if REQUIRE_BROWSER says so."""
    if find_chromium() is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER is 1, but: {MISSING}")
        pytest.skip(MISSING)
    with open_chromium() as running:
        yield running
