"""Which days may go: under right clocks, wrong ones, after outages, and with an operator's consent."""

import random
from dataclasses import replace
from datetime import date, timedelta

import pytest

from trioder.store.postgres.retention import Holdings, RetentionPlan, RetentionState, plan_retention

D = date(2027, 1, 15)
DAY = timedelta(days=1)


def days(*offsets: int) -> set[date]:
    return {D + offset * DAY for offset in offsets}


class Database:
    """Days with telemetry, and the state that is kept with them."""

    def __init__(self, *offsets: int, retention_days: int = 30) -> None:
        self.days = days(*offsets)
        self.state = RetentionState()
        self.retention_days = retention_days
        self.pinned: set[date] = set()

    def run(self, today: date = D) -> RetentionPlan:
        plan = plan_retention(
            self.state,
            Holdings(days=self.days, pinned=self.pinned),
            today=today,
            retention_days=self.retention_days,
        )
        self.state = plan.state
        self.dropped = sorted(day for day in self.days if plan.drops(day))
        self.days -= set(self.dropped)
        return plan

    def confirm(self, plan: RetentionPlan) -> None:
        self.state = replace(
            self.state,
            confirmed_before=plan.held.before,
            newest_day=max(self.state.newest_day or date.min, plan.held.newest_day),
        )


def test_the_oldest_day_is_dropped_daily() -> None:
    database = Database(*range(-30, 1))
    for number in range(100):
        today = D + number * DAY
        database.days.add(today)
        plan = database.run(today)
        assert plan.held is None
        assert len(database.days) == 31
    assert min(database.days) == D + 69 * DAY


@pytest.mark.parametrize("ahead", [4, 20, 31, 400, 4_000])
@pytest.mark.parametrize("there", [1, 2, 3, 31])
@pytest.mark.parametrize("retention_days", [1, 2, 30])
def test_a_clock_that_is_ahead_drops_nothing(ahead: int, there: int, retention_days: int) -> None:
    there = min(there, retention_days + 1)
    database = Database(*range(1 - there, 1), retention_days=retention_days)
    database.run()
    before = set(database.days)
    # It boots, and makes samples of its own under that clock, for two days, with many runs.
    for number in range(2):
        today = D + (ahead + number) * DAY
        for _ in range(10):
            database.run(today)
            database.days.add(today)
            plan = database.run(today)
    assert before <= database.days
    assert plan.held is None or "a clock may be wrong" in plan.held.reason
    # Right again: it goes on as if nothing had been.
    database.days.add(D + DAY)
    plan = database.run(D + DAY)
    assert plan.held is None
    assert {day for day in before if day > D - retention_days * DAY} <= database.days


@pytest.mark.parametrize("retention_days", [1, 2, 3, 30])
@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_a_clock_that_is_ahead_a_little_spares_the_newest_day(ahead: int, retention_days: int) -> None:
    database = Database(*range(-retention_days, 1), retention_days=retention_days)
    database.run()
    database.days.add(D + ahead * DAY)
    database.run(D + ahead * DAY)
    assert len(database.dropped) <= 2
    assert D in database.days


def test_a_clock_that_is_back_drops_nothing_and_holds_nothing_up() -> None:
    database = Database(*range(-35, 1), retention_days=40)
    database.run()
    for back in (1, 20, 365, 20_000):
        assert database.run(D - back * DAY).held is None
        assert database.dropped == []
    database.days |= days(*range(1, 6))
    for number in range(1, 6):
        assert database.run(D + number * DAY).held is None
    assert min(database.days) == D - 35 * DAY


def test_no_telemetry_no_drop() -> None:
    database = Database(*range(-35, -20))
    # Its newest day, not the clock, is what counts.
    assert database.run().held is None
    assert database.dropped == []


def test_a_weekend_is_no_jump() -> None:
    database = Database(*range(-30, 1))
    database.run()
    database.days.add(D + 3 * DAY)
    assert database.run(D + 3 * DAY).held.reason.startswith("a run drops at most 2 days more")
    assert len(database.dropped) == 2
    database.days.add(D + 4 * DAY)
    assert database.run(D + 4 * DAY).held is None
    assert min(database.days) == D - 26 * DAY


