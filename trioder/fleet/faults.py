"""The errors in a file, each with its line and field, and the exception that reports all of them at once."""

from dataclasses import dataclass

from trioder.domain.text import preview

MAX_FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One error in a fleet file, or in a scenario file.

    Attributes:
        file: as given by the user.
        line: from 1; None where the format does not provide it.
        field: the path to the value, such as assets[17].max_mw; empty for the file as a whole.
        message: the value and the rule that it breaks.
    """

    file: str
    line: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class CheckedFileError(ValueError):
    """A file that cannot be used. Its text has one line per error, up to MAX_FAULTS_SHOWN.

    Attributes:
        faults: all errors, in file order.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[:MAX_FAULTS_SHOWN]]
        if len(self.faults) > MAX_FAULTS_SHOWN:
            lines.append(f"... and {len(self.faults) - MAX_FAULTS_SHOWN} more")
        return "\n".join(lines)


class FleetFileError(CheckedFileError):
    """A fleet that cannot be used."""


class ScenarioFileError(CheckedFileError):
    """A scenario that cannot be used."""


class Findings:
    """The errors found so far in one file.

    Args:
        file: as given by the user.
        error: the class to raise.
    """

    def __init__(self, file: str, *, error: type[CheckedFileError] = FleetFileError) -> None:
        self._file = file
        self._error = error
        self._faults: list[Fault] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._faults)

    def add(self, message: str, *, field: str = "", line: int | None = None) -> None:
        """Record one error."""
        self._faults.append(Fault(file=self._file, line=line, field=field, message=message))

    def raise_any(self) -> None:
        """Raise all errors by line number, if there are any."""
        if self._faults:
            raise self._error(tuple(sorted(self._faults, key=lambda fault: fault.line or 0)))

    def fatal(self, message: str, *, line: int | None = None) -> CheckedFileError:
        """Record an error after which parsing cannot continue; return the exception to raise."""
        self.add(message, line=line)
        return self._error(tuple(self._faults))


def describe(value: object) -> str:
    """Return a value for an error message: short, and on one line."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "empty" if value is None else str(value).lower()
    return preview(value)
