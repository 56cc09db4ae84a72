"""The delays of conditions: when one becomes active, and when it ends."""

import pytest

from trioder.control.alarms import conditions as module
from trioder.control.alarms.conditions import Conditions
from trioder.domain.alarms import AlarmRule, AlarmSource

RULES = {
    "stale": AlarmRule(severity="minor", raise_after_s=5, clear_after_s=10),
    "gap": AlarmRule(severity="major", hold_s=100),
    "device_fault": AlarmRule(severity="major", clear_after_s=5, hold_s=1000),
}
ONE, OTHER = AlarmSource("asset", "1"), AlarmSource("asset", "2")


class Watch:
    """Conditions, and what of them changes by the second."""

    def __init__(self) -> None:
        self.conditions = Conditions(RULES)
        self.now_s = 0.0
        self.changed: list[tuple[float, str, bool]] = []

    def run_to(self, s: float) -> None:
        while self.now_s < s:
            self.now_s += 1.0
            for condition in self.conditions.pop_due(self.now_s):
                self.changed.append((self.now_s, condition.source.id, condition.is_active))

    def begin(self, kind: str = "stale", source: AlarmSource = ONE, reason: str = "r") -> bool:
        return self.conditions.begin(kind, source, now_s=self.now_s, reason=reason)

    def end(self, kind: str = "stale", source: AlarmSource = ONE) -> None:
        self.conditions.end(kind, source, now_s=self.now_s)


def test_a_condition_is_active_once_it_has_lasted_and_until_it_was_absent_as_long_as_its_rule_says() -> None:
    watch = Watch()
    watch.begin()
    watch.run_to(3)
    # Seen again: the delay runs from when it began.
    watch.begin()
    watch.run_to(20)
    watch.end()
    watch.run_to(25)
    watch.end()
    watch.run_to(60)
    assert watch.changed == [(5.0, "1", True), (30.0, "1", False)]
    assert len(watch.conditions) == 0


def test_a_condition_that_is_shorter_than_its_delay_is_never_active() -> None:
    watch = Watch()
    for s in range(0, 100, 8):
        watch.run_to(s)
        watch.begin()
        watch.run_to(s + 4)
        watch.end()
    watch.run_to(200)
    assert watch.changed == []
    assert len(watch.conditions) == 0


def test_a_condition_that_flaps_faster_than_it_clears_stays_active() -> None:
    watch = Watch()
    watch.begin()
    watch.run_to(10)
    for s in range(10, 100, 12):
        watch.end()
        watch.run_to(s + 9)
        watch.begin()
        watch.run_to(s + 12)
    assert watch.changed == [(5.0, "1", True)]


def test_what_ends_by_itself_does_so_a_time_after_it_was_last_seen() -> None:
    watch = Watch()
    watch.begin("gap")
    watch.run_to(60)
    watch.begin("gap")
    watch.run_to(300)
    assert watch.changed == [(1.0, "1", True), (160.0, "1", False)]


def test_what_ends_by_itself_can_be_ended_before() -> None:
    watch = Watch()
    watch.begin("device_fault")
    watch.run_to(60)
    watch.end("device_fault")
    watch.run_to(3000)
    assert watch.changed == [(1.0, "1", True), (65.0, "1", False)]


def test_sources_and_details_are_apart() -> None:
    watch = Watch()
    watch.begin("device_fault", ONE._replace(detail="A"))
    watch.begin("device_fault", ONE._replace(detail="B"))
    watch.begin("stale", OTHER)
    watch.end("stale", ONE)
    watch.run_to(10)
    assert len(watch.conditions) == 3
    assert len(watch.conditions.of_source(ONE)) == 2


def test_an_active_condition_says_when_what_it_shows_has_changed() -> None:
    watch = Watch()
    assert watch.begin() is False
    assert watch.begin(reason="other") is False
    watch.run_to(10)
    assert watch.begin(reason="other") is False
    assert watch.begin(reason="third") is True


def test_a_restored_condition_ends_with_the_grace_unless_it_is_seen() -> None:
    watch = Watch()
    for source in (ONE, OTHER):
        watch.conditions.restore("stale", source, reason="r", severity="minor", clears_s=60.0, ends_s=None)
    watch.run_to(30)
    watch.begin("stale", ONE)
    watch.run_to(100)
    assert watch.changed == [(60.0, "2", False)]


def test_a_restored_condition_that_is_absent_ends_after_its_own_delay() -> None:
    watch = Watch()
    watch.conditions.restore("stale", ONE, reason="r", severity="minor", clears_s=60.0, ends_s=None)
    watch.run_to(3)
    watch.end()
    watch.run_to(100)
    assert watch.changed == [(13.0, "1", False)]


def test_what_peers_can_name_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMED_BY_PEERS", 10)
    watch = Watch()
    for number in range(15):
        watch.begin("device_fault", ONE._replace(detail=f"TYPE_{number}"))
        watch.begin("stale", AlarmSource("asset", f"{number}"))
    assert watch.conditions.dropped == 5
    assert len(watch.conditions) == 25


def test_a_flood_of_short_conditions_leaves_no_memory_behind() -> None:
    watch = Watch()
    for number in range(20_000):
        source = ONE._replace(detail=f"{number}")
        watch.begin("gap", source)
        watch.end("gap", source)
    assert len(watch.conditions) == 0
    assert len(watch.conditions._due) < 2_000  # the schedule has no other sign
