"""Counts, logs and records for the audit which agents are refused for their identity.

A flood of refused connections fills neither the log nor the audit's table.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog
import trio

from trioder.domain.access import AuditRecord
from trioder.events.counters import Counters
from trioder.gateway.identities import IdentityRefusedError, RefusalKind
from trioder.gateway.log_limit import LogLimit
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# Audit records: this many at once, and one more every so often: at most 8,740 a day.
AUDIT_BURST: Final = 100
AUDIT_EVERY_S: Final = 10.0
# The same refusal of the same peer is recorded this often.
SAME_EVERY_S: Final = 60.0
_MAX_KEPT = 1_000

Action = Literal["agent.register", "agent.disconnect"]

_COUNTERS: Final[dict[RefusalKind, str]] = {
    "certificate": "agents_refused_certificate",
    "identity": "agents_refused_identity",
    "assets": "agents_refused_assets",
    "binding": "agents_refused_binding",
}


@dataclass(slots=True)
class AuditLimit:
    """How many refusals are recorded. Times are in seconds of one steady clock."""

    _records: float = AUDIT_BURST
    _updated_s: float = 0.0
    _recorded_s: dict[Hashable, float] = field(default_factory=dict)
    _suppressed: int = 0

    def suppressed_before(self, key: Hashable, now_s: float) -> int | None:
        """Return None to suppress a record; else how many were suppressed before it.

        Args:
            key: equal for refusals that are alike.
            now_s: the time.
        """
        self._records = min(AUDIT_BURST, self._records + (now_s - self._updated_s) / AUDIT_EVERY_S)
        self._updated_s = now_s
        last_s = self._recorded_s.get(key)
        if self._records < 1.0 or (last_s is not None and now_s - last_s < SAME_EVERY_S):
            self._suppressed += 1
            return None
        self._records -= 1.0
        # The oldest first.
        self._recorded_s.pop(key, None)
        self._recorded_s[key] = now_s
        if len(self._recorded_s) > _MAX_KEPT:
            del self._recorded_s[next(iter(self._recorded_s))]
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class RefusalRecorder:
    """Counts, logs and records refusals."""

    def __init__(self, *, counters: Counters, store: Store, wall: WallClock) -> None:
        self._counters = counters
        self._store = store
        self._wall = wall
        self._log_limit = LogLimit()
        self._audit_limit = AuditLimit()

    def refused(self, refusal: IdentityRefusedError, *, peer: str, agent_id: str = "") -> None:
        """An agent was refused; `agent_id` as it names itself, empty if it has not yet."""
        counter = _COUNTERS[refusal.kind]
        setattr(self._counters, counter, getattr(self._counters, counter) + 1)
        self._counters.sessions_refused += 1
        self._record("agent refused", "agent.register", refusal, peer=peer, agent_id=agent_id)

    def ended(self, refusal: IdentityRefusedError, *, peer: str, agent_id: str) -> None:
        """An open session has lost its permission."""
        self._counters.sessions_revoked += 1
        self._record("agent has lost its access", "agent.disconnect", refusal, peer=peer, agent_id=agent_id)

    def _record(
        self, event: str, action: Action, refusal: IdentityRefusedError, *, peer: str, agent_id: str
    ) -> None:
        now_ms = self._wall.now_ms()
        identity = refusal.identity
        uri = "" if identity is None else identity.uri
        suppressed = self._log_limit.suppressed_before(action, now_ms)
        if suppressed is None:
            self._counters.log_lines_suppressed += 1
        else:
            log.warning(
                event,
                peer=peer,
                identity=uri,
                agent_id=agent_id,
                reason=refusal.reason,
                **({"suppressed_before": suppressed} if suppressed else {}),
            )
        # The port differs with each attempt.
        host = peer.rpartition(":")[0]
        skipped = self._audit_limit.suppressed_before(
            (action, refusal.kind, uri or host), trio.current_time()
        )
        if skipped is None:
            return
        more = f" ({skipped} refusals before this one are not recorded)" if skipped else ""
        self._store.record_audit(
            AuditRecord(
                at_ms=now_ms,
                principal=uri,
                kind="agent",
                tenant="" if identity is None else identity.tenant,
                peer=peer,
                action=action,
                target=agent_id,
                outcome="refused",
                reason=refusal.reason + more,
            )
        )
