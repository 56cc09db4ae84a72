"""What has no fact: ages, states of charge, the database, disks and certificates, checked periodically."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio

from trioder.control.alarms.probes import HostPaths, measure_disk, read_expiry
from trioder.domain.alarms import (
    BACKLOG_CLEAR_S,
    BACKLOG_RAISE_S,
    CERTIFICATE_EXPIRES_WITHIN_DAYS,
    DISK_CLEAR_USED_PCT,
    DISK_RAISE_USED_PCT,
    SOC_CLEAR_BEYOND_PCT,
    SOC_RAISE_WITHIN_PCT,
    AlarmKind,
    AlarmSource,
    Severity,
)
from trioder.domain.assets import soc_pct
from trioder.domain.fleet import Fleet
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.slices import Steps, parts_of
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

DISK_EVERY_S, CERTIFICATES_EVERY_S = 10.0, 3600.0
# The state of charge of every asset is checked at least once in so many polls.
_SOC_POLLS, _SOC_AT_LEAST = 30, 1_000
# A file system that does not answer.
_DISK_WITHIN_S = 5.0
_DAY_S = 86_400.0
# The cost of checking a session, an asset of it, and a state of charge.
_SESSION_US, _ASSET_US, _SOC_US = 3.0, 0.02, 1.5


class Begin(Protocol):
    """See `AlarmEngine.begin`."""

    def __call__(
        self,
        kind: AlarmKind,
        source: AlarmSource,
        reason: str,
        *,
        value: float | None = None,
        severity: Severity | None = None,
    ) -> None:
        """A condition is seen."""


class End(Protocol):
    """See `AlarmEngine.end`."""

    def __call__(self, kind: AlarmKind, source: AlarmSource) -> None:
        """A condition is absent."""


class Polls:
    """Checks what is due; `begin` and `end` get what was found."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        latest: LatestState,
        ingest: Ingest,
        store: Store,
        wall: WallClock,
        host: HostPaths,
        begin: Begin,
        end: End,
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._latest = latest
        self._ingest = ingest
        self._store = store
        self._wall = wall
        self._host = host
        self._begin = begin
        self._end = end
        self._soc_from = 0
        # By session: which of its assets are stale; only those that have any.
        self._stale: dict[Session, frozenset[int]] = {}
        # Sources whose condition holds, for those with a hysteresis of their own.
        self._behind: set[str] = set()
        self._at_limit: set[int] = set()
        self._full_disks: set[Path] = set()

    def steps(self) -> Steps[None]:
        """Check ages, backlogs, states of charge and the database."""
        self._check_database()
        closed = [session for session in self._stale if not self._sessions.is_open(session)]
        for session in closed:
            del self._stale[session]
        for session in self._sessions:
            if self._sessions.is_open(session):
                self._check_stale(session)
                self._check_backlog(session)
            yield _SESSION_US + _ASSET_US * len(session.asset_keys)
        yield from self._soc_steps()

    async def run_host(self) -> None:
        """Check disks and certificate files, until cancelled."""
        certificates_s = trio.current_time()
        while True:
            for path in self._host.disks:
                with trio.move_on_after(_DISK_WITHIN_S):
                    await self._check_disk(path)
            if trio.current_time() >= certificates_s:
                certificates_s = trio.current_time() + CERTIFICATES_EVERY_S
                for path in self._host.certificates:
                    found = await read_expiry(path)
                    source = AlarmSource("headend", detail=str(path))
                    if found.reason:
                        self._begin("certificate_expiring", source, f"{path} cannot be read: {found.reason}")
                    else:
                        self.certificate(source, str(path), found.expires_s)
            await trio.sleep(DISK_EVERY_S)

    def certificate(self, source: AlarmSource, name: str, expires_s: float | None) -> None:
        """Check until when a certificate is valid; None where there is none."""
        left_days = None if expires_s is None else (expires_s - self._wall.now_s()) / _DAY_S
        if left_days is None or left_days >= CERTIFICATE_EXPIRES_WITHIN_DAYS:
            self._end("certificate_expiring", source)
        elif left_days > 0:
            self._begin(
                "certificate_expiring", source, f"{name} expires in {left_days:.1f} days", value=left_days
            )
        else:
            self._begin(
                "certificate_expiring", source, f"{name} has expired", value=left_days, severity="critical"
            )

    def _check_database(self) -> None:
        source = AlarmSource("headend")
        if self._store.health == "error":
            self._begin("database_away", source, self._store.health_reason)
        else:
            self._end("database_away", source)

    def _check_stale(self, session: Session) -> None:
        now_ms = self._wall.now_ms()
        after_s = self._latest.stale_after_s
        if now_ms - session.connected_ms <= after_s * 1000:
            return
        before = self._stale.get(session, frozenset())
        stale = self._latest.stale_keys(session.asset_keys, now_ms)
        if not stale and not before:
            return
        now = frozenset(stale)
        for key in now - before:
            self._begin("stale", self._asset(key), f"no telemetry for more than {after_s:g} s")
        for key in before - now:
            self._end("stale", self._asset(key))
        if now:
            self._stale[session] = now
        else:
            self._stale.pop(session, None)

    def _check_backlog(self, session: Session) -> None:
        behind_s = self._ingest.behind_s(session.outbox_id)
        source = AlarmSource("agent", session.agent_id)
        if behind_s > BACKLOG_RAISE_S and session.agent_id not in self._behind:
            self._behind.add(session.agent_id)
            self._begin(
                "backlog",
                source,
                f"its telemetry is stored more than {BACKLOG_RAISE_S:g} s late",
                value=behind_s,
            )
        elif behind_s < BACKLOG_CLEAR_S and session.agent_id in self._behind:
            self._behind.discard(session.agent_id)
            self._end("backlog", source)

    def session_closed(self, agent_id: str) -> None:
        """The agent is not connected: its backlog is not known."""
        self._behind.discard(agent_id)
        self._end("backlog", AlarmSource("agent", agent_id))

    def _soc_steps(self) -> Steps[None]:
        keys = self._fleet.keys
        size = max(-(-len(keys) // _SOC_POLLS), _SOC_AT_LEAST)
        begin = self._soc_from if self._soc_from < len(keys) else 0
        self._soc_from = begin + size
        for part in parts_of(keys[begin : begin + size]):
            now_ms = self._wall.now_ms()
            for key in part:
                self._check_soc(key, now_ms)
            yield _SOC_US * len(part)

    def _check_soc(self, key: int, now_ms: int) -> None:
        reported = self._latest.reported(key, now_ms)
        if reported is None:
            return
        asset = self._fleet.assets[key]
        pct = soc_pct(asset, reported.soc_mwhr)
        from_limit = min(pct - asset.min_soc_pct, asset.max_soc_pct - pct)
        if from_limit <= SOC_RAISE_WITHIN_PCT and key not in self._at_limit:
            self._at_limit.add(key)
            is_low = pct - asset.min_soc_pct < asset.max_soc_pct - pct
            limit = f"lower limit, {asset.min_soc_pct:g}" if is_low else f"upper limit, {asset.max_soc_pct:g}"
            self._begin(
                "soc_limit", self._asset(key), f"the state of charge is at its {limit} %", value=round(pct, 1)
            )
        elif from_limit > SOC_CLEAR_BEYOND_PCT and key in self._at_limit:
            self._at_limit.discard(key)
            self._end("soc_limit", self._asset(key))

    def retired(self, keys: Sequence[int]) -> None:
        """The assets have left the fleet."""
        self._at_limit.difference_update(keys)

    async def _check_disk(self, path: Path) -> None:
        disk = await measure_disk(path)
        source = AlarmSource("headend", detail=str(path))
        if disk is None:
            return
        if disk.used_pct >= DISK_RAISE_USED_PCT and path not in self._full_disks:
            self._full_disks.add(path)
            free_mb = disk.free_bytes / 1e6
            self._begin(
                "disk_nearly_full",
                source,
                f"the file system of {path} is {disk.used_pct:.0f} % full, {free_mb:.0f} MB are free",
                value=round(disk.used_pct, 1),
            )
        elif disk.used_pct < DISK_CLEAR_USED_PCT and path in self._full_disks:
            self._full_disks.discard(path)
            self._end("disk_nearly_full", source)

    def _asset(self, key: int) -> AlarmSource:
        return AlarmSource("asset", self._fleet.asset_ids[key])
