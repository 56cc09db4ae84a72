"""The audit and the bindings, as the models of the database keep them."""

from collections.abc import Sequence

from trioder.domain.access import ALL_TENANTS, AuditRecord, IdentityBinding, PastAuditRecord, Scope
from trioder.store.postgres.record_queue import PendingAudit, PendingBinding


class ModelAudit:
    """What is only ever added; what is written twice is there once."""

    def __init__(self) -> None:
        self.records: dict[str, AuditRecord] = {}
        self.bindings: dict[tuple[str, str], IdentityBinding] = {}

    def keep(self, record: PendingAudit | PendingBinding) -> None:
        if isinstance(record, PendingAudit):
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
