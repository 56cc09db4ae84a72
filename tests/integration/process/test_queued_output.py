"""Output that nobody reads, over real pipes and terminals: the writer goes on, what is lost is counted."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from trioder.process.queued_output import OutputQueue, QueuedText

WITHIN_S = 20.0
LINE = "{:06d} " + "x" * 93 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end."""
    reader, writer = os.pipe()
    yield reader, writer
    with suppress(OSError):
        os.close(reader)
    os.close(writer)


@contextmanager
def queued(pipe: tuple[int, int], **options: int) -> Iterator[QueuedText]:
    """Yield a stream into the pipe, whose thread is idle afterwards: without a reader nothing blocks it."""
    queue = OutputQueue(pipe[1], **options)
    try:
        yield QueuedText(queue)
    finally:
        with suppress(OSError):
            os.close(pipe[0])
        assert queue.flush(within_s=WITHIN_S, stalled_after_s=WITHIN_S)


def until(condition: object) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def read_lines(reader: int, *, last: str) -> list[str]:
    """Read until a line with this text."""
    data = b""
    while not (data.endswith(b"\n") and last.encode() in data.splitlines()[-1]):
        data += os.read(reader, 1 << 20)
    return data.decode().splitlines()


def fill(writer: int) -> int:
    """Fill a pipe to its brim; return how many bytes that took."""
    os.set_blocking(writer, False)
    size = 0
    with suppress(BlockingIOError):
        while True:
            size += os.write(writer, b"." * 4096)
    with suppress(BlockingIOError):
        while True:
            size += os.write(writer, b".")
    os.set_blocking(writer, True)
    return size


def test_lines_arrive_in_order(pipe: tuple[int, int]) -> None:
    with queued(pipe) as stream:
        for number in range(500):
            stream.write(LINE.format(number))
        assert stream.queue.flush(within_s=WITHIN_S)
        lines = read_lines(pipe[0], last="000499")
        assert lines == [LINE.format(number)[:-1] for number in range(500)]
        assert stream.queue.lines_dropped == 0


def test_a_writer_never_waits_the_oldest_go_and_a_note_takes_their_place(pipe: tuple[int, int]) -> None:
    with queued(pipe, max_bytes=50_000) as stream:
        for number in range(20_000):
            stream.write(LINE.format(number))
        assert stream.queue.lines_dropped > 18_000
        lines = read_lines(pipe[0], last="019999")
        assert stream.queue.flush(within_s=WITHIN_S)
        notices = [(at, line) for at, line in enumerate(lines) if "dropped" in line]
        assert notices
        assert sum(int(line.split()[0]) for _, line in notices) == stream.queue.lines_dropped
        for at, notice in notices:
            before = int(lines[at - 1][:6]) if at else -1
            assert int(lines[at + 1][:6]) - before - 1 == int(notice.split()[0])
        numbers = [int(line[:6]) for line in lines if "dropped" not in line]
        assert numbers == sorted(set(numbers))
        assert len(numbers) + stream.queue.lines_dropped == 20_000


def test_a_reader_that_is_gone_costs_the_lines_alone(pipe: tuple[int, int]) -> None:
    with queued(pipe) as stream:
        os.close(pipe[0])
        for number in range(100):
            stream.write(LINE.format(number))
        assert stream.queue.flush(within_s=WITHIN_S)
        assert stream.queue.lines_dropped == 100


