"""The supervisor in virtual time: quarantine, and retired agents. The processes are stand-ins."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.unit.launcher.fleets import shards_of
from trioder.launcher.process import AgentEnd, AgentOutput
from trioder.launcher.progress import FleetProgress
from trioder.launcher.shards import LaunchSettings, RetiredAgents
from trioder.launcher.supervisor import FleetFailedError, run_fleet

SHARDS = shards_of(assets=6, size=2)
FIRST, SECOND, THIRD = (shard.agent_id for shard in SHARDS)
Behave = Callable[[AgentOutput], Any]


async def good(output: AgentOutput) -> int:
    output.handle_status(json.dumps({"state": "connected", "assets": 2}))
    await trio.sleep_forever()


async def crashes(output: AgentOutput) -> int:
    await trio.sleep(1)
    output.handle_log("out of luck")
    return 1


async def refuses(output: AgentOutput) -> int:
    await trio.sleep(1)
    output.handle_log("MAX_MW is -3")
    return 2


async def silent(output: AgentOutput) -> int:
    await trio.sleep(300)
    return 1


@dataclass
class Agents:
    """Stands in for the processes: each behaves as is set at its start."""

    behaviours: dict[str, Behave] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    documents: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)

    async def run(
        self,
        command: Sequence[str],
        document: Iterable[bytes],
        output: AgentOutput,
        *,
        env: Mapping[str, str],
        on_start: Callable[[int], None],
    ) -> AgentEnd:
        handed_over = json.loads(b"".join(document))
        agent_id = handed_over.get("agent_id", "recovery")
        on_start(1)
        self.starts.setdefault(agent_id, []).append(trio.current_time())
        self.documents.setdefault(agent_id, []).append(handed_over)
        self.running[agent_id] += 1
        try:
            code = await self.behaviours.get(agent_id, good)(output)
        finally:
            self.running[agent_id] -= 1
        return AgentEnd(code=code, last_lines=output.last_lines)


@asynccontextmanager
async def fleet(agents: Agents, *, retired: RetiredAgents = RetiredAgents()) -> AsyncIterator[FleetProgress]:  # noqa: B008
    progress = FleetProgress(SHARDS, now_s=trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, agents, progress, retired)
        yield progress
        nursery.cancel_scope.cancel()


async def run(agents: Agents, progress: FleetProgress, retired: RetiredAgents) -> None:
    await run_fleet(
        SHARDS,
        LaunchSettings(headend="127.0.0.1:1", retired=retired),
        progress=progress,
        relay=lambda _: None,
        rng=random.Random(1),
        run_process=agents.run,
    )


async def test_a_shard_that_keeps_ending_is_tried_each_minute_while_the_others_run(
    autojump_clock: MockClock,
) -> None:
    agents = Agents({SECOND: crashes})
    with structlog.testing.capture_logs() as entries:
        async with fleet(agents) as progress:
            await trio.sleep(600)
            snapshot = progress.snapshot()
            assert (agents.running[FIRST], agents.running[THIRD]) == (1, 1)
    assert (snapshot.quarantined, snapshot.connected) == ((SECOND,), 4)
    assert [len(agents.starts[agent_id]) for agent_id in (FIRST, THIRD)] == [1, 1]
    tries = agents.starts[SECOND]
    # Six within a minute, then one a minute and the second that each lasts.
    assert tries[5] - tries[0] < 60
    assert all(60.9 < later - earlier < 61.2 for earlier, later in pairwise(tries[5:]))
    assert len(tries) == pytest.approx(6 + 600 / 61, abs=1.5)
    held = [entry for entry in entries if "quarantine" in entry["event"]]
    assert {entry["agent_id"] for entry in held} == {SECOND}
    assert held[0]["reason"] == "the agent keeps ending, more than 5 restarts within 60 s; last: exit code 1"
    assert (held[0]["assets"], held[0]["retry_s"]) == (2, 60.0)
    assert [record.quarantines for record in progress.records()] == [0, 1, 0]


async def test_a_shard_leaves_quarantine_when_it_has_been_healthy_for_30_s(autojump_clock: MockClock) -> None:
    agents = Agents({SECOND: crashes})
    with structlog.testing.capture_logs() as entries:
        async with fleet(agents) as progress:
            await trio.sleep(100)
            assert progress.snapshot().quarantined == (SECOND,)
            agents.behaviours[SECOND] = good
            while agents.running[SECOND] == 0:
                await trio.sleep(0.1)
            await trio.sleep(29)
            assert progress.snapshot().quarantined == (SECOND,)
            await trio.sleep(2)
            assert progress.snapshot().quarantined == ()
            assert progress.snapshot().connected == 6
    assert [entry["agent_id"] for entry in entries if entry["event"] == "shard has left quarantine"] == [
        SECOND
    ]


async def test_an_agent_that_runs_without_a_status_is_not_healthy(autojump_clock: MockClock) -> None:
    agents = Agents({SECOND: crashes})
    async with fleet(agents) as progress:
        await trio.sleep(100)
        agents.behaviours[SECOND] = silent
        await trio.sleep(3600)
        assert progress.snapshot().quarantined == (SECOND,)


async def test_a_refused_configuration_is_quarantined_at_once_and_tried_each_minute(
    autojump_clock: MockClock,
) -> None:
    agents = Agents({FIRST: refuses})
    with structlog.testing.capture_logs() as entries:
        async with fleet(agents) as progress:
            await trio.sleep(30)
            assert len(agents.starts[FIRST]) == 1
            assert progress.snapshot().quarantined == (FIRST,)
            await trio.sleep(600)
            assert 10 <= len(agents.starts[FIRST]) <= 11
            assert agents.running[SECOND] == agents.running[THIRD] == 1
    reasons = {entry["reason"] for entry in entries if "quarantine" in entry["event"]}
    assert reasons == {"the agent refuses its configuration (exit code 2)"}


async def test_the_launcher_gives_up_only_when_every_shard_waits_in_quarantine(
    autojump_clock: MockClock,
) -> None:
    agents = Agents({FIRST: crashes, SECOND: refuses})
    progress = FleetProgress(SHARDS, now_s=trio.current_time())

    async def break_the_last() -> None:
        await trio.sleep(1000)
        assert len(progress.snapshot().quarantined) == 2
        agents.behaviours[THIRD] = crashes
        failing.cancel()

    async def good_until_broken(output: AgentOutput) -> int:
        with failing:
            await good(output)
        return await crashes(output)

    failing = trio.CancelScope()
    agents.behaviours[THIRD] = good_until_broken
    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_the_last)
        with pytest.raises(FleetFailedError) as failure:
            await run(agents, progress, RetiredAgents())
    assert trio.current_time() > 1000
    assert failure.value.last_lines[0] in {"out of luck", "MAX_MW is -3"}
    assert sum(agents.running.values()) == 0


async def test_a_shard_that_is_being_tried_keeps_the_launcher(autojump_clock: MockClock) -> None:
    agents = Agents(dict.fromkeys((FIRST, SECOND, THIRD), crashes))
    agents.behaviours[FIRST] = silent
    async with fleet(agents) as progress:
        # Its attempts last five minutes: the others are quarantined meanwhile, and it runs.
        await trio.sleep(250)
        assert set(progress.snapshot().quarantined) == {SECOND, THIRD}
        agents.behaviours |= dict.fromkeys((SECOND, THIRD), good)
        await trio.sleep(200)
        assert progress.snapshot().quarantined == ()


GATHERED = json.dumps({"state": "gathered"})


async def test_agents_start_when_the_states_of_retired_agents_are_gathered(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def drains(output: AgentOutput) -> int:
        await trio.sleep(5)
        output.handle_status(GATHERED)
        states.write_text("")
        await trio.sleep(100)
        return 0

    states = tmp_path / "states"
    agents = Agents({"recovery": drains, SECOND: crashes})
    async with fleet(agents, retired=RetiredAgents(files=["a"], states_path=str(states))):
        await trio.sleep(200)
        assert len(agents.starts["recovery"]) == 1
        assert agents.starts[FIRST][0] >= 5
        # One shard has not reported yet: it still needs what was gathered.
        assert states.exists()
        assert {document["former_states"] for document in agents.documents[SECOND]} == {str(states)}
        agents.behaviours[SECOND] = good
        await trio.sleep(61)
        assert not states.exists()


async def test_a_restarted_agent_does_not_read_what_it_has_adopted(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def reports_and_ends(output: AgentOutput) -> int:
        output.handle_status(json.dumps({"state": "disconnected", "assets": 0}))
        await trio.sleep(10)
        return 1

    agents = Agents({FIRST: reports_and_ends, SECOND: crashes})
    async with fleet(agents, retired=RetiredAgents(states_path=str(tmp_path / "states"))):
        await trio.sleep(60)
        handed_over = [document["former_states"] for document in agents.documents[FIRST]]
        assert handed_over == [str(tmp_path / "states")] + [None] * (len(handed_over) - 1)
        assert len(handed_over) > 2


async def test_a_recovery_that_cannot_work_does_not_keep_the_fleet_from_starting(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    agents = Agents({"recovery": crashes})
    retired = RetiredAgents(files=["a"], states_path=str(tmp_path / "states"))
    with structlog.testing.capture_logs() as entries:
        async with fleet(agents, retired=retired) as progress:
            await trio.sleep(100)
            assert progress.snapshot().connected == 6
            agents.behaviours["recovery"] = silent
            await trio.sleep(100)
            assert agents.running["recovery"] == 1
    assert any("are not gathered" in entry["event"] for entry in entries)


async def test_a_recovery_that_hangs_delays_the_fleet_by_two_minutes_at_most(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    agents = Agents({"recovery": silent})
    async with fleet(agents, retired=RetiredAgents(files=["a"], states_path=str(tmp_path / "states"))):
        await trio.sleep(121)
        assert 120 <= agents.starts[FIRST][0] <= 121


async def test_files_are_not_gathered_again_once_all_agents_have_read_them(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def gathers_and_crashes(output: AgentOutput) -> int:
        output.handle_status(GATHERED)
        await trio.sleep(10)
        return 1

    agents = Agents({"recovery": gathers_and_crashes})
    async with fleet(agents, retired=RetiredAgents(files=["a"], states_path=str(tmp_path / "states"))):
        await trio.sleep(300)
    first, *others = (document["former_states"] for document in agents.documents["recovery"])
    assert first == str(tmp_path / "states")
    assert set(others) == {None}
