"""Tables and lists of properties as text: aligned, with units in the headings, as wide as the terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trioder.cli.printable import display_width, line_of, printable, shortened
from trioder.cli.quantities import NONE, decimals_for, number_text

_GAP = "  "
# Names are cut to the first, to keep columns; to the second, where no other can be left out.
_COMFORTABLE_CELL = 16
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
        expendable: left out where the terminal is too narrow, the highest first; 0 never.
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
    expendable: int = 0
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
        """Return the heading, and a line for each row.

        They fit the width if that is possible without leaving out columns that are not expendable.
        """
        places = [place for place in range(len(self.columns)) if not self._is_empty(place)]
        texts = {place: self._texts_of(place) for place in places}
        natural = {
            place: max(
                [
                    self.columns[place].narrowest,
                    display_width(self.columns[place].title),
                    *map(display_width, texts[place]),
                ]
            )
            for place in places
        }
        widths = self._fitting(natural, layout.width)
        heading = self._joined({place: self.columns[place].title for place in widths}, widths)
        lines = [styled(heading, "bold", colour=layout.colour)]
        for number, row in enumerate(self.rows):
            cells = {place: texts[place][number] for place in widths}
            lines.append(self._joined(cells, widths, row if layout.colour else None))
        return lines

    def _is_empty(self, place: int) -> bool:
        return self.columns[place].optional and all(row[place] in (None, "") for row in self.rows)

    def _fitting(self, natural: Mapping[int, int], width: int | None) -> dict[int, int]:
        """Return the widths of the columns that remain."""
        widths = dict(natural)
        if width is None:
            return widths
        least = {
            place: min(each, _COMFORTABLE_CELL) if self.columns[place].flexible else each
            for place, each in natural.items()
        }
        for place in sorted(natural, key=lambda place: -self.columns[place].expendable):
            if _line_width(least) <= width or not self.columns[place].expendable:
                break
            del least[place], widths[place]
        flexible = [place for place in widths if self.columns[place].flexible]
        while flexible and _line_width(widths) > width:
            # The widest is cut first.
            widest = max(flexible, key=lambda place: widths[place])
            if widths[widest] <= _MIN_CELL:
                break
            widths[widest] -= 1
        return widths

    def _texts_of(self, place: int) -> list[str]:
        column = self.columns[place]
        values = [row[place] for row in self.rows]
        if not column.numeric:
            return [cell_text(value, column.longest) for value in values]
        decimals = decimals_for(values) if column.decimals is None else column.decimals
        return [number_text(value, decimals, signed=column.signed) for value in values]

    def _joined(
        self, cells: Mapping[int, str], widths: Mapping[int, int], row: Sequence[Any] | None = None
    ) -> str:
        parts = []
        for place, width in widths.items():
            column = self.columns[place]
            text = shortened(cells[place], width)
            padding = " " * (width - display_width(text))
            style = None if row is None or column.style_of is None else column.style_of(row[place])
            text = text if style is None else styled(text, style, colour=True)
            parts.append(padding + text if column.numeric else text + padding)
        # Padding at the end is for nobody.
        return _GAP.join(parts).rstrip(" ")


def _line_width(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


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
