"""The audit, the bindings and the limits of sites, as the models of the database keep them."""

from collections.abc import Sequence

from trioder.domain.access import ALL_TENANTS, AuditRecord, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.store.postgres.record_queue import PendingAudit, PendingBinding, PendingSiteLimits


class ModelAudit:
    """What is written twice is there once; limits of sites alone are changed and removed."""

    def __init__(self) -> None:
        self.records: dict[str, AuditRecord] = {}
        self.bindings: dict[tuple[str, str], IdentityBinding] = {}
        self.site_limits: dict[str, SiteLimitsRecord] = {}

    def keep(self, record: PendingAudit | PendingBinding | PendingSiteLimits) -> None:
        if isinstance(record, PendingSiteLimits):
            self.site_limits.pop(record.site_id, None)
            if record.record is not None:
                self.site_limits[record.site_id] = record.record
        elif isinstance(record, PendingAudit):
            self.records.setdefault(record.key, record.record)
        else:
            self.bindings.setdefault((record.binding.claim, record.binding.value), record.binding)

    def newest(
        self, *, limit: int, before: int | None, principal: str | None, scope: Scope
    ) -> Sequence[PastAuditRecord]:
        found = [
            PastAuditRecord(number=number, record=record)
            for number, record in enumerate(self.records.values(), start=1)
            if (before is None or number < before)
            and (principal is None or record.principal == principal)
            and scope.tenant in {ALL_TENANTS, record.tenant}
        ]
        return found[::-1][:limit]
