"""The audit trail: records for the store. Refusals are aggregated, so that a flood cannot fill its table."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
import trio

from trioder.access.table import AccessChange
from trioder.domain.access import ALL_TENANTS, AuditRecord
from trioder.process.addresses import host_of_peer
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

WINDOW_S = 60
# A window's refusals that are recorded one by one: from one caller, and from all.
MAX_RECORDS_A_CALLER = 10
MAX_RECORDS = 200
# Of one newer access file, recorded one by one.
MAX_CHANGES = 1_000
# Callers that are counted apart; the others of a window are counted together.
MAX_CALLERS = 100

# Address, tenant and principal: a tenant's admins read only its records.
_Caller = tuple[str, str, str]
_OTHERS: _Caller = ("", "", "")


@dataclass(slots=True)
class _Refusals:
    """The refusals of one caller in a window; the last of those that were only counted."""

    recorded: int = 0
    counted: int = 0
    last: AuditRecord | None = None


class AuditTrail:
    """Records what is to be audited; `run` is to be running.

    Args:
        store: stores a record, without waiting.
        wall: for the times of aggregated records.
    """

    def __init__(self, store: Callable[[AuditRecord], None], *, wall: WallClock) -> None:
        self._store = store
        self._wall = wall
        self._by_caller: dict[_Caller, _Refusals] = {}
        self._recorded = 0

    def record(self, record: AuditRecord) -> None:
        """Record a command or a change."""
        self._store(record)

    def access_changed(self, changes: Sequence[AccessChange]) -> None:
        """Record what a newer access file has changed; of very many the first, and how many more.

        The queue of records is bounded: a file with a hundred thousand agents must not push out the rest.
        """
        for change in changes[:MAX_CHANGES]:
            self._store(
                AuditRecord(
                    at_ms=self._wall.now_ms(),
                    principal=change.by,
                    kind="access_file",
                    tenant=change.tenant,
                    peer="",
                    action=change.action,
                    target=change.target,
                    outcome="ok",
                )
            )

        further = Counter(change.action for change in changes[MAX_CHANGES:])
        if further:
            counts = ", ".join(f"{count} {action}" for action, count in further.most_common())
            self._store(
                AuditRecord(
                    at_ms=self._wall.now_ms(),
                    principal="",
                    kind="access_file",
                    tenant=ALL_TENANTS,
                    peer="",
                    action="access_file.change",
                    outcome="ok",
                    reason=f"{further.total()} more changes in the same file: {counts}",
                )
            )

    def refused(self, record: AuditRecord) -> None:
        """Record a refusal, or count it: in a minute at most 10 of a caller and 200 of all are recorded.

        The others of a caller are one record at the end of that minute, which has their number.
        """
        caller = (host_of_peer(record.peer), record.tenant, record.principal)
        if caller not in self._by_caller and len(self._by_caller) >= MAX_CALLERS:
            caller = _OTHERS
        refusals = self._by_caller.setdefault(caller, _Refusals())
        if refusals.recorded < MAX_RECORDS_A_CALLER and self._recorded < MAX_RECORDS and caller != _OTHERS:
            refusals.recorded += 1
            self._recorded += 1
            self._store_refusal(record, count=1)
            return
        refusals.counted += 1
        refusals.last = record

    def handshake_refused(self, peer: str, reason: str) -> None:
        """Record a failed TLS handshake of the REST port, as a refusal."""
        self.refused(
            AuditRecord(
                at_ms=self._wall.now_ms(),
                principal="",
                kind="",
                tenant="",
                peer=peer,
                action="rest.connect",
                outcome="refused",
                reason=reason,
            )
        )

    async def run(self) -> None:
        """Record what was only counted, every minute and at the end."""
        try:
            while True:
                await trio.sleep(WINDOW_S)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Record what was only counted, and begin another window."""
        by_caller, self._by_caller, self._recorded = self._by_caller, {}, 0
        for caller, refusals in by_caller.items():
            last = refusals.last
            if last is None:
                continue
            reason = f"{refusals.counted} more refusals within {WINDOW_S} s; the last: {last.reason}"
            if caller == _OTHERS:
                reason = f"{refusals.counted} more refusals within {WINDOW_S} s, from other callers"
                last = replace(last, principal="", kind="", tenant="", peer="", target="", request_id="")
            self._store_refusal(
                replace(last, at_ms=self._wall.now_ms(), reason=reason), count=refusals.counted
            )

    def _store_refusal(self, record: AuditRecord, *, count: int) -> None:
        log.warning(
            "access refused",
            action=record.action,
            target=record.target,
            principal=record.principal,
            tenant=record.tenant,
            peer=record.peer,
            reason=record.reason,
            refusals=count,
        )
        self._store(record)
