"""`/agents/processes`: a row per agent process, connected or not."""

import pytest
import trio

from tests.unit.api.rest import Rest, open_rest, uuid_of
from tests.unit.api.tenants import open_tenants, secret_of, site_id
from trioder.gateway.sessions import Session


def disconnect(rest: Rest, session: Session, *, reason: str = "the connection was lost") -> None:
    sessions = rest.headend.sessions
    sessions.release(session)
    sessions.remember(session, closed_ms=rest.headend.wall.now_ms(), reason=reason)


async def test_a_connected_agent_has_a_row(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1, 2)
        session.clock_skew_s, session.clock_error_s = 0.0123, 0.004
        session.certificate_expires_ms, session.version = 1_767_225_600_000, "1.2.3"
        session.identity = "spiffe://example/tenant/default/agent/agent-1"
        await trio.sleep(5)
        session.received_ms = rest.headend.wall.now_ms()
        assert await rest.get("/agents/processes") == [
            {
                "agent_id": "agent-1",
                "connected": True,
                "session_id": "session of agent-1",
                "assets": 3,
                "site_ids": [uuid_of(0), uuid_of(1)],
                "connected_at": "2026-01-01T00:00:00.000Z",
                "disconnected_at": None,
                "reason": None,
                "last_seen_at": "2026-01-01T00:00:05.000Z",
                "peer": "127.0.0.1:4711",
                "clock_skew_s": 0.012,
                "clock_error_s": 0.004,
                "backlog_batches": None,
                "backlog_s": None,
                "epoch": 1,
                "protocol": 1,
                "version": "1.2.3",
                "identity": "spiffe://example/tenant/default/agent/agent-1",
                "certificate_expires_at": "2026-01-01T00:00:00.000Z",
                "tenant": "default",
            }
        ]


async def test_an_agent_that_left_stays_until_it_is_back(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        rest.connect(1, agent_id="agent-0")
        await trio.sleep(2)
        disconnect(rest, session)
        present, gone = await rest.get("/agents/processes")
        assert (present["agent_id"], present["connected"]) == ("agent-0", True)
        assert (gone["agent_id"], gone["connected"]) == ("agent-1", False)
        assert (gone["disconnected_at"], gone["reason"]) == (
            "2026-01-01T00:00:02.000Z",
            "the connection was lost",
        )
        assert await rest.get("/agents/processes?connected=true") == [present]
        assert await rest.get("/agents/processes?connected=false") == [gone]
        rest.connect(0)
        assert [row["connected"] for row in await rest.get("/agents/processes")] == [True, True]


async def test_agents_are_selected_by_site_and_limited(autojump_clock: object) -> None:
    async with open_rest() as rest:
        for key in (0, 1, 2):
            rest.connect(key, agent_id=f"agent-{key}")

        async def listed(query: str) -> list[str]:
            return [row["agent_id"] for row in await rest.get(f"/agents/processes?{query}")]

        assert await listed(f"site_id={uuid_of(1)}") == ["agent-2"]
        assert await listed("limit=2") == ["agent-0", "agent-1"]
        assert (await rest.ask("GET", f"/agents/processes?site_id={uuid_of(7)}"))[0] == 404
        status, body = await rest.ask("GET", "/agents/processes?connected=maybe")
        assert (status, "connected is 'maybe'" in body["message"]) == (400, True)


async def test_what_lies_outside_the_scope_is_not_counted(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        [row] = await tenants.get("/agents/processes", secret=secret_of("site", "alpha"))
        assert (row["agent_id"], row["assets"], row["site_ids"]) == ("agent of alpha", 2, [site_id("alpha")])


@pytest.mark.parametrize("by_ms", [-3_600_000, 3_600_000])
async def test_times_are_corrected_when_the_clock_was_stepped(autojump_clock: object, by_ms: int) -> None:
    async with open_rest() as rest:
        sessions = rest.headend.sessions
        gone = rest.connect(0)
        disconnect(rest, gone)
        present = rest.connect(1, agent_id="agent-2")
        before = gone.connected_ms, gone.closed_ms or 0, present.connected_ms, present.received_ms
        sessions.clock_stepped(by_ms)
        after = gone.connected_ms, gone.closed_ms or 0, present.connected_ms, present.received_ms
        assert [new - old for new, old in zip(after, before, strict=True)] == [by_ms] * 4
