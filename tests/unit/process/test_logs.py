import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from trioder.process.logs import LogFormat, configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def keep_configuration() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configuration = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.configure(**configuration)


def logged(style: LogFormat, *, level: str = "info", stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    configure_logging(level=level, format=style, stream=stream)
    return stream


def logger() -> structlog.stdlib.BoundLogger:
    return structlog.stdlib.get_logger("trioder.test")


def test_a_console_line_has_a_message_and_pairs() -> None:
    stream = logged("console")
    logger().info("agent connected", asset="Moss Landing", mw=12.3456789, count=3, empty="")
    line = stream.getvalue().split(" ", 1)[1]
    assert line == "INFO     trioder.test: agent connected asset='Moss Landing' mw=12.3457 count=3 empty=''\n"


def test_a_json_line_has_every_key() -> None:
    stream = logged("json")
    logger().warning("agent gone", asset_id="a", mw=0.1)
    entry = json.loads(stream.getvalue())
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "level": "warning",
        "logger": "trioder.test",
        "event": "agent gone",
        "asset_id": "a",
        "mw": 0.1,
    }


def test_a_json_line_takes_any_value() -> None:
    stream = logged("json")
    logger().info("odd", value=object(), many={1, 2})
    assert "object at" in json.loads(stream.getvalue())["value"]


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_value_never_breaks_the_line_nor_reaches_the_terminal(style: LogFormat) -> None:
    stream = logged(style)
    logger().info("bad\nwords", reason="one\ntwo \x1b[31m", **{"k\ney": 1})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("style", ["console", "json"])
def test_loggers_of_the_standard_library_write_the_same_format(style: LogFormat) -> None:
    stream = logged(style)
    logging.getLogger("hypercorn.error").info("running on %s", "a port", extra={"peer": "b"})
    line = stream.getvalue()
    assert "running on a port" in line
    assert ("peer=b" if style == "console" else '"peer": "b"') in line


@pytest.mark.parametrize("style", ["console", "json"])
def test_an_exception_is_logged_with_its_traceback(style: LogFormat) -> None:
    stream = logged(style)
    try:
        raise ValueError("broken")
    except ValueError:
        logger().exception("failed")
    text = stream.getvalue()
    assert "Traceback" in text
    assert "ValueError: broken" in text
    assert text.count("\n") == 1 or style == "console"


def test_below_the_level_nothing_is_logged() -> None:
    stream = logged("console", level="WARNING")
    logger().info("quiet")
    logging.getLogger("trio").info("quiet")
    assert stream.getvalue() == ""


def test_auto_has_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = logged("auto", stream=Terminal())
    logger().info("hello", key="value")
    assert "\x1b[36mkey\x1b[0m=value" in stream.getvalue()


@pytest.mark.parametrize(("style", "terminal"), [("console", True), ("auto", False), ("json", True)])
def test_elsewhere_there_are_none(style: LogFormat, terminal: bool) -> None:
    stream = logged(style, stream=Terminal() if terminal else io.StringIO())
    logger().error("hello", key="value")
    assert "\x1b" not in stream.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = logged("auto", stream=Terminal())
    logger().info("hello")
    assert "\x1b" not in stream.getvalue()


def test_warnings_are_log_lines() -> None:
    stream = logged("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert json.loads(stream.getvalue())["logger"] == "py.warnings"


def test_configuring_again_replaces_the_first() -> None:
    first = logged("console")
    second = logged("console")
    logger().info("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)
