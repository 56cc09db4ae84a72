"""Signals need a process of their own; these are real ones."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

PROGRAM = """
import sys, time, trio
from trioder.process.logs import configure_logging
from trioder.process.signals import open_stop_signal

configure_logging(level="critical", format="json")

async def main():
    async with open_stop_signal() as stop:
        print("ready", flush=True)
        if "{mode}" == "stuck":
            while True:
                time.sleep(0.05)
        await stop.requested.wait()
        print("asked", flush=True)
        if "{mode}" == "slow":
            await trio.sleep(60)

trio.run(main)
"""


async def line_from(stream: trio.abc.ReceiveStream) -> bytes:
    line = b""
    while (byte := await stream.receive_some(1)) not in (b"\n", b""):
        line += byte
    return line


@asynccontextmanager
async def running(mode: str, *within: str) -> AsyncIterator[tuple[trio.Process, trio.abc.ReceiveStream]]:
    """Yield the program, ready for signals; bounded, and ended whatever the test does. `within` runs it."""
    process = await trio.lowlevel.open_process(
        [*within, sys.executable, "-c", PROGRAM.replace("{mode}", mode)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(60):
            assert await line_from(process.stdout) == b"ready"
            yield process, process.stdout
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_for_an_orderly_stop(number: signal.Signals) -> None:
    async with running("quick") as (process, _):
        process.send_signal(number)
        assert await process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_second_signal_ends_the_process(number: signal.Signals) -> None:
    async with running("slow") as (process, output):
        process.send_signal(signal.SIGTERM)
        assert await line_from(output) == b"asked"
        process.send_signal(number)
        assert await process.wait() == 1


async def test_the_second_signal_ends_a_process_whose_loop_hangs() -> None:
    async with running("stuck") as (process, _):
        process.send_signal(signal.SIGTERM)
        # Two equal signals could merge into one while the first is pending.
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 1


async def test_a_sigint_that_was_ignored_at_the_start_stays_ignored_and_sigterm_counts() -> None:
    async with running("slow", "sh", "-c", "trap '' INT TERM; exec \"$@\"", "sh") as (process, output):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        # Had either of the first two counted, this would be the second signal or the third.
        assert await line_from(output) == b"asked"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 1


async def test_nohup_keeps_a_program_from_ending_with_its_terminal() -> None:
    async with running("quick", "sh", "-c", "trap '' HUP; exec \"$@\"", "sh") as (process, _):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
