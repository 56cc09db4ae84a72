"""Which alarms active conditions make, as their number grows and shrinks."""

from trioder.control.alarms.conditions import Condition
from trioder.control.alarms.grouping import (
    GROUP_ABOVE,
    SEPARATE_AT,
    SUMMARIZE_ABOVE,
    UNGROUP_AT,
    Grouping,
)
from trioder.domain.alarms import AlarmSource

SUMMARY = ("headend", "north")


class Groups:
    """Assets "<agent>/<number>", all of one tenant; and the alarms that there are to be."""

    def __init__(self) -> None:
        self.whole: set[str] = set()
        self.alarms: dict[AlarmSource, int] = {}
        self.conditions: dict[str, Condition] = {}
        self.made = 0
        self.grouping = Grouping(
            group_of=lambda source: AlarmSource("agent", source.id.partition("/")[0]),
            tenant_of=lambda _: "north",
            is_whole=lambda _, group: group.id in self.whole,
        )

    def on(self, *ids: str) -> None:
        for id_ in ids:
            condition = self.conditions[id_] = Condition(
                kind="stale", source=AlarmSource("asset", id_), reason="r", value=None, severity="minor"
            )
            condition.is_active = True
            self.grouping.update(condition)
        self.apply()

    def off(self, *ids: str) -> None:
        for id_ in ids:
            condition = self.conditions.pop(id_)
            condition.is_active = False
            self.grouping.update(condition)
        self.apply()

    def apply(self) -> None:
        for change in self.grouping.changes():
            for source, wanted in change.wanted.items():
                self.made += source not in self.alarms
                self.alarms[source] = len(wanted.conditions)
            for source in change.shown - change.wanted.keys():
                del self.alarms[source]

    def shown(self) -> dict[tuple[str, str], int]:
        return {(source.kind, source.id): count for source, count in self.alarms.items()}


def ids(agent: str, count: int) -> list[str]:
    return [f"{agent}/{number}" for number in range(count)]


def test_few_conditions_are_an_alarm_each_and_many_at_an_agent_are_one() -> None:
    groups = Groups()
    groups.on(*ids("a", GROUP_ABOVE))
    groups.on(*ids("b", GROUP_ABOVE + 1))
    assert groups.shown() == {
        **{("asset", one): 1 for one in ids("a", GROUP_ABOVE)},
        ("agent", "b"): GROUP_ABOVE + 1,
    }


def test_single_alarms_become_a_group_and_single_ones_again_with_hysteresis() -> None:
    groups = Groups()
    members = ids("a", GROUP_ABOVE + 1)
    groups.on(*members[:-1])
    groups.on(members[-1])
    assert groups.shown() == {("agent", "a"): GROUP_ABOVE + 1}
    groups.off(*members[UNGROUP_AT + 1 :])
    assert groups.shown() == {("agent", "a"): UNGROUP_AT + 1}
    groups.off(members[UNGROUP_AT])
    assert groups.shown() == {("asset", one): 1 for one in members[:UNGROUP_AT]}
    groups.off(*members[:UNGROUP_AT])
    assert groups.shown() == {}


def test_a_whole_group_is_one_alarm_even_of_one_condition() -> None:
    groups = Groups()
    groups.whole.add("a")
    groups.on("a/0", "b/0")
    assert groups.shown() == {("agent", "a"): 1, ("asset", "b/0"): 1}
    groups.whole.discard("a")
    groups.grouping.touch("stale", AlarmSource("agent", "a"))
    groups.apply()
    assert groups.shown() == {("asset", "a/0"): 1, ("asset", "b/0"): 1}


def test_a_group_is_not_separated_while_all_of_it_is_about_to_be_cleared() -> None:
    groups = Groups()
    groups.whole.add("a")
    groups.on("a/0", "a/1")
    for condition in groups.conditions.values():
        condition.is_on = False
    groups.whole.discard("a")
    groups.grouping.touch("stale", AlarmSource("agent", "a"))
    groups.apply()
    assert groups.shown() == {("agent", "a"): 2}
    groups.off("a/0", "a/1")
    assert (groups.shown(), groups.made) == ({}, 1)


def test_ten_thousand_at_once_are_one_alarm_and_their_agents_again_as_they_clear() -> None:
    groups = Groups()
    everything = [one for agent in range(400) for one in ids(f"agent{agent}", 25)]
    groups.on(*everything)
    assert groups.shown() == {SUMMARY: 10_000}
    assert groups.made == 1
    groups.off(*everything[: 25 * (400 - SEPARATE_AT)])
    assert set(groups.shown()) == {("agent", f"agent{number}") for number in range(400 - SEPARATE_AT, 400)}
    groups.off(*everything[25 * (400 - SEPARATE_AT) :])
    assert groups.shown() == {}


def test_a_summary_takes_over_the_alarms_before_it_and_what_comes_later() -> None:
    groups = Groups()
    agents = [f"agent{number}" for number in range(SUMMARIZE_ABOVE + 2)]
    groups.on(*(f"{agent}/0" for agent in agents[:SUMMARIZE_ABOVE]))
    assert len(groups.shown()) == SUMMARIZE_ABOVE
    groups.on(f"{agents[-2]}/0")
    assert groups.shown() == {SUMMARY: SUMMARIZE_ABOVE + 1}
    groups.on(f"{agents[-1]}/0")
    assert groups.shown() == {SUMMARY: SUMMARIZE_ABOVE + 2}


def test_a_summary_stays_until_there_are_as_few_alarms_as_its_hysteresis_says() -> None:
    groups = Groups()
    members = [f"agent{number}/0" for number in range(SUMMARIZE_ABOVE + 1)]
    groups.on(*members)
    groups.off(*members[SEPARATE_AT + 1 :])
    assert groups.shown() == {SUMMARY: SEPARATE_AT + 1}
    groups.off(members[SEPARATE_AT])
    assert groups.shown() == {("asset", one): 1 for one in members[:SEPARATE_AT]}


def test_a_source_that_moves_to_another_agent_is_counted_there() -> None:
    groups = Groups()
    moved = {"a/0": "b"}
    groups.grouping = Grouping(
        group_of=lambda source: AlarmSource("agent", moved.get(source.id) or source.id.partition("/")[0]),
        tenant_of=lambda _: "north",
        is_whole=lambda *_: False,
    )
    groups.on(*ids("b", GROUP_ABOVE), "a/0")
    assert groups.shown() == {("agent", "b"): GROUP_ABOVE + 1}
    moved["a/0"] = "c"
    groups.grouping.regroup("stale", AlarmSource("asset", "a/0"))
    groups.apply()
    assert groups.shown() == {("agent", "b"): GROUP_ABOVE, ("asset", "a/0"): 1}


def test_a_summary_from_before_the_start_stays_until_it_is_released() -> None:
    groups = Groups()
    summary = AlarmSource(*SUMMARY)
    groups.alarms[summary] = 10_000
    groups.grouping.adopt("stale", summary, summary)
    groups.on("a/0")
    assert groups.shown() == {SUMMARY: 10_000}
    groups.grouping.release_adopted()
    groups.apply()
    assert groups.shown() == {("asset", "a/0"): 1}
