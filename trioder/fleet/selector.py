"""Which assets an action of a scenario means: ids, patterns of names, sites, a seeded share."""

import random
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from trioder.domain.assets import Asset
from trioder.fleet.faults import describe
from trioder.fleet.kinds import suggestion
from trioder.fleet.parse import Section, finite

_LISTS = ("ids", "names", "sites")
_KEYS = (*_LISTS, "share")

# Field, message, and the line where it is known.
Report = Callable[[str, str, int | None], None]


class Selector(Protocol):
    """Finds the assets that a value of the key `assets` means."""

    def select(self, value: object, report: Report, rng: random.Random) -> frozenset[str]:
        """Return the ids; report each error."""
        ...


class FleetSelector:
    """Reads the selector of a scenario file.

    Args:
        assets: to choose from.
        must_match: an id or a pattern that no asset matches is an error.
    """

    def __init__(self, assets: Sequence[Asset], *, must_match: bool) -> None:
        self._assets = assets
        self._must_match = must_match
        self._ids = frozenset(asset.id for asset in assets)

    def select(self, value: object, report: Report, rng: random.Random) -> frozenset[str]:
        """See `Selector`; `rng` chooses the share."""
        if value == "all":
            return self._ids
        if not isinstance(value, Section) or not value:
            what = "an empty mapping" if value == {} else describe(value)
            report("assets", f"is {what}; it must be all, or a mapping with {', '.join(_KEYS)}", None)
            return frozenset()
        for key in value:
            if key not in _KEYS:
                message = f"is not a key of a selector{suggestion(key, frozenset(_KEYS))}"
                report(f"assets.{key}", message, value.line_of(key))
        chosen: set[str] = set()
        named = [key for key in _LISTS if key in value]
        for key in named:
            chosen.update(self._matches(key, value, report))
        chosen_ids = frozenset(chosen) if named else self._ids
        return _share(chosen_ids, value, report, rng) if "share" in value else chosen_ids

    def _matches(self, key: str, section: Section, report: Report) -> Iterator[str]:
        entries = section[key]
        if not isinstance(entries, list) or not entries:
            what = "an empty list" if entries == [] else describe(entries)
            report(f"assets.{key}", f"is {what}; it must be a list of text", section.line_of(key))
            return
        lines = getattr(entries, "lines", [section.line_of(key)] * len(entries))
        for place, (entry, line) in enumerate(zip(entries, lines, strict=True)):
            field = f"assets.{key}[{place}]"
            if not isinstance(entry, str) or not entry:
                report(field, f"is {describe(entry)}; it must be text", line)
                continue
            found = [asset.id for asset in self._assets if _is_match(asset, key, entry)]
            if self._must_match and not found:
                report(field, f"is {describe(entry)}; no asset of the fleet matches", line)
            yield from found


class PositionSelector:
    """Reads the positions of a shard document; None means all assets.

    Args:
        assets: of the shard.
    """

    def __init__(self, assets: Sequence[Asset]) -> None:
        self._ids = [asset.id for asset in assets]

    def select(self, value: object, report: Report, rng: random.Random) -> frozenset[str]:  # noqa: ARG002
        """See `Selector`; nothing is left to chance."""
        if value is None:
            return frozenset(self._ids)
        most = len(self._ids) - 1
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= most for item in value):
            report("assets", f"is {describe(value)}; it must be a list of positions within 0..{most}", None)
            return frozenset()
        return frozenset(self._ids[position] for position in value)


def _is_match(asset: Asset, key: str, text: str) -> bool:
    match key:
        case "ids":
            return asset.id == text.lower()
        case "names":
            return fnmatchcase(asset.name, text)
        case _:
            return asset.site_id == text.lower() or fnmatchcase(asset.site_name, text)


def _share(ids: frozenset[str], section: Section, report: Report, rng: random.Random) -> frozenset[str]:
    share = finite(section["share"])
    if share is None or not 0.0 < share <= 1.0:
        message = f"is {describe(section['share'])}; it must be a number within (0, 1]"
        report("assets.share", message, section.line_of("share"))
        return frozenset()
    # Sorted by id, so that the order of the fleet file decides nothing.
    ordered = sorted(ids)
    return frozenset(rng.sample(ordered, max(1, round(share * len(ordered)))) if ordered else ())
