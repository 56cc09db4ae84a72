"""An hour without a database at 5,000 samples/s: the store's memory stays bounded, and nobody else notices.

The load is sped up, not the clock: as many samples as an hour brings go through the real ingest and store.
"""

import random
import tracemalloc

import trio
import trio.testing

from tests.simulation.database import DatabaseClient, DatabaseServer
from tests.unit.headend.parts import START_UNIX_S, asset_id, make_fleet, make_session
from trioder.domain.dispatch import DispatchRequest
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.postgres.open import open_store_over
from trioder.store.postgres.store import PostgresStore
from trioder.wire.records import Batch

AGENTS, ASSETS_AN_AGENT = 4, 5_000
PULSES = 900  # of 4 s: 18 million samples
QUEUE_BYTES = 16_000_000


def pulse(number: int) -> Batch:
    rows = range(ASSETS_AN_AGENT)
    column = [float(number % 10)] * ASSETS_AN_AGENT
    # Not at a limit, which would be an alarm condition of each.
    charged = [10.0 + number % 10] * ASSETS_AN_AGENT
    return Batch(
        batch_seq=number,
        # Of the hour before: the clock hardly moves meanwhile.
        ts_unix_ms=int(START_UNIX_S * 1000) - 4_000 * (PULSES - number),
        asset_index=rows,
        soc_mwhr=charged,
        current_mw=column,
        setpoint_mw=column,
        available_discharge_mw=column,
        available_charge_mw=column,
    )


async def test_an_hour_without_a_database_is_bounded_in_memory_and_delays_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fleet = make_fleet(AGENTS * ASSETS_AN_AGENT)
    wall = WallClock(START_UNIX_S, trio.current_time())
    async with trio.open_nursery() as nursery:
        server = DatabaseServer(random.Random(1), nursery)
        store = PostgresStore(DatabaseClient(server), wall=wall, queue_bytes=QUEUE_BYTES)
        async with (
            open_store_over(store),
            open_headend(fleet=fleet, store=store, wall=wall, rng=random.Random(1), tick_s=0) as headend,
        ):
            sessions = [
                make_session(
                    f"agent-{number}",
                    *range(number * ASSETS_AN_AGENT, (number + 1) * ASSETS_AN_AGENT),
                    outbox_id=f"box-{number}",
                    session_id=f"session-{number}",
                )
                for number in range(AGENTS)
            ]
            for session in sessions:
                headend.sessions.claim(session, asset_ids=[asset_id(key) for key in session.asset_keys])
                headend.dispatcher.session_opened(session)
                await headend.ingest.session_opened(session)
            server.crash("the server was killed")
            # Long enough to notice; nothing of the hour itself depends on the clock.
            await trio.sleep(10)
            assert store.health == "error"

            memory_bytes = []
            tracemalloc.start()
            for number in range(1, PULSES + 1):
                batch = pulse(number)
                for session in sessions:
                    headend.ingest.receive_batch(session, batch)
                if number % 100 == 0:
                    await trio.sleep(1)
                    memory_bytes.append(tracemalloc.get_traced_memory()[0])
                    seen = headend.latest.view(number, wall.now_ms())
                    assert seen is not None
                    assert seen.telemetry.ts_unix_ms == batch.ts_unix_ms
                    order = DispatchRequest(asset_id=asset_id(number), mw=1.0, duration_s=None)
                    assert headend.dispatcher.dispatch(order).state == "sent"
            tracemalloc.stop()
            assert store.stats.queue_bytes <= QUEUE_BYTES
            assert headend.counters.batches_refused > 0.9 * PULSES * AGENTS
            # The queue is full after the first hundred pulses; the other eight hundred add nothing.
            assert max(memory_bytes) - memory_bytes[0] < 2_000_000
            assert max(memory_bytes) < 4 * QUEUE_BYTES

            server.are_restored()
            await trio.sleep(30)
            assert store.health == "ok"
            taken = [batch.batch_seq for batch in server.batches["box-0"]]
            assert taken == list(range(1, len(taken) + 1))
            # What was refused is requested again, from where the sequence broke.
            pending = await sessions[0].downlink.take()
            assert pending.replay_from_seq == len(taken) + 1
