"""The tick loop: assets without an agent are modelled and follow setpoints, an agent's are left alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.unit.headend.parts import START_UNIX_S, Parts, asset_id, make_parts, make_samples, make_session
from trioder.domain.dispatch import DispatchRequest
from trioder.gateway.sessions import Session
from trioder.ingest.latest_values import LatestView

NOW = int(START_UNIX_S * 1000)


@asynccontextmanager
async def ticking(parts: Parts) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.ticker.run, 4.0)
        # Between two ticks, so that no tick is due at the moment of an assertion.
        await trio.sleep(1)
        yield
        nursery.cancel_scope.cancel()


def view(parts: Parts, key: int = 0) -> LatestView:
    seen = parts.latest.view(key, parts.wall.now_ms())
    assert seen is not None
    return seen


def dispatch(parts: Parts, mw: float, duration_s: int | None = None, reversion_mw: float = 0.0) -> None:
    parts.dispatcher.dispatch(
        DispatchRequest(asset_id=asset_id(0), mw=mw, duration_s=duration_s, reversion_mw=reversion_mw)
    )


def receive_and_disconnect(parts: Parts, session: Session, *, mw: float) -> None:
    """The agent receives its setpoint, reports this power and setpoint, and disconnects."""
    session.downlink._take_nowait()
    session.downlink._in_hand = ()
    parts.latest.apply_agent(make_samples(0, ts_ms=NOW, mw=mw, setpoint=mw), received_ms=NOW)
    parts.disconnect(session)


async def test_the_fleet_has_telemetry_from_the_first_tick_on(autojump_clock: object) -> None:
    parts = make_parts(assets=1201)
    async with ticking(parts):
        assert len(parts.latest) == 1201
        first = view(parts, 1200)
        assert (first.source, first.telemetry.soc_pct) == ("synthesized", 50.0)
        await trio.sleep(4)
        assert view(parts, 1200).telemetry.ts_unix_ms == first.telemetry.ts_unix_ms + 4000


async def test_a_queued_setpoint_is_applied_until_its_end(autojump_clock: object) -> None:
    parts = make_parts(assets=1)
    async with ticking(parts):
        dispatch(parts, 9.0, duration_s=8)
        await trio.sleep(4)
        assert view(parts).telemetry.current_mw == 9.0
        await trio.sleep(8)
        assert (view(parts).telemetry.setpoint_mw, view(parts).telemetry.current_mw) == (0.0, 0.0)
        # 9 MW for the two ticks in which the setpoint held.
        assert abs(view(parts).telemetry.soc_mwhr - (20.0 - 9.0 * 8 / 3600)) < 1e-9


async def test_a_setpoint_that_expired_undelivered_drives_the_model_no_longer(autojump_clock: object) -> None:
    parts = make_parts(assets=1)
    async with ticking(parts):
        dispatch(parts, 9.0, reversion_mw=-1.0)
        await trio.sleep(50)
        assert view(parts).telemetry.current_mw == 9.0
        await trio.sleep(50)
        parts.dispatcher.maintain()
        await trio.sleep(8)
        assert (view(parts).telemetry.setpoint_mw, view(parts).telemetry.current_mw) == (-1.0, -1.0)


async def test_an_agents_asset_is_never_touched(autojump_clock: object) -> None:
    parts = make_parts(assets=2)
    async with ticking(parts):
        parts.connect(make_session("a", 0))
        parts.latest.apply_agent(make_samples(0, ts_ms=NOW, soc=33.0, mw=0.0, setpoint=0.0), received_ms=NOW)
        await trio.sleep(40)
        assert (view(parts).source, view(parts).telemetry.soc_mwhr) == ("agent", 33.0)
        assert view(parts).quality == "stale"
        assert view(parts, 1).source == "synthesized"


async def test_the_model_goes_on_from_where_the_agent_was(autojump_clock: object) -> None:
    parts = make_parts(assets=1)
    async with ticking(parts):
        session = parts.connect(make_session("a", 0))
        parts.latest.apply_agent(make_samples(0, ts_ms=NOW, soc=33.0, mw=6.0, setpoint=6.0), received_ms=NOW)
        parts.disconnect(session)
        await trio.sleep(4)
        assert view(parts).telemetry.current_mw == 6.0
        assert abs(view(parts).telemetry.soc_mwhr - (33.0 - 6.0 * 4 / 3600)) < 1e-9


async def test_the_model_ends_a_setpoint_when_the_agent_would(
    autojump_clock: object,
) -> None:
    parts = make_parts(assets=1)
    async with ticking(parts):
        session = parts.connect(make_session("a", 0))
        dispatch(parts, 6.0, duration_s=20)
        receive_and_disconnect(parts, session, mw=6.0)
        await trio.sleep(12)
        assert view(parts).telemetry.setpoint_mw == 6.0
        await trio.sleep(12)
        assert view(parts).telemetry.setpoint_mw == 0.0


async def test_a_setpoint_that_the_agent_has_not_applied_is_not_forced_on_its_model(
    autojump_clock: object,
) -> None:
    parts = make_parts(assets=1)
    async with ticking(parts):
        session = parts.connect(make_session("a", 0))
        dispatch(parts, 6.0)
        receive_and_disconnect(parts, session, mw=1.0)
        await trio.sleep(4)
        assert view(parts).telemetry.setpoint_mw == 1.0


async def test_a_setpoint_that_only_the_model_has_applied_ends_when_the_agent_reconnects(
    autojump_clock: object,
) -> None:
    parts = make_parts(assets=1)
    async with ticking(parts):
        dispatch(parts, 9.0)
        await trio.sleep(70)
        session = parts.connect(make_session("a", 0))
        now_ms = parts.wall.now_ms()
        parts.latest.apply_agent(make_samples(0, ts_ms=now_ms, mw=0.0, setpoint=0.0), received_ms=now_ms)
        parts.disconnect(session)
        await trio.sleep(4)
        assert view(parts).telemetry.setpoint_mw == 0.0
