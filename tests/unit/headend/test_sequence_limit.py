"""How far one session can move an outbox: no further than what its agent reports, and what time allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.headend.driver import open_rig, pulse, registration
from tests.unit.headend.parts import StillWall, make_parts, make_session
from tests.unit.headend.stores import SlowStore
from tests.unit.ingest.test_service import BOX, batch
from trioder.gateway.sessions import Session
from trioder.ingest.sequence import MADE_A_SECOND, MADE_AT_ONCE, MAX_UNREPORTED
from trioder.ingest.service import Ingest
from trioder.rpc import StatusCode
from trioder.store.records import Watermark
from trioder.wire.checks import WireError
from trioder.wire.records import MAX_BATCH_SEQ

SEQS = st.one_of(st.integers(1, 200), st.integers(1, 10_000), st.integers(1, 2**64 - 1))


def coming(session: Session, reported_seq: int | None) -> Session:
    session.newest_batch_seq = reported_seq
    return session


def next_seq(ingest: Ingest) -> int:
    return ingest._outboxes[BOX].cursor.next_seq


class CommittedStore(SlowStore):
    """A database that has an outbox up to some batch."""

    def __init__(self, committed_seq: int) -> None:
        super().__init__()
        self._committed_seq = committed_seq

    async def watermark(self, outbox_id: str) -> Watermark:
        return Watermark(self._committed_seq, None)


@given(
    committed_seq=st.integers(0, 300),
    reported_seq=st.integers(0, 10_000),
    sent=st.lists(
        st.tuples(
            SEQS,
            st.none() | st.integers(1, 400),  # the gap's length
            st.booleans(),
            st.integers(0, 5_000),  # ms since the last
        ),
        max_size=30,
    ),
)
async def test_no_messages_of_a_session_move_the_outbox_beyond_what_is_reported_and_made_since(
    committed_seq: int, reported_seq: int, sent: list[tuple[int, int | None, bool, int]]
) -> None:
    wall = StillWall()
    parts = make_parts(assets=1, store=CommittedStore(committed_seq), wall=wall)
    session = coming(make_session("a", 0, outbox_id=BOX), reported_seq)
    await parts.ingest.session_opened(session)
    before_seq, passed_ms = next_seq(parts.ingest), 0
    for seq, gap, live_only, after_ms in sent:
        wall.adjust(after_ms / 1000)
        passed_ms += after_ms
        position = next_seq(parts.ingest)
        gap_from = None if gap is None or seq < 2 else max(1, min(seq - 1, position - 1 + gap % 3))
        try:
            parts.ingest.receive_batch(session, batch(seq, gap_from=gap_from, live_only=live_only))
        except WireError:
            assert next_seq(parts.ingest) == position
            break
        made = MADE_AT_ONCE + passed_ms * MADE_A_SECOND / 1000
        assert next_seq(parts.ingest) <= max(reported_seq, before_seq - 1) + 1 + made


@pytest.mark.parametrize("live_only", [False, True])
async def test_a_batch_beyond_what_is_reported_ends_the_session(
    autojump_clock: object, live_only: bool
) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        first = registration(0)
        first.register.newest_batch_seq = 7
        await agent.send(first)
        await agent.receive()
        jump = pulse(2**40, 0, soc=1.0)
        jump.telemetry_batch.gap_from_seq = 1
        jump.telemetry_batch.live_only = live_only
        await agent.send(jump)
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.INVALID_ARGUMENT
        assert f"batch_seq is {2**40}; the newest batch that the outbox can have is 2407" in refusal.message
        assert rig.headend.counters.batches_impossible == 1
        assert rig.headend.counters.batches_lost == 0
        assert rig.headend.latest.state(0) is None
        # Nothing has moved.
        assert (await (await rig.agent()).register(0)).committed_batch_seq == 0


async def test_an_impossible_report_is_refused(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        first = registration(0)
        first.register.newest_batch_seq = MAX_BATCH_SEQ + 1
        await agent.send(first)
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.INVALID_ARGUMENT
        assert "Register.newest_batch_seq is" in refusal.message


async def test_the_batches_of_the_shortest_pulse_are_possible_for_days() -> None:
    wall = StillWall()
    parts = make_parts(assets=1, wall=wall)
    session = coming(make_session("a", 0, outbox_id=BOX), 5)
    await parts.ingest.session_opened(session)
    wall.adjust(3 * 86_400)
    # The store was away, and the outbox full: the oldest are dropped.
    parts.ingest.receive_batch(session, batch(5 + 3 * 86_400 * 20, gap_from=1))
    assert next_seq(parts.ingest) == 6 + 3 * 86_400 * 20


@pytest.mark.parametrize(
    ("committed_seq", "most"), [(0, MAX_BATCH_SEQ), (1_000, 1_000 + MAX_UNREPORTED)], ids=["new", "recorded"]
)
async def test_an_agent_of_an_earlier_version_may_have_been_away_for_long(
    committed_seq: int, most: int
) -> None:
    parts = make_parts(assets=1, store=CommittedStore(committed_seq), wall=StillWall())
    session = coming(make_session("a", 0, outbox_id=BOX), None)
    await parts.ingest.session_opened(session)
    with pytest.raises(WireError, match="batch_seq"):
        parts.ingest.receive_batch(session, batch(most + MADE_AT_ONCE + 1, gap_from=1))
    assert next_seq(parts.ingest) == committed_seq + 1
    parts.ingest.receive_batch(session, batch(most, gap_from=1))
    assert next_seq(parts.ingest) == most + 1


async def test_a_step_of_the_clock_makes_no_batch_impossible() -> None:
    wall = StillWall()
    parts = make_parts(assets=1, wall=wall)
    session = coming(make_session("a", 0, outbox_id=BOX), 0)
    await parts.ingest.session_opened(session)
    wall.adjust(3_600)
    wall.adjust(-86_400)
    parts.ingest.clock_stepped(-86_400_000)
    parts.ingest.receive_batch(session, batch(3_600 * 20, gap_from=1))
    assert next_seq(parts.ingest) == 3_600 * 20 + 1
