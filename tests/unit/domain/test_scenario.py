"""When the actions of a scenario take place, and which agent has which of them."""

import math
from itertools import islice

import pytest

from tests.unit.headend.parts import asset_id, make_fleet
from trioder.domain.scenario import Action, Scenario


def make_action(*, number: int = 0, positions: range = range(1), **changes: float) -> Action:
    values: dict[str, float] = {"at_s": 10.0, **changes}
    return Action(
        number=number,
        name="trip",
        parameters={},
        asset_ids=frozenset(map(asset_id, positions)),
        **values,
    )


def times(action: Action, now_s: float, most: int = 3) -> list[tuple[int, float, float]]:
    return [tuple(each) for each in islice(action.occurrences(now_s), most)]


def test_an_action_without_an_end_takes_place_once() -> None:
    assert times(make_action(), 0.0) == [(0, 10.0, math.inf)]
    assert times(make_action(), 1e6) == [(0, 10.0, math.inf)]


def test_one_that_is_over_does_not_take_place_again() -> None:
    action = make_action(for_s=5.0)
    assert times(action, 14.9) == [(0, 10.0, 15.0)]
    assert times(action, 15.0) == []


@pytest.mark.parametrize(
    ("now_s", "first"),
    [
        (0.0, 0),
        (10.0, 0),
        (14.9, 0),
        (15.0, 1),
        (29.0, 1),
        (34.9, 1),
        (35.0, 2),
        (1e6 * 20 + 10.0, 1_000_000),
    ],
)
def test_a_repeated_action_goes_on_with_the_first_that_is_not_over(now_s: float, first: int) -> None:
    action = make_action(for_s=5.0, every_s=20.0, times=math.inf)
    expected = [(number, 10.0 + 20.0 * number, 15.0 + 20.0 * number) for number in range(first, first + 3)]
    assert times(action, now_s) == expected


def test_it_is_repeated_as_often_as_it_says() -> None:
    action = make_action(for_s=5.0, every_s=20.0, times=2)
    assert times(action, 0.0, most=9) == [(0, 10.0, 15.0), (1, 30.0, 35.0)]
    assert times(action, 35.0) == []


def test_a_derate_is_not_over_before_it_has_faded() -> None:
    action = Action(
        number=0,
        name="derate",
        at_s=10.0,
        for_s=5.0,
        parameters={"factor": 0.5, "over_s": 0.0, "back_s": 8.0},
        asset_ids=frozenset(),
    )
    assert times(action, 22.9) == [(0, 10.0, 15.0)]
    assert times(action, 23.0) == []


def test_an_agent_has_the_actions_of_its_own_assets_only() -> None:
    assets = make_fleet(4).assets
    scenario = Scenario(
        name="x",
        seed=3,
        actions=(make_action(positions=range(1, 3)), make_action(number=1, positions=range(1))),
    )
    first = scenario.cut(assets[:2], start_unix_s=7.0)
    assert first is not None
    assert (first.seed, first.start_unix_s) == (3, 7.0)
    assert [(each.number, each.asset_ids) for each in first.actions] == [
        (0, frozenset({asset_id(1)})),
        (1, frozenset({asset_id(0)})),
    ]
    second = scenario.cut(assets[2:3])
    assert second is not None
    assert [each.number for each in second.actions] == [0]
    assert scenario.cut(assets[3:]) is None
