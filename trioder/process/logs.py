"""Logging of a whole process: structlog and the standard library's loggers, one line each, to stderr.

Modules use ``log = structlog.stdlib.get_logger(__name__)`` and ``log.info("message", key=value)``.
`trioder.process.queued_output` keeps a stalled reader of stderr from blocking the process.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import click
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from trioder.process.queued_output import QueuedText
from trioder.process.rfc3339 import format_ms

Command = TypeVar("Command", bound=Callable[..., object])
LogFormat = Literal["auto", "console", "json"]


class LogStream(Protocol):
    """A destination of log lines, such as a text file."""

    def write(self, text: str, /) -> object:
        """Write one or more whole lines."""

    def flush(self) -> object:
        """Write buffered lines."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOutput:
    """Where the log lines of the process go, for those that `log_lines` formats.

    Attributes:
        handler: writes the lines.
        as_json: one JSON object a line; otherwise plain text.
        colours: of plain text.
    """

    handler: logging.StreamHandler[LogStream]
    as_json: bool
    colours: bool

    def write(self, text: str) -> None:
        """Write whole lines in one piece; lines that cannot be written are lost."""
        self.handler.acquire()
        try:
            with suppress(OSError, ValueError):
                self.handler.stream.write(text)
                self.handler.stream.flush()
        finally:
            self.handler.release()


_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_CYAN = "\x1b[36m"
_LEVEL_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}


def logging_options(command: Command) -> Command:
    """Add --log-level and --log-format to a command, as `log_level` and `log_format`."""
    level = click.option(
        "--log-level",
        envvar="LOG_LEVEL",
        type=click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False),
        default="info",
        show_default=True,
        show_envvar=True,
        help="The least serious level that is logged.",
    )
    line_format = click.option(
        "--log-format",
        envvar="LOG_FORMAT",
        type=click.Choice(["auto", "console", "json"], case_sensitive=False),
        default="auto",
        show_default=True,
        show_envvar=True,
        help="json: one object a line; console: plain text; auto: that, in colour on a terminal.",
    )
    return level(line_format(command))


def configure_logging(*, level: str, format: LogFormat, stream: LogStream | None = None) -> LogOutput:  # noqa: A002  # the name of the option
    """Send every log line of the process to `stream`; safe to call again.

    Args:
        level: the least serious level that is logged; a standard library name, in any case.
        format: ``json`` is one JSON object a line; ``console`` is plain text with key=value;
            ``auto`` is that too, with colours on a terminal.
        stream: by default standard error.
    """
    stream = stream or sys.stderr
    colours = format == "auto" and _wants_colours(stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=_line_processors(format=format, colours=colours),
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if isinstance(sys.stderr, QueuedText):
        sys.stderr.queue.describe = lambda lines: _describe_dropped(handler, lines)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return LogOutput(handler=handler, as_json=format == "json", colours=colours)


def _describe_dropped(handler: logging.Handler, lines: int) -> str:
    """Return the log line that replaces dropped ones."""
    record = logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, f"{lines} log lines dropped: nobody read them", None, None
    )
    record.__dict__["lines"] = lines
    return handler.format(record) + "\n"


def _line_processors(*, format: LogFormat, colours: bool) -> list[Processor]:  # noqa: A002  # as above
    common: list[Processor] = [
        _add_record,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
    ]
    if format == "json":
        return [*common, structlog.processors.JSONRenderer(default=str)]
    return [*common, _ConsoleRenderer(colours=colours)]


def _wants_colours(stream: LogStream) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _add_record(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    record: logging.LogRecord = event_dict["_record"]
    return {
        "timestamp": format_ms(int(record.created * 1000)),
        "level": record.levelname.lower(),
        "logger": record.name,
        **event_dict,
    }


class _ConsoleRenderer:
    """Writes ``time LEVEL logger: event key=value ...``, and below it the traceback, if any.

    Line breaks and control characters in values are escaped.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
        level = str(event_dict.pop("level"))
        timestamp = str(event_dict.pop("timestamp"))
        head = console_head(timestamp, level, str(event_dict.pop("logger")), colours=self._colours)
        message = _one_line(str(event_dict.pop("event", "")))
        blocks = [str(event_dict.pop(key)) for key in ("stack", "exception") if key in event_dict]
        pairs = [
            f"{console_key(key, colours=self._colours)}={console_value(value)}"
            for key, value in event_dict.items()
        ]
        return "\n".join([" ".join([head, message, *pairs]), *blocks])


def console_head(timestamp: str, level: str, logger: str, *, colours: bool) -> str:
    """Return how a plain line begins, up to its message."""
    painted = [
        _paint(timestamp, _DIM, colours=colours),
        _paint(f"{level.upper():<8}", _LEVEL_COLOURS.get(level, ""), colours=colours),
        _paint(f"{logger}:", _DIM, colours=colours),
    ]
    return " ".join(painted)


def console_key(key: str, *, colours: bool) -> str:
    """Return the key of a pair."""
    return _paint(_one_line(key), _CYAN, colours=colours)


def console_value(value: object) -> str:
    """Return the value of a pair: on one line, quoted where it could be read as several pairs."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text.isprintable() and text and not set(text) & set(" \"'=") else repr(text)


def _paint(text: str, colour: str, *, colours: bool) -> str:
    return f"{colour}{text}{_RESET}" if colours and colour else text


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
