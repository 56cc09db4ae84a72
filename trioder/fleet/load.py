"""From a fleet file to a Fleet, or to every fault in it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.fleet.entries import read_asset, read_site
from trioder.fleet.record import did_you_mean
from trioder.fleet.tree import Findings, Listing, Section, shown
from trioder.fleet.yaml_file import read_yaml

_TOP_KEYS = frozenset({"sites", "assets"})


def load_fleet(path: Path) -> Fleet:
    """Read and check a fleet file: JSON when its name ends in .json, else YAML.

    Raises:
        FleetFileError: with every fault found. A file that cannot be read or parsed has one only.
    """
    findings = Findings(str(path))
    text = _read_text(path, findings)
    read = _read_json if path.suffix.lower() == ".json" else read_yaml
    root = read(text, findings)
    fleet = _read_fleet(root, findings)
    findings.raise_any()
    return fleet


def _read_text(path: Path, findings: Findings) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise findings.last(f"cannot be read: {error.strerror or error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise findings.last(f"not UTF-8: {error.reason}", line=line) from None


def _read_json(text: str, findings: Findings) -> Any:
    def section(pairs: list[tuple[str, Any]]) -> Section:
        made = Section(reversed(pairs))  # the first of two equal keys counts, as in YAML
        if len(made) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            for key in (key for key, count in counts.items() if count > 1):
                findings.add("is given twice in one object", field=key)
        return made

    try:
        return json.loads(text, object_pairs_hook=section)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg} (column {error.colno})"
        raise findings.last(message, line=error.lineno) from None
    except RecursionError:
        raise findings.last("not valid JSON: nested too deep") from None
    except ValueError:
        # Python refuses to convert integers of thousands of digits.
        raise findings.last("not valid JSON: a number is too long") from None


def _read_fleet(root: Any, findings: Findings) -> Fleet:
    if not isinstance(root, Section):
        what = "the file is empty" if root is None else f"the file holds {shown(root)}"
        raise findings.last(f"{what}; it must be a mapping with the keys sites and assets")
    for key in root.keys() - _TOP_KEYS:
        message = f"is not a key of a fleet file{did_you_mean(key, _TOP_KEYS)}"
        findings.add(message, field=key, line=root.line_of(key))

    # A site with faults is still a site: its assets are not blamed for naming it.
    sites: dict[str, Site | None] = {}
    first_lines: dict[str, str] = {}
    for path, section in _records(root, "sites", findings):
        site = read_site(section, path, findings)
        _note_id(section, path, first_lines, findings)
        site_id = section.get("id")
        if isinstance(site_id, str):
            sites.setdefault(site_id.lower(), site)

    assets: list[Asset] = []
    first_lines = {}
    for path, section in _records(root, "assets", findings):
        asset = read_asset(section, path, findings, sites=sites)
        _note_id(section, path, first_lines, findings)
        if asset is not None:
            assets.append(asset)
    return Fleet(sites=tuple(site for site in sites.values() if site is not None), assets=tuple(assets))


def _records(root: Section, key: str, findings: Findings) -> list[tuple[str, Section]]:
    """Return each mapping in a list of the file, with its path."""
    if key not in root:
        findings.add("is missing", field=key, line=root.line)
        return []
    listing = root[key]
    if not isinstance(listing, list) or not listing:
        what = "an empty list" if isinstance(listing, list) else shown(listing)
        findings.add(
            f"is {what}; it must be a list with at least one entry", field=key, line=root.line_of(key)
        )
        return []
    records = []
    for position, item in enumerate(listing):
        path = f"{key}[{position}]"
        if isinstance(item, Section):
            records.append((path, item))
        else:
            line = listing.line_of(position) if isinstance(listing, Listing) else None
            findings.add(f"is {shown(item)}; it must be a mapping", field=path, line=line)
    return records


def _note_id(section: Section, path: str, firsts: dict[str, str], findings: Findings) -> None:
    """Note the id's first place, or the fault of having one already."""
    value = section.get("id")
    if not isinstance(value, str):
        return
    line = section.line_of("id")
    place = f"{path}.id" if line is None else f"line {line}"
    first = firsts.setdefault(value.lower(), place)
    if first != place:
        findings.add(f"is {shown(value)}; {first} has this id already", field=f"{path}.id", line=line)
