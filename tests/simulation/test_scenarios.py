"""The shipped scenarios, and what the headend must make of them.

`EXPECTED` is the table of conditions and of agents' events with their times, `ALARMS` that of the alarms
that operators see, and `OUTCOMES` that of the dispatches: all of them, and no others. A new kind of alarm
gets a row here, and in docs/scenarios.md.
"""

from functools import cache, partial
from typing import NamedTuple

import pytest
import trio
import trio.testing

from tests.simulation.scenario_runs import ROOT, SCENARIOS, STORIES, Recording, run_scenario
from trioder.domain.alarms import AlarmKind, AlarmState, Severity
from trioder.domain.lifecycle import DispatchState

# The first test of a scenario runs its hours.
pytestmark = pytest.mark.timeout(600)
# How late a fact may be: the pulse of 4 s, and what the headend waits for where it waits.
PULSE_S = 4.5


class Expected(NamedTuple):
    """An alarm, its end, or an agent's event.

    Attributes:
        kind: `alarm` or `cleared` and the alarm's kind; `event` and its type.
        about: an asset, or an agent.
        at_s: after the scenario's start.
        within_s: how much later it may be.
    """

    kind: str
    about: str
    at_s: float
    within_s: float = PULSE_S


LIAR = "Diablo DIBLO"
CRIMSON = ("Crimson SWSH1", "Crimson SWSH2")
# Both batteries of the gateway's agent.
GATEWAY = ("Elkhorn ELKHO", "Gateway GTWAY")
HOT = (*CRIMSON, "McCoy MCST1", "Sunlight SUNS1", "Moss BAT1", "Moss BAT2", "Elkhorn ELKHO")
# A value is good again for two samples before the alarm is cleared.
CLEARED_S = 3 * PULSE_S

EXPECTED: dict[str, list[Expected]] = {
    "site_trips": [
        *(Expected("event INVERTER_FAULT", name, 300) for name in CRIMSON),
        *(Expected("event INVERTER_FAULT_CLEARED", name, 900) for name in CRIMSON),
    ],
    "gateway_drops": [
        # Back within the longest back-off and the time of a dial.
        *(Expected("event comms_loss_reversion", name, 600, 45) for name in GATEWAY),
        Expected("event CLOCK_STEP", "shard-2", 600, 45),
        Expected("alarm clock_skew", "shard-2", 600, 45),
        Expected("event CLOCK_STEP", "shard-2", 900),
        Expected("cleared clock_skew", "shard-2", 900),
    ],
    "hot_afternoon": [
        *(Expected("event DERATED", name, 600) for name in HOT),
        *(Expected("event DERATED_CLEARED", name, 11_400) for name in HOT),
    ],
    "lying_inverter": [
        Expected("alarm values", LIAR, 720),
        Expected("cleared values", LIAR, 840, CLEARED_S),
        Expected("alarm values", LIAR, 1020),
        Expected("cleared values", LIAR, 1140, CLEARED_S),
        Expected("event SENSOR_FAULT", LIAR, 1320),
        Expected("alarm values", LIAR, 1320),
        Expected("event SENSOR_FAULT_CLEARED", LIAR, 1440),
        Expected("cleared values", LIAR, 1440, CLEARED_S),
    ],
    "bad_network": [],
}


def alarm(
    kind: AlarmKind, severity: Severity, source: str, state: AlarmState = "cleared"
) -> tuple[AlarmKind, Severity, str, AlarmState]:
    """An alarm, with its state at the end."""
    return kind, severity, source, state


