"""Before every test module: psycopg must not be imported before trio-asyncio, whichever test comes first."""

import pytest
import trio_asyncio  # noqa: F401  # replaces functions of asyncio that psycopg keeps when it is imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-s", default="75", help="How long the chaos test attacks, in seconds.")
    parser.addoption(
        "--seed", default=None, help="Of the chaos test and the simulations: a number, or 'random'."
    )
    parser.addoption("--seeds", default=20, type=int, help="How many seeds the simulations run with.")
