"""An agent whose standard output and error nobody reads, as under a launcher that is stopped or hangs."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import trio

from tests.integration.agent.test_outbox_on_disk import (
    Database,
    open_headend_at,
    shard_line,
    until,
)
from tests.ports import free_port
from tests.unit.headend.parts import asset_id, make_fleet
from trioder.domain.dispatch import DispatchRequest

WITHIN_S = 60


def full_pipe() -> tuple[int, int]:
    """A pipe without room for one more byte."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"." * size)
    os.set_blocking(writer, True)
    return reader, writer


async def test_its_lease_ends_in_time_and_it_stops_on_request(tmp_path: Path) -> None:
    fleet, port, database = make_fleet(1), free_port(), Database()
    pipes = [full_pipe(), full_pipe()]
    with trio.fail_after(WITHIN_S):
        async with open_headend_at(port, fleet, database) as headend:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "trioder.agent", "--stdin", "--log-level", "debug"],
                stdin=subprocess.PIPE,
                stdout=pipes[0][1],
                stderr=pipes[1][1],
            )
            try:
                assert process.stdin is not None
                await process.stdin.send_all(shard_line(fleet, port, tmp_path))
                await until(lambda: len(database.batches) > 0)
                headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=5.0, duration_s=1))
                await until(lambda: 5.0 in database.batches[-1][2].setpoint_mw)
                await until(lambda: 0.0 in database.batches[-1][2].setpoint_mw)
                process.send_signal(signal.SIGTERM)
                with trio.fail_after(10):
                    assert await process.wait() == 0
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                    await process.stdin.aclose()
    for descriptor in (*pipes[0], *pipes[1]):
        os.close(descriptor)
    times = [samples.ts_unix_ms for _, _, samples in database.batches if 5.0 in samples.setpoint_mw]
    assert times[-1] - times[0] <= 1000
