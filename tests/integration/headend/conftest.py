"""The authority of agents' certificates; each file of tests has its own."""

import pytest

from tests.certificates import TestAuthority


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()
