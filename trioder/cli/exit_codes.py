"""The exit codes of `trioder`, and the errors that end it with one of them."""

import click

FAILED = 1
USAGE = 2
UNREACHABLE = 3
FORBIDDEN = 4
NOT_FOUND = 5
NOT_FULFILLED = 6
TIMED_OUT = 7
INTERRUPTED = 130
# 128 and the number of SIGPIPE, as shells report programs that it has ended.
OUTPUT_CLOSED = 141

EXIT_CODES: dict[int, str] = {
    0: "done",
    FAILED: "the headend refused it, or an unexpected error",
    USAGE: "wrong usage or configuration",
    UNREACHABLE: "the headend cannot be reached",
    FORBIDDEN: "unauthorized or forbidden",
    NOT_FOUND: "not found",
    NOT_FULFILLED: "a dispatch is not fulfilled, or not wholly: rejected, failed, not tracked, a shortfall",
    TIMED_OUT: "the time of --timeout is over",
    INTERRUPTED: "Ctrl-C",
    OUTPUT_CLOSED: "the reader of the output has closed it",
}


class CommandError(click.ClickException):
    """Ends the program with a message for people on standard error, and with an exit code for scripts.

    Args:
        message: names the value and the rule; of text from outside only what is safe to print.
        exit_code: one of `EXIT_CODES`.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click has it on the class


class ConfigurationError(CommandError):
    """An option, a variable or the configuration file cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)


class OutputClosedError(CommandError):
    """Nobody reads standard output any more; not an error that is reported."""

    def __init__(self) -> None:
        super().__init__("the reader of standard output has closed it", OUTPUT_CLOSED)

    def show(self, file: object = None) -> None:
        """Print nothing: other programs end silently at this, too."""
