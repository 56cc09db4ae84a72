"""Files that the headend reads again while it runs: at SIGHUP, and certificates when they change.

The access file is examined by its own watch.
"""

import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from trioder.access.tls import ServerTls
from trioder.api.context import Headend
from trioder.domain.access import ALL_TENANTS, AuditOutcome, AuditRecord
from trioder.fleet import FleetFileError


@asynccontextmanager
async def open_reloads(headend: Headend, tls: Sequence[ServerTls]) -> AsyncIterator[None]:
    """Read files again, at SIGHUP and certificates when they change, around the block.

    Apart from the edge, whose end is waited for at a stop.
    """
    async with trio.open_nursery() as nursery:
        for one in tls:
            nursery.start_soon(one.watch)
        await nursery.start(_reload_on_hangup, headend, tls)
        yield
        nursery.cancel_scope.cancel()


async def _reload_on_hangup(
    headend: Headend,
    tls: Sequence[ServerTls],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Read certificates, the access file and the fleet file again on SIGHUP; the results are logged."""
    with trio.open_signal_receiver(signal.SIGHUP) as hangups:
        task_status.started()
        async for _ in hangups:
            for one in tls:
                one.reload()
            if headend.access_watch is not None:
                await headend.access_watch.reload()
            outcome: AuditOutcome = "ok"
            try:
                await headend.reloader.reload()
            except FleetFileError:
                outcome = "failed"
            headend.audit.record(
                AuditRecord(
                    at_ms=headend.wall.now_ms(),
                    principal="",
                    kind="",
                    tenant=ALL_TENANTS,
                    peer="",
                    action="fleet.reload",
                    target="SIGHUP",
                    outcome=outcome,
                )
            )
