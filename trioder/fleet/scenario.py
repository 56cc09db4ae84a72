"""A scenario file into the domain's scenario, or every error in it with its line; and a shard's part of it.

The batteries that an action names are looked up in the fleet here, so that whoever runs it only has ids.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trioder.domain.assets import Asset
from trioder.domain.scenario import ACTIONS, MAX_S, PARAMETERS, Action, ActionName, Parameter, Scenario
from trioder.fleet.faults import Findings, ScenarioFileError, describe
from trioder.fleet.kinds import Kind, Values, entries_of, mappings, must_be, text, whole_number
from trioder.fleet.parse import Section, finite, parse_file
from trioder.fleet.selector import FleetSelector, PositionSelector, Selector


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
    values = _FILE.check(root, findings)
    seed = values.get("seed", 0)
    actions = []
    for place, (path, entry) in enumerate(mappings(values.get("actions", []), findings, "actions")):
        # In a shard's part the numbers are those of the whole file.
        number = entry.pop("number", place) if numbered else place
        before = len(findings)
        found = _action(entry, path, findings, number=number, seed=seed, selector=selector)
        if found is not None and len(findings) == before:
            actions.append(found)
    findings.raise_any()
    return Scenario(name=values.get("name", ""), seed=seed, actions=tuple(actions))


def _action(
    entry: Section, path: str, findings: Findings, *, number: int, seed: int, selector: Selector
) -> Action | None:
    """Return the action; None if it is no known one. Errors are reported."""

    def report(field: str, message: str, line: int | None) -> None:
        line = entry.line_of("assets") if line is None else line
        findings.add(message, field=f"{path}.{field}", line=line)

    name = next((known for known in ACTIONS if known == entry.get("do")), None)
    # The parameters of an unknown one are unknown.
    kind = _KINDS[name] if name else _ANY._replace(checks=dict.fromkeys(entry, _as_is) | _CHECKS)
    values = kind.check(entry, findings, path)
    asset_ids: frozenset[str] = frozenset()
    if "assets" in entry:
        rng = random.Random(f"{seed}:{number}")  # noqa: S311 - repeatable, not secret
        asset_ids = selector.select(entry["assets"], report, rng)
    if name is None:
        return None
    every_s = values.get("every_s", math.inf)
    return Action(
        number=number,
        name=name,
        at_s=values.get("at_s", 0.0),
        for_s=values.get("for_s", math.inf),
        every_s=every_s,
        times=1 if every_s == math.inf else values.get("times", math.inf),
        parameters={
            key: values.get(key, rule.default or 0.0) for key, rule in PARAMETERS.get(name, {}).items()
        },
        asset_ids=asset_ids,
    )


def _action_rules(values: Values, given: Section) -> Iterator[tuple[str, str]]:
    for_s, every_s = values.get("for_s", math.inf), values.get("every_s", math.inf)
    back_s, over_s = values.get("back_s", 0.0), values.get("over_s", 0.0)
    if "times" in given and "every_s" not in given:
        yield "times", "is given without every_s"
    if every_s < math.inf and for_s == math.inf:
        yield "every_s", "is given without for_s; what is repeated must end"
    elif every_s < for_s + back_s < math.inf:
        what = "for_s and back_s" if back_s else "for_s"
        yield "every_s", f"is {every_s:g}; it must be at least {what}, which is {for_s + back_s:g}"
    if values.get("do") == "link_slow" and not (values.get("delay_s") or values.get("bytes_per_s")):
        yield "delay_s", "is 0 or missing, and so is bytes_per_s; one of them must be above 0"
    if for_s == math.inf and back_s:
        yield "back_s", "is given without for_s; what does not end does not fade"
    if over_s > for_s:
        yield "over_s", f"is {over_s:g}; it must be at most for_s, which is {for_s:g}"


def _do(value: object) -> object:
    if value not in ACTIONS:
        raise must_be(f"one of {', '.join(ACTIONS)}", value)
    return value


def _as_is(value: object) -> object:
    return value


def _parameter(rule: Parameter, value: object) -> float:
    number = finite(value)
    if number is None or not rule.is_valid(number):
        raise must_be(rule.rule, value)
    return number


def _parameters(rules: Mapping[str, Parameter]) -> dict[str, Callable[[object], Any]]:
    return {key: partial(_parameter, rule) for key, rule in rules.items()}


def _kind(name: ActionName) -> Kind:
    parameters = PARAMETERS.get(name, {})
    required = [key for key, rule in parameters.items() if rule.default is None]
    return _ANY._replace(
        noun=f"a {name}",
        checks=_CHECKS | _parameters(parameters),
        required=(*_ANY.required, *required),
    )


_AT_ALL = Parameter(0.0, MAX_S)
_ABOVE_0 = Parameter(0.0, MAX_S, (0.0,))
_FILE = Kind(
    "a scenario file",
    {"name": text, "seed": partial(whole_number, low=0, high=2**63 - 1), "actions": entries_of},
    ("actions",),
)
_CHECKS: dict[str, Callable[[object], Any]] = {
    "do": _do,
    # By the selector.
    "assets": _as_is,
    "times": partial(whole_number, low=1, high=1_000_000),
    **_parameters({"at_s": _AT_ALL, "for_s": _ABOVE_0, "every_s": _ABOVE_0}),
}
_ANY = Kind("an action", _CHECKS, ("do", "assets", "at_s"), _action_rules)
_KINDS = {name: _kind(name) for name in ACTIONS}
