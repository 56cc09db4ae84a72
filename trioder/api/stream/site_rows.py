"""The sums of sites as rows, encoded once for all streams that show them, and sent when they change."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from trioder.api.stream.sums import SiteSums
from trioder.api.sums import Sums, sum_columns
from trioder.process.slices import Steps
from trioder.schemas.stream import SiteSumsRow

# About 250 kB of JSON.
_ROWS_AN_EVENT = 500
# The cost of encoding a row.
_ROW_US = 15.0
_encode = msgspec.json.Encoder().encode


class _Kept(NamedTuple):
    """A row, the version of its last change, and what it was made from."""

    sums: Sums
    row: bytes
    version: int


class SiteRows:
    """Encoded rows by site id.

    Attributes:
        version: grows with each change of a row, and is the version of that change.
    """

    def __init__(self, sums: SiteSums) -> None:
        self.version = 0
        self._sums = sums
        self._rows: dict[str, _Kept] = {}

    def clear(self) -> None:
        """Forget all rows; versions are not used again."""
        self._rows.clear()

    def refresh(self, sites: Mapping[str, Sequence[int]]) -> Steps[None]:
        """Bring the rows of these sites, with the keys of their assets, up to date, in steps."""
        for site_id, keys in sites.items():
            sums = yield from self._sums.of_site(site_id, keys)
            kept = self._rows.get(site_id)
            if kept is not None and kept.sums is sums:
                continue
            row = _encode(SiteSumsRow(id=site_id, **sum_columns(sums)))
            if kept is not None and kept.row == row:
                self._rows[site_id] = kept._replace(sums=sums)
            else:
                self.version += 1
                self._rows[site_id] = _Kept(sums, row, self.version)
            yield _ROW_US

    def changed_since(self, site_ids: Collection[str], version: int) -> list[bytes]:
        """Return the rows of those of the sites that have changed after a version."""
        rows = self._rows
        found = (rows[site_id] for site_id in site_ids if site_id in rows)
        return [kept.row for kept in found if kept.version > version]


def site_events(rows: Sequence[bytes], at: bytes) -> Iterator[bytes]:
    """Yield the data of events with these rows; `at` is the time, as JSON."""
    for start in range(0, len(rows), _ROWS_AN_EVENT):
        yield b'{"at":%b,"rows":[%b]}' % (at, b",".join(rows[start : start + _ROWS_AN_EVENT]))
