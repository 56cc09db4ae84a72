"""Logging of a whole process: structlog and the standard library's loggers, one line each, to stderr.

Modules say ``log = structlog.stdlib.get_logger(__name__)`` and ``log.info("words", key=value)``. That a
stopped reader of stderr blocks nobody is the matter of `trioder.process.queued_output`.
"""

import logging
import os
import sys
from typing import Literal, Protocol

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from trioder.process.queued_output import QueuedText
from trioder.process.rfc3339 import format_ms

LogFormat = Literal["auto", "console", "json"]


class LogStream(Protocol):
    """What log lines are written to; a text file is one."""

    def write(self, text: str, /) -> object:
        """Write one or more whole lines."""

    def flush(self) -> object:
        """Write out what is held back."""

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""


_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_CYAN = "\x1b[36m"
_LEVEL_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}


def configure_logging(*, level: str, format: LogFormat, stream: LogStream | None = None) -> None:  # noqa: A002 - what the option is called
    """Send every log line of the process to `stream`; safe to call again.

    Args:
        level: a name of the standard library's, in any case; below it nothing is logged.
        format: ``json`` is one JSON object a line; ``console`` is plain text with key=value;
            ``auto`` is that too, with colours on a terminal.
        stream: standard error, unless given.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=_line_processors(format=format, colours=format == "auto" and _wants_colours(stream)),
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


def _describe_dropped(handler: logging.Handler, lines: int) -> str:
    """Return the log line that stands where lines are missing."""
    record = logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, f"{lines} log lines dropped: nobody read them", None, None
    )
    record.__dict__["lines"] = lines
    return handler.format(record) + "\n"


def _line_processors(*, format: LogFormat, colours: bool) -> list[Processor]:  # noqa: A002 - as above
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

    What peers and users sent never breaks the line nor reaches the terminal as control characters.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
        level = str(event_dict.pop("level"))
        head = self._paint(str(event_dict.pop("timestamp")), _DIM)
        head += " " + self._paint(f"{level.upper():<8}", _LEVEL_COLOURS.get(level, ""))
        head += " " + self._paint(f"{event_dict.pop('logger')}:", _DIM)
        words = _one_line(str(event_dict.pop("event", "")))
        blocks = [str(event_dict.pop(key)) for key in ("stack", "exception") if key in event_dict]
        pairs = [f"{self._paint(_one_line(key), _CYAN)}={_value(value)}" for key, value in event_dict.items()]
        return "\n".join([" ".join([head, words, *pairs]), *blocks])

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours and colour else text


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text.isprintable() and text and not set(text) & set(" \"'=") else repr(text)
