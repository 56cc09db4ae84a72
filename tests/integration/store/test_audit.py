"""The audit and the bindings of identities in a real database: only added to, in order, once."""

import re

import psycopg
import pytest

from tests.integration.store.senders import until_health
from tests.integration.store.servers import in_database, open_store_on, run_sql
from trioder.domain.access import EVERYTHING, AuditRecord, IdentityBinding, Scope

NORTH, SOUTH = Scope(tenant="north"), Scope(tenant="south")
URI = "spiffe://fleet.example/tenant/north/agent/a"


def audit(number: int, *, tenant: str = "north", principal: str = "ops") -> AuditRecord:
    return AuditRecord(
        at_ms=1_800_000_000_000 + number,
        principal=principal,
        kind="token",
        tenant=tenant,
        peer="127.0.0.1:9",
        action="dispatch",
        target=f"target {number}",
        outcome="refused" if number % 2 else "ok",
        reason="not permitted" if number % 2 else "",
        request_id=f"r{number}",
    )


async def test_audit_records_are_read_newest_first_and_as_they_were_recorded(database_url: str) -> None:
    records = [audit(number) for number in range(1_200)]
    async with open_store_on(database_url) as store:
        for record in records:
            store.record_audit(record)
        await store.wait_idle()
        found = await store.audit(limit=2_000)
    assert [past.record for past in found] == records[::-1]
    numbers = [past.number for past in found]
    assert numbers == sorted(set(numbers), reverse=True)


async def test_audit_records_are_paged_and_found_by_principal_and_tenant(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        for number in range(9):
            tenant = ("north", "south", "")[number % 3]
            store.record_audit(audit(number, tenant=tenant, principal=f"p{number % 2}"))
        await store.wait_idle()

        async def targets(**query: object) -> list[int]:
            found = await store.audit(**{"limit": 100, "scope": EVERYTHING, **query})
            return [int(past.record.target.split()[1]) for past in found]

        assert await targets() == [8, 7, 6, 5, 4, 3, 2, 1, 0]
        assert await targets(scope=NORTH) == [6, 3, 0]
        assert await targets(scope=SOUTH, principal="p1") == [7, 1]
        assert await targets(scope=Scope(tenant="north", site_ids=frozenset())) == [6, 3, 0]
        first, *_ = await store.audit(limit=3, scope=NORTH)
        assert await targets(scope=NORTH, before=first.number, limit=1) == [3]


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET principal = 'x'", "DELETE FROM audit", "TRUNCATE audit"]
)
async def test_the_audit_is_append_only_even_with_triggers_off(database_url: str, statement: str) -> None:
    async with open_store_on(database_url) as store:
        store.record_audit(audit(0))
        await store.wait_idle()
    for role in ("origin", "replica"):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"SET session_replication_role = {role}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="audit is append-only"):
                connection.execute(statement.encode())
    assert run_sql(database_url, "SELECT principal FROM audit") == [("ops",)]


async def test_what_is_recorded_while_the_database_is_away_is_written_when_it_is_back(
    database_url: str, server_url: str
) -> None:
    name = re.search(r"/(test_\w+)\?", database_url)[1]
    admin_url = in_database(server_url, "postgres")
    async with open_store_on(database_url) as store:
        run_sql(admin_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        run_sql(admin_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        binding = IdentityBinding(claim="outbox", value="box", identity=URI)
        store.record_binding(binding)
        for number in range(20):
            store.record_audit(audit(number))
        await until_health(store, "error")
        run_sql(admin_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until_health(store, "ok")
        await store.wait_idle()
        assert [past.record for past in await store.audit(limit=99)] == [
            audit(number) for number in reversed(range(20))
        ]
        assert list(await store.identity_bindings()) == [binding]


async def test_texts_of_peers_that_a_column_cannot_hold_are_recorded_without_nul(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        store.record_audit(audit(0, principal="a\0b"))
        store.record_binding(IdentityBinding(claim="agent_id", value="x\0y", identity=URI))
        await store.wait_idle()
        [past] = await store.audit(limit=9)
        [binding] = await store.identity_bindings()
        assert store.stats.audit_records_dropped == 0
    assert past.record.principal == "a\N{REPLACEMENT CHARACTER}b"
    assert binding.value == "x\N{REPLACEMENT CHARACTER}y"


async def test_a_binding_once_recorded_stays(database_url: str) -> None:
    first = IdentityBinding(claim="agent_id", value="a", identity=URI)
    other_claim = IdentityBinding(claim="outbox", value="a", identity=URI)
    for binding in (first, IdentityBinding(claim="agent_id", value="a", identity="spiffe://b"), other_claim):
        async with open_store_on(database_url) as store:
            store.record_binding(binding)
            await store.wait_idle()
    async with open_store_on(database_url) as store:
        found = await store.identity_bindings()
    assert sorted(found, key=lambda each: each.claim) == [first, other_claim]


async def test_the_retention_of_records_leaves_the_audit_and_the_bindings(database_url: str) -> None:
    async with open_store_on(database_url, records_retention_days=1) as store:
        store.record_audit(audit(-1_800_000_000_000))
        store.record_binding(IdentityBinding(claim="agent_id", value="a", identity=URI))
        await store.wait_idle()
        await store._database.drop_old_records()
        assert len(await store.audit(limit=9)) == 1
        assert len(await store.identity_bindings()) == 1
