from tests.unit.launcher.fleets import shards_of
from trioder.launcher.progress import AgentStatus, FleetProgress

SHARDS = shards_of(assets=5, size=3)
FIRST, SECOND = (shard.agent_id for shard in SHARDS)


def fleet() -> FleetProgress:
    return FleetProgress(SHARDS, now_s=100.0)


def connected(assets: int) -> AgentStatus:
    return AgentStatus(state="connected", assets=assets)


def test_nothing_runs_at_first() -> None:
    snapshot = fleet().snapshot()
    assert (snapshot.agents_up, snapshot.agents) == (0, 2)
    assert (snapshot.connected, snapshot.assets) == (0, 5)


def test_the_fleet_is_whole_once_every_asset_is_connected() -> None:
    progress = fleet()
    for agent_id in (FIRST, SECOND):
        progress.agent_started(agent_id, now_s=101.0)
    progress.agent_reported(FIRST, connected(3), now_s=102.0)
    assert progress.snapshot().connected_after_s is None
    progress.agent_reported(SECOND, connected(2), now_s=104.5)
    assert progress.snapshot().connected_after_s == 4.5


def test_the_time_to_the_first_whole_fleet_stays() -> None:
    progress = fleet()
    progress.agent_reported(FIRST, connected(3), now_s=102.0)
    progress.agent_reported(SECOND, connected(2), now_s=103.0)
    progress.agent_reported(FIRST, AgentStatus(state="disconnected", assets=0), now_s=104.0)
    progress.agent_reported(FIRST, connected(3), now_s=105.0)
    assert progress.snapshot().connected_after_s == 3.0


def test_an_agent_that_ends_takes_its_assets_with_it() -> None:
    progress = fleet()
    progress.agent_started(FIRST, now_s=100.0)
    progress.agent_reported(FIRST, connected(3), now_s=101.0)
    assert progress.agent_ended(FIRST, now_s=107.0) == 7.0
    snapshot = progress.snapshot()
    assert (snapshot.agents_up, snapshot.connected) == (0, 0)


def test_a_status_other_than_connected_counts_no_asset() -> None:
    progress = fleet()
    progress.agent_reported(FIRST, connected(3), now_s=101.0)
    progress.agent_reported(FIRST, AgentStatus(state="refused", assets=3), now_s=102.0)
    assert progress.snapshot().connected == 0


def test_an_agent_never_counts_more_assets_than_it_has() -> None:
    progress = fleet()
    progress.agent_reported(FIRST, connected(999), now_s=101.0)
    assert progress.snapshot().connected == 3


def test_restarts_and_uptime_are_counted() -> None:
    progress = fleet()
    for start in (100.0, 110.0, 120.0):
        progress.agent_started(FIRST, now_s=start)
        progress.agent_ended(FIRST, now_s=start + 2)
    first, second = progress.records()
    assert (first.restarts, first.up_s) == (2, 6.0)
    assert (second.restarts, second.up_s) == (0, 0.0)
    assert progress.snapshot().restarts == 2


def test_each_entry_into_quarantine_counts_once() -> None:
    progress = fleet()
    for _ in range(3):
        progress.agent_quarantined(SECOND)
    assert progress.snapshot().quarantined == (SECOND,)
    progress.agent_recovered(SECOND)
    assert progress.snapshot().quarantined == ()
    progress.agent_quarantined(SECOND)
    assert [record.quarantines for record in progress.records()] == [0, 2]


def test_an_agent_that_could_not_be_started_ran_for_no_time() -> None:
    progress = fleet()
    assert progress.agent_ended(FIRST, now_s=107.0) == 0.0
    assert progress.snapshot().agents_up == 0
