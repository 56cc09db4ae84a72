"""Formats log lines of which there are many, of one logger and message, at a seventh of the usual cost.

What a line is made of, and where it goes, is in `logs`.
"""

import json
import logging
from collections.abc import Mapping

from trioder.process.logs import LogOutput, console_head, console_key, console_value
from trioder.process.rfc3339 import format_ms


class LogLines:
    """Formats the lines that ``get_logger(logger).info(event, **fields)`` would write, and writes them.

    Args:
        output: as `configure_logging` returned it.
        logger: the name of the logger.
        event: the message; printable.
    """

    def __init__(self, output: LogOutput, *, logger: str, event: str) -> None:
        self.output = output
        self._logger = logging.getLogger(logger)
        self._event = event
        self._encode = json.JSONEncoder(default=str).encode
        head = console_head("\0", "info", logger, colours=output.colours)
        self._before_time, self._after_time = f"{head} {event}".split("\0")
        self._keys: dict[str, str] = {}

    @property
    def are_wanted(self) -> bool:
        """Whether level info is logged."""
        return self._logger.isEnabledFor(logging.INFO)

    def format(self, unix_s: float, fields: Mapping[str, object]) -> str:
        """Return a line with its line break.

        Args:
            unix_s: the time of what it reports.
            fields: of a bounded number of names.
        """
        timestamp = format_ms(int(unix_s * 1000))
        if self.output.as_json:
            head = {"timestamp": timestamp, "level": "info", "logger": self._logger.name}
            return self._encode({**head, **fields, "event": self._event}) + "\n"
        pairs = " ".join([f"{self._key(key)}={console_value(value)}" for key, value in fields.items()])
        return f"{self._before_time}{timestamp}{self._after_time} {pairs}\n"

    def _key(self, key: str) -> str:
        if key not in self._keys:
            self._keys[key] = console_key(key, colours=self.output.colours)
        return self._keys[key]
