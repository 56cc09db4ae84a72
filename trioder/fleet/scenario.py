"""A scenario file into the domain's scenario, or every error in it with its line; and a shard's part of it.

The batteries that an action names are looked up in the fleet here, so that whoever runs it only has ids.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trioder.domain.assets import Asset
from trioder.domain.scenario import ACTIONS, MAX_S, PARAMETERS, Action, ActionName, Parameter, Scenario
from trioder.domain.text import MAX_NAME_LENGTH
from trioder.fleet.parse import Findings, ScenarioFileError, Section, describe, finite, parse_file
from trioder.fleet.selector import FleetSelector, PositionSelector, Selector, suggestion

_FILE_KEYS = ("name", "seed", "actions")
_ACTION_KEYS = ("do", "assets", "at_s", "for_s", "every_s", "times")
_MAX_SEED = 2**63 - 1
_MAX_TIMES = 1_000_000


def load_scenario(path: Path, assets: Sequence[Asset], *, must_match: bool = True) -> Scenario:
    """Read and check a scenario file for these assets: JSON when its name ends in .json, else YAML.

    Args:
        path: of the file.
        assets: those that it may name.
        must_match: report ids, names and sites that none of the assets has, as for a whole fleet.

    Raises:
        ScenarioFileError: with every error found; only one if the file cannot be read or parsed.
    """
    findings = Findings(str(path), error=ScenarioFileError)
    root = parse_file(path, findings, keys="actions")
    return _scenario(root, FleetSelector(assets, must_match=must_match), findings)


def scenario_to_document(scenario: Scenario, assets: Sequence[Asset]) -> dict[str, Any]:
    """Return a scenario as JSON values for the agent with these assets."""
    return {
        "name": scenario.name,
        "seed": scenario.seed,
        "start_unix_s": scenario.start_unix_s,
        "actions": [_action_document(action, assets) for action in scenario.actions],
    }


def scenario_from_document(document: object, assets: Sequence[Asset]) -> Scenario:
    """Return the scenario that `scenario_to_document` has written for these assets.

    Raises:
        ScenarioFileError: with every error found.
    """
    findings = Findings("scenario", error=ScenarioFileError)
    if not isinstance(document, dict):
        raise findings.fatal(f"is {describe(document)}; it must be an object")
    root = Section({key: value for key, value in document.items() if key != "start_unix_s"})
    if isinstance(entries := root.get("actions"), list):
        root["actions"] = [Section(entry) if isinstance(entry, dict) else entry for entry in entries]
    start = document.get("start_unix_s")
    start_unix_s = None if start is None else finite(start)
    if start is not None and start_unix_s is None:
        findings.add(f"is {describe(start)}; it must be a number", field="start_unix_s")
    found = _scenario(root, PositionSelector(assets), findings, numbered=True)
    return Scenario(name=found.name, seed=found.seed, actions=found.actions, start_unix_s=start_unix_s)


def _action_document(action: Action, assets: Sequence[Asset]) -> dict[str, Any]:
    positions = [place for place, asset in enumerate(assets) if asset.id in action.asset_ids]
    document: dict[str, Any] = {
        "number": action.number,
        "do": action.name,
        "at_s": action.at_s,
        "assets": None if len(positions) == len(assets) else positions,
        **action.parameters,
    }
    timing = {"for_s": action.for_s, "every_s": action.every_s}
    if action.every_s < math.inf:
        timing["times"] = action.times
    return document | {key: value for key, value in timing.items() if value < math.inf}


def _scenario(root: Section, selector: Selector, findings: Findings, *, numbered: bool = False) -> Scenario:
    _refuse_unknown(root, _FILE_KEYS, "a scenario file", "", findings)
    name = root.get("name", "")
    if not (isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and name.isprintable()):
        message = f"is {describe(name)}; it must be text of at most {MAX_NAME_LENGTH} printable characters"
        findings.add(message, field="name", line=root.line_of("name"))
    seed = root.get("seed", 0)
    if isinstance(seed, bool) or not (isinstance(seed, int) and 0 <= seed <= _MAX_SEED):
        message = f"is {describe(seed)}; it must be a whole number within 0..{_MAX_SEED}"
        findings.add(message, field="seed", line=root.line_of("seed"))
        seed = 0
    entries = root.get("actions")
    actions = []
    if isinstance(entries, list) and entries:
        lines = getattr(entries, "lines", [None] * len(entries))
        for place, (entry, line) in enumerate(zip(entries, lines, strict=True)):
            field = f"actions[{place}]"
            if not isinstance(entry, Section):
                findings.add(f"is {describe(entry)}; it must be a mapping", field=field, line=line)
                continue
            # In a shard's part the numbers are those of the whole file.
            number = entry.pop("number", place) if numbered else place
            if action := _ActionCheck(entry, field, findings).action(number, seed, selector):
                actions.append(action)
    elif "actions" in root:
        what = "an empty list" if entries == [] else describe(entries)
        message = f"is {what}; it must be a list with at least one entry"
        findings.add(message, field="actions", line=root.line_of("actions"))
    else:
        findings.add("is missing", field="actions", line=root.line)
    findings.raise_any()
    return Scenario(name=name, seed=seed, actions=tuple(actions))


class _ActionCheck:
    """Checks one entry of `actions`."""

    def __init__(self, section: Section, field: str, findings: Findings) -> None:
        self._section = section
        self._field = field
        self._findings = findings
        self._faults = 0

    def action(self, number: int, seed: int, selector: Selector) -> Action | None:
        """Return the action; None if it has errors, which are reported."""
        name = self._name()
        parameters = {} if name is None else PARAMETERS.get(name, {})
        if name is not None:
            keys = (*_ACTION_KEYS, *parameters)
            self._faults += _refuse_unknown(self._section, keys, f"a {name}", self._field, self._findings)
        values = {key: self._number(key, rule) for key, rule in parameters.items()}
        at_s = self._number("at_s", Parameter(0.0, MAX_S))
        for_s = self._number("for_s", Parameter(0.0, MAX_S, (0.0,), math.inf))
        every_s = self._number("every_s", Parameter(0.0, MAX_S, (0.0,), math.inf))
        times = self._times()
        asset_ids: frozenset[str] = frozenset()
        if "assets" not in self._section:
            self._add("assets", "is missing")
        else:
            rng = random.Random(f"{seed}:{number}")  # noqa: S311 - repeatable, not secret
            asset_ids = selector.select(self._section["assets"], self._add_nested, rng)
        self._check_together(name, values, for_s, every_s)
        if self._faults or name is None:
            return None
        return Action(
            number=number,
            name=name,
            at_s=at_s,
            for_s=for_s,
            every_s=every_s,
            times=1 if every_s == math.inf else times,
            parameters=values,
            asset_ids=asset_ids,
        )

    def _name(self) -> ActionName | None:
        name = self._section.get("do")
        for known in ACTIONS:
            if name == known:
                return known
        if "do" not in self._section:
            self._add("do", "is missing")
        else:
            self._add("do", f"is {describe(name)}; it must be one of {', '.join(ACTIONS)}")
        return None

    def _number(self, key: str, rule: Parameter) -> float:
        if key not in self._section:
            if rule.default is None:
                self._add(key, "is missing")
            return rule.default or 0.0
        value = self._section[key]
        number = finite(value)
        if number is None or not rule.is_valid(number):
            self._add(key, f"is {describe(value)}; it must be {rule.rule}")
            return rule.default or 0.0
        return number

    def _times(self) -> float:
        if "times" not in self._section:
            return math.inf
        if "every_s" not in self._section:
            self._add("times", "is given without every_s")
        value = self._section["times"]
        if isinstance(value, bool) or not (isinstance(value, int) and 1 <= value <= _MAX_TIMES):
            self._add("times", f"is {describe(value)}; it must be a whole number within 1..{_MAX_TIMES}")
        return value if isinstance(value, int) else math.inf

    def _check_together(
        self, name: ActionName | None, values: dict[str, float], for_s: float, every_s: float
    ) -> None:
        if every_s < math.inf:
            lasts_s = for_s + values.get("back_s", 0.0)
            if for_s == math.inf:
                self._add("every_s", "is given without for_s; what is repeated must end")
            elif every_s < lasts_s:
                what = "for_s and back_s" if values.get("back_s") else "for_s"
                self._add("every_s", f"is {every_s:g}; it must be at least {what}, which is {lasts_s:g}")
        if name == "link_slow" and not (values["delay_s"] or values["bytes_per_s"]):
            self._add("delay_s", "is 0 or missing, and so is bytes_per_s; one of them must be above 0")
        if for_s == math.inf and values.get("back_s"):
            self._add("back_s", "is given without for_s; what does not end does not fade")
        if "over_s" in values and values["over_s"] > for_s:
            self._add("over_s", f"is {values['over_s']:g}; it must be at most for_s, which is {for_s:g}")

    def _add(self, key: str, message: str) -> None:
        self._add_nested(key, message, None)

    def _add_nested(self, key: str, message: str, line: int | None) -> None:
        self._faults += 1
        line = self._section.line_of(key.partition(".")[0]) if line is None else line
        self._findings.add(message, field=f"{self._field}.{key}", line=line)


def _refuse_unknown(section: Section, known: Sequence[str], noun: str, field: str, findings: Findings) -> int:
    unknown = [key for key in section if key not in known]
    for key in unknown:
        message = f"is not a key of {noun}{suggestion(key, known)}"
        findings.add(message, field=f"{field}.{key}" if field else key, line=section.line_of(key))
    return len(unknown)
