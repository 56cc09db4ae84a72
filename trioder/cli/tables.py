"""Tables and lists of properties as text: aligned, with units in the headings, as wide as the terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trioder.cli.printable import display_width, line_of, printable, shortened
from trioder.cli.quantities import NONE, decimals_for, number_text

_GAP = "  "
_MIN_CELL = 8
# Of a text by itself, such as a reason.
_MAX_TEXT = 2000

_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}

# By the value of a cell; None is as it is.
StyleOf = Callable[[Any], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what it is; `unit` follows.
        numeric: right-aligned; all of its numbers have as many decimals.
        signed: positive numbers have a plus.
        decimals: by the largest number, unless given.
        flexible: a text that may be cut where the terminal is narrow.
        longest: of a text, in columns; more is cut.
        narrowest: the column is at least as wide, so that tables that are drawn again do not move.
        optional: left out where no row has a value.
        style_of: returns a style for a value. It repeats what the text says: colour alone says nothing.
    """

    heading: str
    unit: str = ""
    numeric: bool = False
    signed: bool = False
    decimals: int | None = None
    flexible: bool = False
    longest: int = 60
    narrowest: int = 0
    optional: bool = False
    style_of: StyleOf | None = None

    @property
    def title(self) -> str:
        """The heading with the unit."""
        return f"{self.heading} {self.unit}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """How tables are drawn.

    Attributes:
        width: of the terminal, in columns; None does not cut lines.
        colour: whether styles are applied.
    """

    width: int | None = None
    colour: bool = False


@dataclass(slots=True, kw_only=True)
class Table:
    """Columns and rows of values: text, numbers or None."""

    columns: Sequence[Column]
    rows: list[Sequence[Any]] = field(default_factory=list)

    def lines(self, layout: TableLayout) -> list[str]:
        """Return the heading, and a line for each row."""
        if any(column.optional for column in self.columns):
            return self._without_empty_columns().lines(layout)
        texts = [self._texts_of(place) for place in range(len(self.columns))]
        widths = self._widths(texts, layout.width)
        heading = self._joined([column.title for column in self.columns], widths)
        lines = [styled(heading, "bold", colour=layout.colour)]
        for number, row in enumerate(self.rows):
            cells = [column[number] for column in texts]
            lines.append(self._joined(cells, widths, row if layout.colour else None))
        return lines

    def _without_empty_columns(self) -> "Table":
        kept = [
            place
            for place, column in enumerate(self.columns)
            if not column.optional or any(row[place] not in (None, "") for row in self.rows)
        ]
        return Table(
            columns=[replace(self.columns[place], optional=False) for place in kept],
            rows=[[row[place] for place in kept] for row in self.rows],
        )

    def _texts_of(self, place: int) -> list[str]:
        column = self.columns[place]
        values = [row[place] for row in self.rows]
        if not column.numeric:
            return [cell_text(value, column.longest) for value in values]
        decimals = decimals_for(values) if column.decimals is None else column.decimals
        return [number_text(value, decimals, signed=column.signed) for value in values]

    def _widths(self, texts: Sequence[Sequence[str]], width: int | None) -> list[int]:
        widths = [
            max([column.narrowest, display_width(column.title), *map(display_width, cells)])
            for column, cells in zip(self.columns, texts, strict=True)
        ]
        if width is None:
            return widths
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        flexible = [place for place, column in enumerate(self.columns) if column.flexible]
        while excess > 0 and flexible:
            # The widest is cut first.
            widest = max(flexible, key=lambda place: widths[place])
            if widths[widest] <= _MIN_CELL:
                break
            widths[widest] -= 1
            excess -= 1
        return widths

    def _joined(self, cells: Sequence[str], widths: Sequence[int], row: Sequence[Any] | None = None) -> str:
        parts = []
        for place, (column, cell, width) in enumerate(zip(self.columns, cells, widths, strict=True)):
            text = shortened(cell, width)
            padding = " " * (width - display_width(text))
            style = None if row is None or column.style_of is None else column.style_of(row[place])
            text = text if style is None else styled(text, style, colour=True)
            is_last = place == len(self.columns) - 1 and not column.numeric
            parts.append(padding + text if column.numeric else text + ("" if is_last else padding))
        return _GAP.join(parts)


def property_lines(properties: Mapping[str, str | None] | Iterable[tuple[str, str | None]]) -> list[str]:
    """Return a line for each named value; those without a value are left out."""
    pairs = properties.items() if isinstance(properties, Mapping) else properties
    shown = [(name, printable(value[:_MAX_TEXT])) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name:<{width}}{_GAP}{value}" for name, value in shown]


def cell_text(value: object, longest: int = 60) -> str:
    """Return a value as it stands in a cell: harmless, and of bounded length."""
    if value is None or value == "":
        return NONE
    return line_of(str(value), longest)


def styled(text: str, style: str, *, colour: bool) -> str:
    """Return a text in a style, one of bold, dim, red, green and yellow."""
    return f"\x1b[{_SGR[style]}m{text}\x1b[0m" if colour else text


def cut_line(line: str, width: int) -> str:
    """Return a line without styles, cut to the width of the terminal."""
    return shortened(line, width)
