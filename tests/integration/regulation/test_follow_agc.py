"""The script as a process, against a stand-in of a headend on a real socket."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config

from tests.unit.regulation.stub_fleet import StubFleet

ROOT = Path(__file__).parents[3]
SCRIPT = "scripts/follow_agc.py"
WITHIN_S = 60.0


@asynccontextmanager
async def serving(fleet: StubFleet) -> AsyncIterator[str]:
    """Serve the fleet's REST on a free port; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = Config()
        # Its own, as it closes it.
        config.bind = [f"fd://{listener.dup().detach()}"]
        ended = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: hypercorn.trio.serve(fleet, config, shutdown_trigger=ended.wait, mode="asgi")
            )
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            ended.set()


async def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [sys.executable, SCRIPT, *arguments],
        cwd=ROOT,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


async def test_a_signal_is_followed_to_its_end_and_the_fleet_released(tmp_path: Path) -> None:
    fleet = StubFleet()
    with trio.fail_after(WITHIN_S):
        async with serving(fleet) as url:
            result = await run(
                *("--minutes", "0.2", "--speed", "4", "--mw", "10", "--headend", url),
                *("--output", str(tmp_path / "made" / "run-0.2")),
            )
    assert (result.returncode, result.stderr) == (0, b"")
    *_signal, (_at_s, last) = fleet.dispatches
    assert last["mw"] == 0.0
    report = json.loads((tmp_path / "made/run-0.2.json").read_text(encoding="utf-8"))
    assert report["sent"] + report["skipped"] == 6
    assert (report["failed"], report["capability_mw"]) == (0, 10.0)
    assert (tmp_path / "made/run-0.2.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "made/run-0.2.csv").read_text(encoding="utf-8").splitlines()) == 7


async def test_without_a_capability_it_is_half_of_what_the_fleet_can_do(tmp_path: Path) -> None:
    with trio.fail_after(WITHIN_S):
        async with serving(StubFleet(limit_mw=300.0)) as url:
            result = await run(
                *("--minutes", "0.1", "--speed", "4", "--headend", url, "--output", str(tmp_path / "half"))
            )
    assert b"1 per unit = 150.0 MW" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_of_the_system_ends_it_in_order_with_the_score_so_far(
    tmp_path: Path, number: signal.Signals
) -> None:
    fleet = StubFleet()
    with trio.fail_after(WITHIN_S):
        async with serving(fleet) as url, trio.open_nursery() as nursery:
            command = [sys.executable, SCRIPT, "--speed", "4", "--headend", url]
            process = await trio.lowlevel.open_process(
                [*command, "--output", str(tmp_path / "cut")],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                nursery.start_soon(signal_after, process, number, fleet, 3)
                assert process.stdout is not None
                async with process.stdout:
                    output = b"".join([chunk async for chunk in process.stdout])
                code = await process.wait()
            finally:
                process.kill()
    assert code == 0
    assert fleet.dispatches[-1][1]["mw"] == 0.0
    assert len(fleet.dispatches) < 100
    assert b"RMSE" in output
    assert (tmp_path / "cut.png").exists()


async def signal_after(
    process: trio.Process, number: signal.Signals, fleet: StubFleet, dispatches: int
) -> None:
    while len(fleet.dispatches) < dispatches:
        await trio.sleep(0.05)
    process.send_signal(number)


async def test_without_a_headend_the_failure_names_its_url(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with trio.fail_after(WITHIN_S):
        result = await run("--headend", f"http://127.0.0.1:{port}", "--output", str(tmp_path / "none"))
    assert result.returncode == 1
    assert f"Error: http://127.0.0.1:{port}: GET /fleet: ".encode() in result.stderr


async def test_a_refused_dispatch_is_reported(tmp_path: Path) -> None:
    with trio.fail_after(WITHIN_S):
        async with serving(StubFleet(refuse="not today")) as url:
            result = await run(
                *("--minutes", "0.1", "--speed", "4", "--headend", url, "--output", str(tmp_path / "no"))
            )
    assert b"first failure: POST /dispatch: 400: not today" in result.stdout


@pytest.mark.parametrize("missing", ["matplotlib", "httpx2"])
async def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(missing: str) -> None:
    program = f"import runpy, sys; sys.modules[{missing!r}] = None; runpy.run_path({SCRIPT!r})"
    with trio.fail_after(WITHIN_S):
        result = await trio.run_process(
            [sys.executable, "-c", program], cwd=ROOT, capture_stderr=True, check=False
        )
    assert result.returncode == 1
    assert f"needs {missing}, which is not installed".encode() in result.stderr
    assert b"--editable '.[plot]'" in result.stderr
