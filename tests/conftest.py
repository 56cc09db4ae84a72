"""Before every test module: psycopg must not be imported before trio-asyncio, whichever test comes first."""

import signal
from collections.abc import Iterator

import pytest
import trio_asyncio  # noqa: F401  # replaces functions of asyncio that psycopg keeps when it is imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-s", default="75", help="How long the chaos test attacks, in seconds.")
    parser.addoption(
        "--seed", default=None, help="Of the chaos test and the simulations: a number, or 'random'."
    )
    parser.addoption("--seeds", default=20, type=int, help="How many seeds the simulations run with.")


@pytest.fixture(autouse=True, scope="session")
def children_take_sigint() -> Iterator[None]:
    """Give every process that a test starts the default disposition of SIGINT.

    An ignored signal stays ignored across exec, and a suite that runs as a background job or under nohup may
    have it ignored: programs would then rightly not stop at it, and shells could not trap it. A handler, as
    Python's own, is reset to the default by exec. (`restore_signals` of subprocess leaves SIGINT alone.)
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
