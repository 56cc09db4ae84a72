"""The audit trail: what is recorded of a flood of refusals."""

from dataclasses import replace

import trio

from trioder.access.audit import (
    MAX_CALLERS,
    MAX_CHANGES,
    MAX_RECORDS,
    MAX_RECORDS_A_CALLER,
    WINDOW_S,
    AuditTrail,
)
from trioder.access.table import AccessChange
from trioder.domain.access import AuditRecord
from trioder.process.wall_time import WallClock

REFUSED = AuditRecord(
    at_ms=1,
    principal="",
    kind="",
    tenant="",
    peer="10.0.0.1:4711",
    action="authenticate",
    outcome="refused",
    reason="the token is unknown",
)


def open_trail() -> tuple[AuditTrail, list[AuditRecord]]:
    records: list[AuditRecord] = []
    return AuditTrail(records.append, wall=WallClock(1_000.0, trio.current_time())), records


async def test_commands_are_all_recorded() -> None:
    trail, records = open_trail()
    command = replace(REFUSED, action="dispatch", outcome="ok")
    for _ in range(1_000):
        trail.record(command)
    assert records == [command] * 1_000


async def test_of_very_many_changes_of_the_access_file_the_first_are_recorded_and_the_rest_counted() -> None:
    trail, records = open_trail()
    changes = [AccessChange(action="agent.grant", target=f"a{n}", tenant="t") for n in range(200_000)]
    changes += [AccessChange(action="token.create", target="console", tenant="t")]
    trail.access_changed(changes)
    *each, last = records
    assert [record.target for record in each] == [f"a{n}" for n in range(MAX_CHANGES)]
    assert (last.action, last.tenant, last.outcome) == ("access_file.change", "*", "ok")
    assert last.reason == ("199001 more changes in the same file: 199000 agent.grant, 1 token.create")


async def test_further_refusals_of_a_caller_are_one_record_with_their_number(autojump_clock: object) -> None:
    trail, records = open_trail()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trail.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1_000):
            # A client has another port for every connection.
            trail.refused(replace(REFUSED, peer=f"10.0.0.1:{number}"))
        assert len(records) == MAX_RECORDS_A_CALLER
        await trio.sleep(WINDOW_S + 1)
        *_, last = records
        assert (len(records), last.at_ms) == (MAX_RECORDS_A_CALLER + 1, 1_060_000)
        assert last.reason == "990 more refusals within 60 s; the last: the token is unknown"
        trail.refused(REFUSED)
        assert records[-1] == REFUSED
        nursery.cancel_scope.cancel()


async def test_failed_handshakes_of_one_address_are_recorded_within_the_bound() -> None:
    trail, records = open_trail()
    for number in range(100):
        trail.handshake_refused(f"10.0.0.1:{number}", "the peer does not trust the CA")
    assert len(records) == MAX_RECORDS_A_CALLER
    assert {(one.action, one.outcome, one.reason) for one in records} == {
        ("rest.connect", "refused", "the peer does not trust the CA")
    }


async def test_what_is_counted_is_recorded_at_the_end(autojump_clock: object) -> None:
    trail, records = open_trail()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trail.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(MAX_RECORDS_A_CALLER + 5):
            trail.refused(REFUSED)
        nursery.cancel_scope.cancel()
    assert records[-1].reason.startswith("5 more refusals")


async def test_many_callers_cannot_fill_the_table() -> None:
    trail, records = open_trail()
    for number in range(100_000):
        trail.refused(replace(REFUSED, peer=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1"))
    trail.flush()
    assert len(records) <= MAX_RECORDS + MAX_CALLERS + 1
    counted = records[-1]
    assert counted.reason == f"{100_000 - MAX_CALLERS} more refusals within 60 s, from other callers"
    assert counted.peer == ""


async def test_an_aggregated_record_is_of_one_tenant() -> None:
    trail, records = open_trail()
    for tenant in ("alpha", "beta"):
        for _ in range(MAX_RECORDS_A_CALLER + 3):
            trail.refused(replace(REFUSED, tenant=tenant, reason=f"not for {tenant}"))
    trail.flush()
    assert {(one.tenant, one.reason) for one in records[-2:]} == {
        ("alpha", "3 more refusals within 60 s; the last: not for alpha"),
        ("beta", "3 more refusals within 60 s; the last: not for beta"),
    }


async def test_one_ipv6_network_is_one_caller() -> None:
    trail, records = open_trail()
    for number in range(1_000):
        trail.refused(replace(REFUSED, peer=f"[2001:db8::{number:x}]:1"))
    assert len(records) == MAX_RECORDS_A_CALLER