def test_after_a_longer_outage_telemetry_itself_proves_the_time() -> None:
    database = Database(*range(-30, 1))
    database.run()
    for number in range(6, 16):
        database.days.add(D + number * DAY)
        plan = database.run(D + number * DAY)
        assert (plan.held is not None and "5 days in between have none" in plan.held.reason) == (number < 11)
    for number in range(16, 25):
        database.days.add(D + number * DAY)
        plan = database.run(D + number * DAY)
    assert plan.held is None
    assert min(database.days) == D - 6 * DAY


def test_more_than_a_run_may_drop_is_dropped_in_growing_steps() -> None:
    database = Database(*range(-100, 1))
    counts = []
    for number in range(10):
        database.days.add(D + number * DAY)
        database.run(D + number * DAY)
        counts.append(len(database.dropped))
        # Once a day, however often it runs.
        database.run(D + number * DAY)
        assert database.dropped == []
    assert counts[:7] == [2, 4, 6, 8, 10, 12, 14]
    assert min(database.days) == D + (9 - 30) * DAY


def test_a_confirmation_drops_all_that_was_held_and_no_more() -> None:
    database = Database(*range(-100, 1))
    database.pinned = days(-90)
    plan = database.run()
    assert len(plan.held.days) == 67
    assert plan.held.before == D - 30 * DAY
    database.confirm(plan)
    assert database.run().held is None
    assert min(database.days) == D - 30 * DAY
    # It is used up: it proves nothing about the next wrong clock, nor is its size a measure.
    assert database.state.run_days == 2
    database.run(D + 400 * DAY)
    database.days.add(D + 400 * DAY)
    assert database.run(D + 400 * DAY).held is not None
    assert min(database.days) == D - 30 * DAY


def test_a_confirmed_jump_is_believed() -> None:
    database = Database(*range(-5, 1))
    database.run()
    database.days.add(D + 100 * DAY)
    plan = database.run(D + 100 * DAY)
    assert len(plan.held.days) == 6
    database.confirm(plan)
    assert database.run(D + 100 * DAY).held is None
    assert database.days == days(100)


def test_a_confirmation_under_a_wrong_clock_ends_with_it() -> None:
    database = Database(*range(-29, 1))
    database.run()
    database.days.add(D + 20 * DAY)
    database.confirm(database.run(D + 20 * DAY))
    database.run(D)
    assert database.dropped == []
    assert database.state.confirmed_before == D - 30 * DAY


def test_the_newest_day_of_an_asset_stays_until_confirmed() -> None:
    database = Database(*range(-30, 1))
    database.pinned = days(-30, -29)
    for number in range(1, 40):
        database.days.add(D + number * DAY)
        assert database.run(D + number * DAY).held is None
    assert days(-30, -29) <= database.days
    assert len(database.days) == 33
    database.pinned = set()
    database.run(D + 39 * DAY)
    assert len(database.days) == 31


def test_what_is_dated_before_2000_is_dropped_without_being_counted() -> None:
    database = Database(*range(-30, 1))
    database.days |= {date(1970, 1, 1) + number * DAY for number in range(50)}
    assert database.run().held is None
    assert len(database.days) == 31


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_clock_does_for_a_day_at_a_time_no_asset_loses_its_newest_days(seed: int) -> None:
    rng = random.Random(seed)
    retention_days = rng.choice([2, 7, 30])
    database = Database(0, retention_days=retention_days)
    database.run()
    true_days = [D]
    for number in range(1, 120):
        true_days.append(D + number * DAY)
        wrong = rng.choice([0, 0, 0, 0, -400, -1, 40, 400, 4_000])
        database.run(true_days[-1] + wrong * DAY)
        database.days |= {true_days[-1], true_days[-1] + wrong * DAY}
        database.run(true_days[-1] + wrong * DAY)
        assert set(true_days[-retention_days:]) <= database.days, (number, wrong)
