"""What a command is for: assets, a site or the fleet, as it is sent to the headend and as it is shown."""

from collections.abc import Mapping
from typing import TypedDict

from trioder.cli.printable import line_of
from trioder.schemas.dispatch import TargetRow


class Target(TypedDict, total=False):
    """The parameters of the client's commands: exactly one of them."""

    asset_id: str
    asset_ids: list[str]
    site_id: str
    fleet: bool


def assets_target(asset_ids: list[str]) -> Target:
    """Return one asset, or several together."""
    return {"asset_id": asset_ids[0]} if len(asset_ids) == 1 else {"asset_ids": asset_ids}


def target_text(target: TargetRow, names: Mapping[str, str], *, members: int | None = None) -> str:
    """Return a target for people.

    Args:
        target: whose id may be of an asset or a site.
        names: of what is known by name.
        members: how many assets, where they are a list.
    """
    if target.kind == "assets":
        return "several assets" if members is None else f"{members:,} assets"
    if target.id is None:
        return target.kind
    return f"{target.kind} {line_of(names.get(target.id, target.id), 60)}"
