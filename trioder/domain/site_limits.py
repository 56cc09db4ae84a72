"""Limits of a site's power at its connection to the grid: of the fleet file, and set for a time."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimits:
    """What the setpoints of a site may add up to, in each direction; magnitudes in MW.

    Attributes:
        export_mw: of all that discharge; None for no limit.
        import_mw: of all that charge; None for no limit.
    """

    export_mw: float | None = None
    import_mw: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.export_mw is not None or self.import_mw is not None

    def most_mw(self, *, charging: bool) -> float:
        """Return the limit in a direction; infinity without one."""
        limit_mw = self.import_mw if charging else self.export_mw
        return math.inf if limit_mw is None else limit_mw


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimitsRecord:
    """Limits that a user has set for a site, instead of the fleet file's.

    Attributes:
        site_id: the site.
        limits: where one is None, the fleet file's applies.
        until_ms: until when; Unix time; None until they are removed.
        set_ms: when they were set.
        set_by: the principal's name.
    """

    site_id: str
    limits: SiteLimits
    until_ms: int | None
    set_ms: int
    set_by: str
