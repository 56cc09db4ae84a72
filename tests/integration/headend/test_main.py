"""The headend as a process: what it refuses to start with, and how it says so."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import trio

from tests.unit.headend.parts import make_fleet
from trioder.fleet import dump_fleet

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "assets.yaml"
    path.write_text(dump_fleet(make_fleet(2), form="yaml"))
    return path


@pytest.fixture
def faulty_fleet_file(fleet_file: Path) -> Path:
    fleet_file.write_text(re.sub(r"max_mw: \S+", "max_mw: -20.0", fleet_file.read_text()))
    return fleet_file


def variables(fleet_file: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "ASSETS_PATH": str(fleet_file),
        "HEADEND_HTTP_ADDR": "127.0.0.1:0",
        "HEADEND_GRPC_ADDR": "127.0.0.1:0",
        "DATABASE_URL": "none",
        **more,
    }


async def refused(env: dict[str, str]) -> str:
    """Run a headend that must not start, and return its error output."""
    with trio.fail_after(20):
        ended = await trio.run_process(
            [sys.executable, "-m", "trioder.headend"], env=env, cwd=ROOT, capture_stderr=True, check=False
        )
    assert ended.returncode == 2
    return ended.stderr.decode()


@asynccontextmanager
async def running(
    env: dict[str, str], *, descriptors: int | None = None
) -> AsyncIterator[tuple[trio.Process, dict[str, str]]]:
    """Yield a headend that is ready, and its addresses by protocol; it may open so many `descriptors`."""

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with trio.fail_after(30):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trioder.headend"],
            env=env,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            preexec_fn=limit,
        )
        try:
            assert process.stderr is not None
            said = b""
            while b"headend ready" not in said:
                said += await process.stderr.receive_some()
            yield process, dict(re.findall(r"(http|grpc)_addr\W+([\w.:]+)", said.decode()))
        finally:
            process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()
                await process.stderr.aclose()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_on_request(fleet_file: Path, signum: signal.Signals) -> None:
    async with running(variables(fleet_file)) as (process, _):
        process.send_signal(signum)
        # Nothing is under way: there is no reason to use up the grace, of 3.5 s.
        with trio.fail_after(3):
            assert await process.wait() == 0


async def health(http: str) -> dict[str, object]:
    def ask() -> dict[str, object]:
        with urlopen(f"http://{http}/health", timeout=5) as answer:
            return json.load(answer)

    return await trio.to_thread.run_sync(ask)


async def test_a_hangup_reloads_the_fleet_file(fleet_file: Path) -> None:
    async with running(variables(fleet_file)) as (process, addresses):
        fleet_file.write_text(dump_fleet(make_fleet(3), form="yaml"))
        process.send_signal(signal.SIGHUP)
        with trio.fail_after(10):
            while (await health(addresses["http"]))["assets"] != 3:
                await trio.sleep(0.02)


@pytest.mark.parametrize(
    ("taken", "variable"), [("http", "HEADEND_HTTP_ADDR"), ("grpc", "HEADEND_GRPC_ADDR")]
)
async def test_a_port_in_use_is_named(fleet_file: Path, taken: str, variable: str) -> None:
    async with running(variables(fleet_file)) as (_, addresses):
        said = await refused(variables(fleet_file, **{variable: addresses[taken]}))
    assert f"{variable} {addresses[taken]}" in said
    assert "in use" in said


async def test_an_address_that_is_not_ours_is_named(fleet_file: Path) -> None:
    said = await refused(variables(fleet_file, HEADEND_GRPC_ADDR="192.0.2.1:0", HEADEND_INSECURE="1"))
    assert "HEADEND_GRPC_ADDR 192.0.2.1:0 cannot be listened on" in said


async def test_every_fault_of_the_fleet_file_is_reported(faulty_fleet_file: Path) -> None:
    said = await refused(variables(faulty_fleet_file))
    assert "2 faults" in said
    assert said.count("max_mw") >= 2
    assert str(faulty_fleet_file) in said


async def test_a_missing_fleet_file_is_reported(tmp_path: Path) -> None:
    said = await refused(variables(tmp_path / "none.yaml"))
    assert "none.yaml" in said


async def test_a_database_that_is_not_understood_is_refused_without_its_password(fleet_file: Path) -> None:
    said = await refused(variables(fleet_file, DATABASE_URL="mysql://user:secret@db/trioder"))
    assert "DATABASE_URL must be 'embedded', 'none', or start with postgresql://" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADEND_TICK_S", "nan"),
        ("HEADEND_TICK_S", "-1"),
        ("STALE_AFTER_S", "inf"),
        ("HEADEND_HTTP_ADDR", "3001"),
        ("HEADEND_GRPC_ADDR", "localhost:99999"),
    ],
)
async def test_a_value_out_of_range_is_refused(fleet_file: Path, variable: str, value: str) -> None:
    said = await refused(variables(fleet_file, **{variable: value}))
    assert value in said


async def test_too_few_open_files_for_the_fleet_are_reported(fleet_file: Path) -> None:
    env = variables(fleet_file, HEADEND_HTTP_ADDR="192.0.2.1:1", HEADEND_INSECURE="1")
    headend = f"ulimit -n 128 && exec {sys.executable} -m trioder.headend"
    with trio.fail_after(20):
        ended = await trio.run_process(
            ["sh", "-c", headend], env=env, cwd=ROOT, capture_stderr=True, check=False
        )
    assert "limit=128 needed=200 assets=2" in ended.stderr.decode()


async def test_rest_answers_only_for_the_hosts_that_are_named(fleet_file: Path) -> None:
    async with running(variables(fleet_file, HEADEND_HTTP_HOSTS="headend.example, [::1]:80")) as (
        _,
        addresses,
    ):
        address, port = addresses["http"].split(":")
        for host, status in (("headend.example:1", b"200"), ("[::1]", b"200"), ("127.0.0.1", b"421")):
            async with await trio.open_tcp_stream(address, int(port)) as stream:
                await stream.send_all(f"GET /health HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                assert status in (await stream.receive_some()).split(b"\r\n")[0]


async def test_a_host_that_is_none_is_named(fleet_file: Path) -> None:
    said = await refused(variables(fleet_file, HEADEND_HTTP_HOSTS="localhost,http://x"))
    assert "'http://x' is not a host" in said


@pytest.mark.parametrize(("scope", "logged"), [("all", ["/health", "/nowhere"]), ("errors", ["/nowhere"])])
async def test_the_last_requests_are_logged_before_it_ends(
    fleet_file: Path, scope: str, logged: list[str]
) -> None:
    env = variables(fleet_file, ACCESS_LOG=scope, LOG_FORMAT="json")
    async with running(env) as (process, addresses):
        await health(addresses["http"])
        with pytest.raises(HTTPError, match="404") as unknown:
            await trio.to_thread.run_sync(urlopen, f"http://{addresses['http']}/nowhere")
        unknown.value.close()
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = b"".join([part async for part in process.stderr])
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["path"] for line in lines if line["event"] == "request"] == logged
