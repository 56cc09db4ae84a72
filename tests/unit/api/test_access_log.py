"""The request log: its lines are those that the process's log would write, in batches."""

import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.unit.api.rest import open_rest
from trioder.api import AccessLog, RestOptions, open_access_log
from trioder.process.logs import LogFormat, configure_logging
from trioder.process.queued_output import OutputQueue, QueuedText, flush_standard_error

REQUEST: dict[str, Any] = {
    "method": "GET",
    "raw_path": b"/assets",
    "status": 200,
    "duration_s": 0.00123,
    "client": ("127.0.0.1", 4711),
    "request_id": "abc",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def keep_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configuration = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.configure(**configuration)


def ids(stream: io.StringIO) -> list[str]:
    return [line.rpartition("request_id=")[2] for line in stream.getvalue().splitlines()]


requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "M-SEARCH"]),
        "raw_path": st.one_of(st.binary(max_size=300), st.just(b"/a=b/%0d%0a'\"")),
        "status": st.sampled_from([0, 200, 304, 404, 503]),
        "duration_s": st.floats(0, 1e6),
        "client": st.sampled_from([None, ("::1", 4711), ("127.0.0.1", 1)]),
        "request_id": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True),
        "principal": st.one_of(st.none(), st.text(max_size=20)),
    }
)


@pytest.mark.parametrize("style", ["auto", "console", "json"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(request=requests, unix_s=st.floats(0, 4e9))
def test_a_line_is_as_structlog_would_print_it(
    monkeypatch: pytest.MonkeyPatch, style: LogFormat, request: dict[str, Any], unix_s: float
) -> None:
    batched, at_once = Terminal(), Terminal()
    monkeypatch.setattr(time, "time", lambda: unix_s)
    monkeypatch.setattr(time, "time_ns", lambda: int(unix_s * 1e9))

    async def write() -> None:
        async with open_access_log(
            configure_logging(level="info", format=style, stream=batched), "all"
        ) as log:
            log.add(**request)

    trio.run(write)
    configure_logging(level="info", format=style, stream=at_once)
    path = request["raw_path"].decode("ascii", "backslashreplace")
    client, principal = request["client"], request["principal"]
    # A new logger: that of the module would keep this configuration.
    structlog.stdlib.get_logger("trioder.api.http.request_log").info(
        "request",
        method=request["method"],
        path=path if len(path) <= 256 else path[:253] + "...",
        status=request["status"] or "client left",
        duration_ms=round(request["duration_s"] * 1000, 1),
        peer=f"{client[0]}:{client[1]}" if client else "",
        request_id=request["request_id"],
        **({} if principal is None else {"principal": principal}),
    )
    assert batched.getvalue() == at_once.getvalue()
    assert batched.getvalue().count("\n") == 1


async def test_lines_are_written_in_one_piece_50_ms_after_the_first(autojump_clock: object) -> None:
    pieces: list[str] = []

    class Pieces(io.StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return len(text)

    output = configure_logging(level="info", format="console", stream=Pieces())
    async with open_access_log(output, "all") as log:
        for batch in range(2):
            for number in range(3):
                log.add(**REQUEST | {"request_id": f"{batch}-{number}"})
            await trio.sleep(0.049)
            assert len(pieces) == batch
            await trio.sleep(0.002)
            assert [line.rpartition("=")[2] for line in pieces[batch].splitlines()] == [
                f"{batch}-{number}" for number in range(3)
            ]


async def test_a_line_has_the_time_of_its_request(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    async with open_access_log(configure_logging(level="info", format="json", stream=stream), "all") as log:
        monkeypatch.setattr(time, "time", lambda: 1_767_225_600.25)
        log.add(**REQUEST)
        monkeypatch.setattr(time, "time", lambda: 1_767_225_700.0)
    assert stream.getvalue().startswith('{"timestamp": "2026-01-01T00:00:00.250Z"')


async def test_what_is_pending_is_written_when_the_block_crashes(autojump_clock: object) -> None:
    stream = io.StringIO()

    async def crash() -> None:
        output = configure_logging(level="info", format="console", stream=stream)
        async with open_access_log(output, "all") as log:
            log.add(**REQUEST | {"request_id": "1"})
            log.add(**REQUEST | {"request_id": "2"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await crash()
    assert ids(stream) == ["1", "2"]


async def test_what_is_pending_is_written_before_the_process_ends_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stderr", QueuedText(OutputQueue(writing)))
    async with open_access_log(configure_logging(level="info", format="console"), "all") as log:
        log.add(**REQUEST)
        flush_standard_error(within_s=5)
        os.set_blocking(reading, False)
        assert b"request_id=abc" in os.read(reading, 10_000)


async def test_beyond_the_bound_lines_are_written_at_once(autojump_clock: object) -> None:
    stream = io.StringIO()
    async with open_access_log(
        configure_logging(level="info", format="console", stream=stream), "all"
    ) as log:
        for number in range(1_100):
            log.add(**REQUEST | {"request_id": str(number)})
        assert ids(stream) == [str(number) for number in range(1_000)]
    assert ids(stream) == [str(number) for number in range(1_100)]


async def test_a_level_above_info_has_no_lines(autojump_clock: object) -> None:
    stream = io.StringIO()
    async with open_access_log(
        configure_logging(level="warning", format="json", stream=stream), "all"
    ) as log:
        log.add(**REQUEST)
    assert stream.getvalue() == ""


async def test_a_stream_that_is_closed_stops_nothing(autojump_clock: object) -> None:
    stream = io.StringIO()
    async with open_access_log(configure_logging(level="info", format="json", stream=stream), "all") as log:
        log.add(**REQUEST)
        stream.close()
        await trio.sleep(1)


@pytest.mark.parametrize(
    ("scope", "logged"), [("all", [200, 304, 400, 404, 500, 503]), ("errors", [400, 404, 500, 503])]
)
def test_errors_are_4xx_and_5xx(scope: Any, logged: list[int]) -> None:
    with capture_logs() as lines:
        log = AccessLog(scope)
        for status in (200, 304, 400, 404, 500, 503):
            log.add(**REQUEST | {"status": status})
    assert [line["status"] for line in lines] == logged


async def test_the_application_logs_errors_alone_where_asked(autojump_clock: object) -> None:
    async with open_rest(options=RestOptions(access_log="errors")) as rest:
        with capture_logs() as lines:
            await rest.raw("GET", "/assets")
            await rest.raw("GET", "/nowhere")
        assert [line["path"] for line in lines if line["event"] == "request"] == ["/nowhere"]