DIABLO = "asset Diablo Energy Storage DIBLO"
# By kind and source; those of one source in the order in which they were raised.
ALARMS = {
    "site_trips": [
        *(alarm("device_fault", "major", f"asset {name} INVERTER_FAULT") for name in CRIMSON),
        *(alarm("dispatch_rejected", "major", f"asset {name}") for name in CRIMSON),
    ],
    "gateway_drops": [
        alarm("away", "major", "agent shard-2"),
        alarm("clock_skew", "minor", "agent shard-2"),
    ],
    "hot_afternoon": [
        alarm("soc_limit", "warning", DIABLO, "open"),
        alarm("soc_limit", "warning", "asset Gateway Energy Storage System GTWAY", "open"),
    ],
    "lying_inverter": [
        alarm("value_bad", "major", DIABLO),
        alarm("value_suspect", "minor", DIABLO),
        alarm("value_suspect", "minor", DIABLO),
    ],
    "bad_network": [alarm("away", "major", "agent shard-2")],
}
# Of each dispatch: how many setpoints ended in which state, and the shortfall at the end, MW.
OUTCOMES: dict[str, list[tuple[dict[DispatchState, int], float]]] = {
    "site_trips": [({"completed": 7, "rejected": 2}, 57.5), ({"completed": 9}, 0.0)],
    "gateway_drops": [({"completed": 7, "failed": 2}, 0.0), ({"completed": 9}, 0.0)],
    "hot_afternoon": [({"completed": 9}, 8.6)],
    "lying_inverter": [
        ({"superseded": 9}, 0.0),
        *[({"failed": 1, "superseded": 8}, 0.0) for _ in range(4)],
        *[({"superseded": 9}, 0.0) for _ in range(3)],
        ({"completed": 9}, 0.0),
    ],
    "bad_network": [({"completed": 7, "failed": 2}, 0.0)],
}
PAGE = ROOT / "docs" / "scenarios.md"


