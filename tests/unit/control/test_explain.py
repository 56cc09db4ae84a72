"""Each battery's part of a group's dispatch, explained."""

import pytest

from tests.unit.control.driver import split
from trioder.control.allocation import Candidate, Exclusion, ShareLimit
from trioder.domain.dispatch import Strategy

GROUP = [Candidate(0, 100.0, 50.0), Candidate(1, 300.0, 350.0)]


def explanations(total_mw: float, group: list[Candidate], strategy: Strategy = "headroom") -> list[str]:
    result = split(total_mw, group, strategy)
    return [result.explain(position)[1] for position in range(len(group))]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("headroom", "12.5 MW: its share by headroom (50 of 400 MW holdable for 900 s)"),
        ("capacity", "25 MW: its share by capacity (100 of 400 MWh not at their limit)"),
        ("equal", "50 MW: an equal share (1 of 2 batteries not at their limit)"),
    ],
)
def test_a_share_is_reported_with_the_numbers_that_made_it(strategy: Strategy, expected: str) -> None:
    group = [GROUP[0]._replace(limit_mw=51.0), GROUP[1]] if strategy == "equal" else GROUP
    assert explanations(100.0, group, strategy)[0] == expected


def test_a_share_is_reported_of_what_the_full_batteries_have_left() -> None:
    group = [Candidate(0, 40.0, 2.0, "energy"), Candidate(1, 40.0, 90.0), Candidate(2, 80.0, 90.0)]
    assert explanations(-32.0, group, "capacity") == [
        "limited by energy: -2 MW can be held for 900 s",
        "-10 MW: its share by capacity (40 of 120 MWh not at their limit)",
        "-20 MW: its share by capacity (80 of 120 MWh not at their limit)",
    ]


@pytest.mark.parametrize(
    ("limited_by", "expected"),
    [
        ("nameplate", "limited by nameplate: 3.2 MW is its rating"),
        ("energy", "limited by energy: 3.2 MW can be held for 900 s"),
        ("ramp", "limited by ramp: 3.2 MW can be reached within 60 s"),
        ("available", "limited by available: 3.2 MW is what the battery reports that it can do now"),
        ("delivery", "limited by delivery: 3.2 MW is what it gave when it was asked for more"),
    ],
)
def test_a_limit_is_reported_with_what_it_allows(limited_by: ShareLimit, expected: str) -> None:
    assert explanations(10.0, [Candidate(0, 40.0, 3.2, limited_by)]) == [expected]


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        ("not_connected", "none: not connected"),
        ("no_telemetry", "none: nothing reported in this session yet"),
        ("suspect", "none: what its agent reported last cannot be"),
        ("stale", "none: stale, last heard of 31.2 s ago"),
        ("commanded_otherwise", "none: commanded otherwise"),
    ],
)
def test_an_exclusion_is_reported(excluded: Exclusion, expected: str) -> None:
    assert explanations(10.0, [Candidate(0, 40.0, 0.0, "nameplate", excluded, 31.24)]) == [expected]


def test_a_request_for_0_mw_is_explained_as_such() -> None:
    assert explanations(0.0, GROUP) == ["0 MW: 0 MW is asked of the whole group"] * 2
