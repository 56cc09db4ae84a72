"""What is wrong with a fleet file, and where: gathered while reading, told all in one go."""

from dataclasses import dataclass

MAX_FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: as given by the user.
        line: from 1; None where the format does not tell it.
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


class FleetFileError(ValueError):
    """A fleet that cannot be used. Its text has one line a fault, the first MAX_FAULTS_SHOWN of them.

    Attributes:
        faults: all of them, in file order.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[:MAX_FAULTS_SHOWN]]
        if len(self.faults) > MAX_FAULTS_SHOWN:
            lines.append(f"... and {len(self.faults) - MAX_FAULTS_SHOWN} more")
        return "\n".join(lines)