@cache
def recorded(name: str) -> Recording:
    """One run serves all tests of a scenario."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(partial(run_scenario, name), clock=clock)


def delivered_mw(recording: Recording, at_s: float, *names: str) -> float:
    """What these batteries, or all, have at their meters."""
    sample = recording.at(at_s)
    return sum(
        mw for name, mw in zip(recording.names, sample.real_mw, strict=True) if not names or name in names
    )


def quality(recording: Recording, name: str, at_s: float) -> str:
    return recording.at(at_s).quality[recording.names.index(name)]


def test_every_shipped_scenario_is_tested() -> None:
    assert {path.stem for path in SCENARIOS.glob("*.yaml")} == set(STORIES) == set(EXPECTED) == set(ALARMS)


@pytest.mark.parametrize("name", STORIES)
def test_the_alarms_and_events_are_those_expected(name: str) -> None:
    happened = [
        each for each in recorded(name).happenings if each.kind.split()[0] in {"alarm", "cleared", "event"}
    ]
    for expected in EXPECTED[name]:
        found = [
            each
            for each in happened
            if (each.kind, each.about) == (expected.kind, expected.about)
            and expected.at_s <= each.at_s <= expected.at_s + expected.within_s
        ]
        assert found, (expected, happened)
        happened.remove(found[0])
    assert happened == []


@pytest.mark.parametrize("name", STORIES)
def test_the_alarms_that_operators_see_are_those_expected(name: str) -> None:
    found = [
        alarm(each.kind, each.severity, each.source, "open" if each.cleared_s is None else "cleared")
        for each in recorded(name).alarms
    ]
    assert sorted(found) == ALARMS[name]


@pytest.mark.parametrize("name", STORIES)
def test_the_dispatches_end_as_expected(name: str) -> None:
    dispatches = recorded(name).dispatches
    assert [(dict(each.by_state), round(each.shortfall_mw, 1)) for each in dispatches] == OUTCOMES[name]


@pytest.mark.parametrize("name", STORIES)
def test_the_page_has_the_alarms_and_the_outcomes(name: str) -> None:
    section = PAGE.read_text().partition(f"[`{name}.yaml`]")[2].partition("\n#")[0]
    heads = ("| ---", "| alarm |", "| dispatch |")
    rows = [line for line in section.splitlines() if line.startswith("|") and not line.startswith(heads)]
    alarms = [
        f"| `{kind}` | {severity} | {source} | {state} |" for kind, severity, source, state in ALARMS[name]
    ]
    outcomes = [
        f"| {order.mw:,} MW for {order.duration_s:,} s | "
        f"{', '.join(f'{count} {state}' for state, count in by_state.items())} | {shortfall_mw:g} MW |"
        for order, (by_state, shortfall_mw) in zip(STORIES[name].orders, OUTCOMES[name], strict=True)
    ]
    assert rows == alarms + outcomes


@pytest.mark.parametrize("name", STORIES)
def test_no_sample_is_lost(name: str) -> None:
    recording = recorded(name)
    assert (recording.batches_dropped, recording.batches_waiting <= 1) == (0, True)


class TestSiteTrips:
    def test_the_others_take_over_what_they_can_within_10_s(self) -> None:
        recording = recorded("site_trips")
        assert delivered_mw(recording, 295) == pytest.approx(1550)
        assert delivered_mw(recording, 310) == pytest.approx(1492.5)
        assert delivered_mw(recording, 310, *CRIMSON) == 0.0

    def test_the_shortfall_is_what_the_others_cannot_do(self) -> None:
        recording = recorded("site_trips")
        assert recording.at(310).shortfall_mw == pytest.approx(57.5)

    def test_the_site_refuses_with_a_reason_and_the_others_complete(self) -> None:
        recording = recorded("site_trips")
        assert recording.dispatches[0].by_state == {"rejected": 2, "completed": 7}
        assert {recording.member(0, name).reason for name in CRIMSON} == {"the inverter has tripped"}

    def test_the_site_stays_at_0_mw_when_it_is_back_until_it_is_dispatched_again(self) -> None:
        recording = recorded("site_trips")
        assert delivered_mw(recording, 950, *CRIMSON) == 0.0
        assert recording.dispatches[1].by_state == {"completed": 9}
        assert recording.dispatches[1].shortfall_mw == 0.0

    def test_its_values_are_good_throughout(self) -> None:
        recording = recorded("site_trips")
        assert {each for sample in recording.samples for each in sample.quality} == {"good"}


class TestGatewayDrops:
    def test_the_half_open_session_is_closed_within_15_s(self) -> None:
        [(closed_s, agent_id)] = recorded("gateway_drops").of("session closed")
        assert agent_id == "shard-2"
        assert 300 < closed_s <= 315

    def test_it_returns_within_45_s(self) -> None:
        reopened = [each for each in recorded("gateway_drops").of("session opened") if each[0] > 300]
        assert [agent_id for _, agent_id in reopened] == ["shard-2"]
        assert 600 <= reopened[0][0] <= 645

    def test_its_share_is_reallocated_once_it_is_stale(self) -> None:
        recording = recorded("gateway_drops")
        assert set(recording.dropped(0)) == set(GATEWAY)
        assert recording.dispatches[0].shortfall_mw == 0.0
        assert recording.at(330).good_mw == pytest.approx(1000)
        assert recording.dispatches[0].by_state == {"failed": 2, "completed": 7}

    def test_its_batteries_go_on_until_the_loss_of_the_headend_reverts_them(self) -> None:
        recording = recorded("gateway_drops")
        assert delivered_mw(recording, 415) == pytest.approx(1240.5, abs=0.1)
        # The agent closes the connection within 15 s, and reverts 120 s later.
        assert delivered_mw(recording, 440) == pytest.approx(1000)

    @pytest.mark.parametrize(
        ("at_s", "expected"),
        # Without a session the headend's own model stands in.
        [(298, "good"), (312, "stale"), (500, "synthesized"), (700, "good")],
    )
    def test_its_quality_follows_the_connection(self, at_s: float, expected: str) -> None:
        recording = recorded("gateway_drops")
        assert {quality(recording, name, at_s) for name in GATEWAY} == {expected}

    def test_the_next_dispatch_uses_it_though_its_clock_is_wrong(self) -> None:
        recording = recorded("gateway_drops")
        assert recording.dispatches[1].by_state == {"completed": 9}
        assert delivered_mw(recording, 800) == pytest.approx(1000)


class TestHotAfternoon:
    def test_what_the_derated_cannot_do_the_others_do_until_all_are_at_their_limits(self) -> None:
        recording = recorded("hot_afternoon")
        # In steps: a battery is reallocated when it has left its tolerance.
        assert delivered_mw(recording, 4000) == pytest.approx(1300, rel=0.01)
        assert recording.at(7000).shortfall_mw == pytest.approx(50, abs=5)
        assert delivered_mw(recording, 7000) == pytest.approx(1247, abs=5)

    def test_the_shortfall_falls_as_the_limits_rise(self) -> None:
        recording = recorded("hot_afternoon")
        assert recording.at(8390).shortfall_mw < 15

    def test_nobody_deviates_or_drops_out(self) -> None:
        recording = recorded("hot_afternoon")
        assert recording.of("deviating") == []
        assert recording.dropped(0) == {}
        assert recording.dispatches[0].by_state == {"completed": 9}

    def test_the_batteries_report_the_derated_limits_as_available(self) -> None:
        recording = recorded("hot_afternoon")
        crimson = recording.names.index("Crimson SWSH1")
        assert recording.at(7000).available_mw[crimson] == pytest.approx(0.6 * 175)
        assert recording.at(11_500).available_mw[crimson] == pytest.approx(175)


class TestLyingInverter:
    def test_a_wrong_sign_is_a_deviation_of_good_values(self) -> None:
        recording = recorded("lying_inverter")
        assert quality(recording, LIAR, 440) == "good"
        assert list(recording.dropped(1)) == [LIAR]
        assert recording.dropped(1)[LIAR].startswith("deviating: -111.2")
        assert recording.member(1, LIAR).state == "failed"

    @pytest.mark.parametrize(
        ("order", "at_s", "expected"), [(2, 730, "suspect"), (3, 1030, "suspect"), (4, 1330, "bad")]
    )
    def test_impossible_and_flagged_values_drop_out_by_their_quality(
        self, order: int, at_s: float, expected: str
    ) -> None:
        recording = recorded("lying_inverter")
        assert quality(recording, LIAR, at_s) == expected
        assert list(recording.dropped(order)) == [LIAR]
        assert recording.dropped(order)[LIAR].startswith("suspect")
        assert recording.member(order, LIAR).state == "failed"

    def test_frozen_values_are_found_when_the_setpoint_changes(self) -> None:
        recording = recorded("lying_inverter")
        assert recording.adjusted(5) == {}
        assert recording.adjusted(6)[LIAR].startswith("deviating: 66.7")
        assert recording.member(6, LIAR).code == "limited_by_delivery"

    def test_a_battery_that_ignores_its_setpoint_is_relied_on_for_what_it_delivers(self) -> None:
        recording = recorded("lying_inverter")
        assert recording.adjusted(7) == {}
        assert (2460, LIAR) in [(at_s // 1, name) for at_s, name in recording.of("accepted")]
        assert recording.adjusted(8)[LIAR].startswith("deviating: 66.7")
        assert recording.member(8, LIAR).mw == pytest.approx(66.7, abs=0.1)
        assert [recording.dropped(order) for order in (7, 8)] == [{}, {}]

    @pytest.mark.parametrize("at_s", [500, 800, 1100, 1400, 2050, 2600])
    def test_the_fleet_delivers_what_was_asked_whatever_is_reported(self, at_s: float) -> None:
        recording = recorded("lying_inverter")
        assert recording.at(at_s).good_mw == pytest.approx(1000)

    def test_the_others_are_left_alone(self) -> None:
        recording = recorded("lying_inverter")
        for number in range(len(recording.dispatches)):
            others = {recording.member(number, name).state for name in recording.names if name != LIAR}
            assert others <= {"superseded", "completed"}


class TestBadNetwork:
    def test_the_chosen_links_are_cut_at_random_and_back_within_3_s(self) -> None:
        recording = recorded("bad_network")
        lossy = recording.scenario.actions[1].asset_ids
        names = {
            name
            for name, asset_id in zip(recording.names, recording.fleet.asset_ids, strict=True)
            if asset_id in lossy
        }
        agents = {f"shard-{recording.names.index(name) // 2}" for name in names}
        closed, opened = recording.of("session closed"), recording.of("session opened")
        by_chance = [each for each in closed if not 420 <= each[0] < 481]
        assert {agent_id for _, agent_id in by_chance} == agents
        assert len(by_chance) > 10
        for closed_s, agent_id in by_chance:
            assert any(each == agent_id and closed_s <= opened_s < closed_s + 3 for opened_s, each in opened)

    def test_a_loss_of_less_than_5_s_changes_no_allocation(self) -> None:
        recording = recorded("bad_network")
        # But for the link that was down for a minute.
        assert set(recording.dropped(0)) == set(GATEWAY)
        assert set(recording.dropped(0).values()) == {"not connected for 5 s"}
        assert recording.dispatches[0].by_state == {"failed": 2, "completed": 7}

    def test_the_total_is_delivered_once_the_link_that_was_down_is_back(self) -> None:
        recording = recorded("bad_network")
        assert delivered_mw(recording, 415) == pytest.approx(1000)
        assert delivered_mw(recording, 470) == pytest.approx(1240.5, abs=0.1)
        # A battery whose power was reallocated is set to its reversion when it reconnects.
        assert delivered_mw(recording, 520) == pytest.approx(1000)
        assert recording.dispatches[0].shortfall_mw == 0.0

    def test_all_is_well_at_the_end(self) -> None:
        recording = recorded("bad_network")
        assert [each for each in recording.of("session closed") if each[0] > 900] == []
        assert recording.at(1100).assets_connected == 9
        assert set(recording.at(1100).quality) == {"good"}
