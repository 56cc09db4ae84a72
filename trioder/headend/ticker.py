"""The tick loop: simulates the assets that no agent drives, which follow their setpoints in the model.

It never touches an asset that an agent drives.
"""

from collections.abc import Sequence

import trio

from trioder.control.dispatcher import Dispatcher
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import BessState, Samples
from trioder.events.counters import Counters
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.wall_time import WallClock
from trioder.sim.bess import initial_state, tick_asset, with_setpoint
from trioder.store.interface import Store

# A few milliseconds; then a checkpoint lets streams and requests run.
_ASSETS_A_SLICE = 500


class Ticker:
    """Synthesizes samples of every asset without a session, from its latest good state."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        latest: LatestState,
        sessions: SessionRegistry,
        dispatcher: Dispatcher,
        store: Store,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._latest = latest
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._store = store
        self._counters = counters
        self._wall = wall

    async def run(self, tick_s: float) -> None:
        """Tick every `tick_s` until cancelled, the first time at once; 0 for never."""
        if tick_s == 0:
            return
        last_s = trio.current_time()
        due_s = last_s
        while True:
            now_s = trio.current_time()
            await self._tick(now_s - last_s)
            last_s = now_s
            # A missed tick is skipped: the next step is longer.
            due_s = max(due_s + tick_s, trio.current_time())
            await trio.sleep_until(due_s)

    async def _tick(self, dt_secs: float) -> None:
        # A fleet reload takes effect with the next tick.
        keys = self._fleet.keys
        for start in range(0, len(keys), _ASSETS_A_SLICE):
            self._tick_slice(keys[start : start + _ASSETS_A_SLICE], dt_secs)
            await trio.lowlevel.checkpoint()
        self._counters.ticks += 1

    def _tick_slice(self, keys: Sequence[int], dt_secs: float) -> None:
        now_ms = self._wall.now_ms()
        unattended = [key for key in keys if self._sessions.session_of(key) is None]
        if not unattended:
            return
        states = [self._next_state(key, dt_secs, now_ms) for key in unattended]
        soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw = zip(
            *states, strict=True
        )
        samples = Samples(
            ts_unix_ms=now_ms,
            source="synthesized",
            asset_keys=unattended,
            soc_mwhr=soc_mwhr,
            current_mw=current_mw,
            setpoint_mw=setpoint_mw,
            available_discharge_mw=available_discharge_mw,
            available_charge_mw=available_charge_mw,
        )
        self._latest.apply_synthesized(samples)
        self._store.store_unsequenced(samples)
        self._counters.samples_synthesized += len(unattended)

    def _next_state(self, key: int, dt_secs: float, now_ms: int) -> BessState:
        asset = self._fleet.assets[key]
        state = self._latest.trusted_state(key) or initial_state(asset)
        setpoint_mw = self._dispatcher.setpoint_for(key, state.setpoint_mw, now_ms)
        if setpoint_mw != state.setpoint_mw:
            state = with_setpoint(state, setpoint_mw)
        return tick_asset(asset, state, dt_secs)