def test_a_full_device_is_noted_once_it_has_room(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    full = True
    write = os.write

    def write_if_room(descriptor: int, data: bytes) -> int:
        if full and descriptor == pipe[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_if_room)
    with queued(pipe) as stream:
        stream.write("one\ntwo\n")
        until(lambda: stream.queue.lines_dropped == 2)
        full = False
        stream.write("three\n")
        assert read_lines(pipe[0], last="three") == ["2 log lines dropped", "three"]


def test_a_descriptor_that_others_made_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    with queued(pipe) as stream:
        for number in range(5000):
            stream.write(LINE.format(number))
        assert len(read_lines(pipe[0], last="004999")) == 5000


def test_flushing_is_bounded_when_nobody_reads(pipe: tuple[int, int]) -> None:
    fill(pipe[1])
    with queued(pipe) as stream:
        stream.write("never\n")
        assert not stream.queue.flush(within_s=0.2)
        assert not stream.queue.flush(within_s=WITHIN_S, stalled_after_s=0.05)


def test_a_line_above_the_bound_is_dropped_by_itself(pipe: tuple[int, int]) -> None:
    with queued(pipe, max_bytes=1000) as stream:
        stream.write("x" * 2000 + "\n")
        stream.write("short\n")
        assert read_lines(pipe[0], last="short") == ["1 log lines dropped", "short"]


# What follows runs a program of its own.

PROGRAM = """
import sys, time, trio
from trioder.process.logs import configure_logging
from trioder.process.queued_output import queue_standard_error
from trioder.process.signals import open_stop_signal
import logging

queue_standard_error()
configure_logging(level="info", format="json")

async def main():
    async with open_stop_signal() as stop:
        print("ready", flush=True)
        if "{mode}" == "crashes":
            raise ValueError("out of luck")
        with trio.move_on_after(60):
            while True:
                for number in range(200):
                    logging.info("line %d " + "x" * 100, number)
                if stop.requested.is_set():
                    break
                await trio.sleep(0.001)
        if "{mode}" == "slow":
            print("asked", flush=True)
            await trio.sleep(60)

if "{mode}" == "usage":
    import click
    raise click.UsageError("no such thing").show() or SystemExit(2)
trio.run(main)
"""


@contextmanager
def running(mode: str, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{mode}", mode)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def test_a_process_with_an_unread_log_stops_on_request(pipe: tuple[int, int]) -> None:
    fill(pipe[1])
    with running("quick", pipe[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(10) == 0


def test_the_second_signal_ends_a_process_whose_log_nobody_reads(pipe: tuple[int, int]) -> None:
    fill(pipe[1])
    with running("slow", pipe[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 1


def test_a_crash_leaves_its_traceback_and_does_not_wait_for_a_reader(pipe: tuple[int, int]) -> None:
    with running("crashes", subprocess.PIPE) as process:
        assert process.stderr is not None
        text = process.stderr.read().decode()
        assert process.wait(WITHIN_S) == 1
    assert text.startswith("Traceback")
    assert text.rstrip().endswith("ValueError: out of luck")
    fill(pipe[1])
    with running("crashes", pipe[1]) as process:
        assert process.wait(WITHIN_S) == 1


def test_a_usage_error_is_printed() -> None:
    with running("usage", subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"Error: no such thing\n"
        assert process.wait(WITHIN_S) == 2


def test_a_log_that_flows_again_reports_how_much_was_dropped(pipe: tuple[int, int]) -> None:
    filled = fill(pipe[1])
    with running("quick", pipe[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # More than the queue holds, for its lines are 200 bytes: seen by what is there afterwards.
        time.sleep(0.5)
        text = b""
        while not re.search(rb'"lines": (\d+)', text):
            text += os.read(pipe[0], 1 << 20)
        process.terminate()
        os.set_blocking(pipe[0], False)
        while process.poll() is None:
            with suppress(BlockingIOError):
                os.read(pipe[0], 1 << 20)
        assert process.returncode == 0
    found = re.search(rb'"event": "(\d+) log lines dropped: nobody read them".*"lines": (\d+)', text[filled:])
    assert found is not None
    assert found[1] == found[2]


def test_a_closed_standard_error_is_never_written_to(tmp_path: object) -> None:
    program = (
        "import os, sys, logging\n"
        f"{PROGRAM.partition('async def main')[0]}\n"
        f"file = os.open({str(tmp_path) + '/data'!r}, os.O_RDWR | os.O_CREAT)\n"
        "logging.error('into nothing')\n"
        "sys.stderr.write('nothing either')\n"
        "print(file)\n"
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        timeout=WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0
    with open(f"{tmp_path}/data", "rb") as file:  # noqa: PTH123
        assert file.read() == b""
