"""The table of alarm kinds is the documented one, and what their records and filters say."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from trioder.domain.access import Scope
from trioder.domain.alarms import (
    KINDS,
    RULES,
    Alarm,
    AlarmFilter,
    AlarmSource,
    cleared_type,
    severity_of_event,
)

DOCS = Path(__file__).parents[3] / "docs" / "alarms.md"


def documented() -> dict[str, list[str]]:
    """The cells of each row of the table, by kind."""
    rows = re.findall(r"^\| `([a-z_]+)` \|(.*)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    return {kind: [cell.strip() for cell in cells.split(" | ")] for kind, cells in rows}


def test_every_kind_is_documented_with_its_severity_and_delays() -> None:
    found = {kind: (cells[0], cells[3], cells[5]) for kind, cells in documented().items()}
    assert found == {
        kind: (rule.severity, f"{rule.raise_after_s:g} s", f"{rule.clear_after_s:g} s")
        for kind, rule in RULES.items()
    }
    assert set(found) == set(KINDS)


def test_what_ends_by_itself_is_documented_as_such() -> None:
    names = {3600.0: "1 h", 86_400.0: "24 h"}
    for kind, cells in documented().items():
        hold_s = RULES[kind].hold_s  # type: ignore[index]  # a kind
        assert (names[hold_s] in cells[4]) if hold_s is not None else not re.search(r"\d h\b", cells[4]), kind


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        ("critical", "critical"),
        (" ERROR ", "major"),
        ("Minor", "minor"),
        ("warning", None),
        ("info", None),
        ("", None),
        ("x" * 500, None),
    ],
)
def test_the_severity_of_an_event_decides_whether_it_is_an_alarm(severity: str, expected: object) -> None:
    assert severity_of_event(severity) == expected


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        ("INVERTER_FAULT_CLEARED", "INVERTER_FAULT"),
        ("inverter_fault_cleared", "inverter_fault"),
        ("INVERTER_FAULT", None),
        ("_CLEARED", None),
        ("CLEARED", None),
        ("X_CLEARED_CLEARED", "X_CLEARED"),
    ],
)
def test_a_cleared_event_names_what_it_clears(event_type: str, expected: object) -> None:
    assert cleared_type(event_type) == expected


ALARM = Alarm(
    alarm_id="7",
    kind="stale",
    severity="minor",
    source=AlarmSource("agent", "a"),
    tenant="north",
    site_ids=("1", "2"),
    reason="r",
    raised_ms=1,
)


@pytest.mark.parametrize(
    ("scope", "alarm", "seen"),
    [
        (Scope(), ALARM, True),
        (Scope(), replace(ALARM, tenant="*", site_ids=()), True),
        (Scope(tenant="north"), ALARM, True),
        (Scope(tenant="south"), ALARM, False),
        (Scope(tenant="north"), replace(ALARM, tenant="*"), False),
        (Scope(tenant="north", site_ids=frozenset({"1", "2", "3"})), ALARM, True),
        (Scope(tenant="north", site_ids=frozenset({"1"})), ALARM, False),
        (Scope(tenant="north", site_ids=frozenset({"1"})), replace(ALARM, site_ids=None), False),
        (Scope(tenant="north", site_ids=frozenset({"1"})), replace(ALARM, site_ids=()), False),
        (Scope(tenant="north", site_ids=frozenset()), ALARM, False),
    ],
)
def test_an_alarm_is_seen_by_who_sees_all_that_it_concerns(scope: Scope, alarm: Alarm, seen: bool) -> None:
    assert AlarmFilter(scope=scope).matches(alarm) is seen
