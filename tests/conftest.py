"""Before every test module: the import order of psycopg and trio-asyncio, signals, and the end of a run."""

import gc
import os
import re
import signal
import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import structlog
import trio_asyncio  # noqa: F401  # replaces functions of asyncio that psycopg keeps when it is imported

# In the environment of every process that a run starts.
_RUN = "TRIODER_TEST_RUN"
_STOP_WITHIN_S = 10.0
# By how long they take; if one of them came last, a single process would end the run.
_LONGEST_FILES = (
    "e2e/test_chaos.py",
    "simulation/test_hour.py",
    "integration/scripts/test_bench.py",
    "e2e/test_scenario.py",
    "simulation/test_outage_memory.py",
    "simulation/test_lying_agents.py",
    "simulation/test_exactly_once.py",
    "simulation/test_scenarios.py",
)

# What is imported and collected stays until the end; to visit it again and again takes a sixth of a run.
gc.disable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-s", default="75", help="How long the chaos test attacks, in seconds.")
    parser.addoption(
        "--seed", default=None, help="Of the chaos test and the simulations: a number, or 'random'."
    )
    parser.addoption("--seeds", default=20, type=int, help="How many seeds the simulations run with.")


def pytest_configure(config: pytest.Config) -> None:
    # Where rich is installed, structlog would draw tracebacks with all variables: seconds for each.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    if not is_worker(config):
        os.environ[_RUN] = uuid.uuid4().hex
        # Otherwise neither fixtures nor what follows below would run.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End whatever a run leaves behind that was interrupted or whose worker crashed."""
    if not is_worker(config):
        end_processes(os.environ.pop(_RUN))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest files, where files run beside each other."""
    if is_worker(config):
        tests = Path(__file__).parent
        places = {tests / file: place for place, file in enumerate(_LONGEST_FILES)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End the run at an interrupt that a nursery has wrapped, which would otherwise be one test's failure."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt) is not None:
        item.session.shouldstop = "interrupted"
    return (yield)


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of the processes of pytest-xdist."""
    return hasattr(config, "workerinput")


def end_processes(run: str) -> None:
    left = [process for process in psutil.process_iter() if _belongs_to(process, run)]
    # Watchdogs stop their servers at SIGTERM.
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=_STOP_WITHIN_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _belongs_to(process: psutil.Process, run: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(_RUN) == run
    except psutil.Error:  # it has ended, or is another user's
        return False


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a short name: a socket below it has at most 103 bytes, also in a worker."""
    name = re.sub(r"\W", "_", request.node.name.removeprefix("test_"))
    return tmp_path_factory.mktemp(name[:10])


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
