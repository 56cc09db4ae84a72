"""The bodies of `/sites/{id}/limits`."""

from typing import Annotated

from msgspec import Meta, Struct

from trioder.domain.dispatch import MAX_DURATION_S
from trioder.schemas.resources import Id, Time

LimitMw = Annotated[
    float,
    Meta(
        description="A magnitude; 0 for none at all. Without it the fleet file's limit applies.",
        extra_json_schema={"minimum": 0},
    ),
]
Duration = Annotated[
    int,
    Meta(
        description="The limits end after this many seconds.",
        extra_json_schema={"minimum": 1, "maximum": MAX_DURATION_S},
    ),
]
Until = Annotated[Time, Meta(description="The limits end at this time; instead of duration_s.")]


class SiteLimitsBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Limits of a site, instead of the fleet file's: at least one; without an end until they are removed."""

    export_limit_mw: LimitMw | None = None
    import_limit_mw: LimitMw | None = None
    until: Until | None = None
    duration_s: Duration | None = None


class SiteLimitsRow(Struct, kw_only=True):
    """The limits of a site that are in effect, null for none.

    `set_by` and `set_at` are null while the fleet file's apply. `export_mw` and `import_mw` are what its
    setpoints amount to now, reversions and what assets were left at included.
    """

    site_id: Id
    export_limit_mw: float | None
    import_limit_mw: float | None
    until: Time | None
    set_at: Time | None
    set_by: str | None
    export_mw: float
    import_mw: float
