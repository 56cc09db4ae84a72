"""The watch: a changed file is read, one with errors changes nothing and is logged once."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.unit.access.documents import agent_entry, document_of, token_entry, write
from trioder.access.document import AccessDocument, read_document, update_document, write_document
from trioder.access.table import AccessChange, AccessTable
from trioder.access.watch import AccessWatch

ONE = document_of(token_entry())
TWO = document_of(token_entry(), agent_entry())


class Watched:
    """An access file, its table and what the watch has announced."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.json"
        write_document(self.path, ONE)
        self.table = AccessTable(read_document(self.path))
        self.actions: list[str] = []
        self.watch = AccessWatch(self.table, self.path, self._changed)

    def _changed(self, changes: Sequence[AccessChange]) -> None:
        self.actions += [change.action for change in changes]

    def change(self, document: AccessDocument) -> None:
        update_document(self.path, lambda _before: document)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
async def running(watched: Watched, nursery: trio.Nursery) -> Watched:
    nursery.start_soon(watched.watch.run)
    await until(lambda: watched.watch.reads)
    return watched


async def until(condition: Callable[[], object]) -> None:
    # A thread reads the file, and virtual time does not wait for threads: the limit is in real time.
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        await trio.sleep(0.1)


def warnings(logs: Sequence[Any]) -> list[str]:
    return [entry["reason"] for entry in logs if entry["log_level"] == "warning"]


async def test_a_changed_file_is_read(running: Watched, autojump_clock: MockClock) -> None:
    running.change(TWO)
    await until(lambda: running.actions)
    assert running.actions == ["agent.grant"]


async def test_what_changed_before_the_watch_began_is_read(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.change(TWO)
    nursery.start_soon(watched.watch.run)
    await until(lambda: watched.actions)
    assert watched.actions == ["agent.grant"]


async def test_a_file_with_errors_changes_nothing_and_is_logged_once(
    running: Watched, autojump_clock: MockClock
) -> None:
    with structlog.testing.capture_logs() as logs:
        running.path.write_text('{"version": 7}')
        await until(lambda: warnings(logs))
        # Read a second time, as it differs, and for the same reason.
        running.path.write_text('{"version": 7} ')
        await until(lambda: running.watch.reads == 3)
    assert running.table.has_tokens
    assert running.actions == []
    assert warnings(logs) == [f"{running.path}: version is 7; this version of trioder knows 1"]


async def test_an_unchanged_file_is_not_read_again(running: Watched, autojump_clock: MockClock) -> None:
    await trio.sleep(10)
    assert running.watch.reads == 1


async def test_after_an_error_the_corrected_file_is_read(running: Watched, autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        running.path.write_text("{")
        await until(lambda: warnings(logs))
    write(running.path, TWO)
    await until(lambda: running.actions)
    assert running.actions == ["agent.grant"]


async def test_a_removed_file_changes_nothing(running: Watched, autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        running.path.unlink()
        await until(lambda: warnings(logs))
    assert running.table.has_tokens
    assert running.actions == []


async def test_a_reload_reads_at_once_and_logs_the_error_again(watched: Watched) -> None:
    with structlog.testing.capture_logs() as logs:
        watched.path.write_text("{")
        await watched.watch.reload()
        await watched.watch.reload()
    assert len(warnings(logs)) == 2
    write(watched.path, TWO)
    await watched.watch.reload()
    assert watched.actions == ["agent.grant"]


async def test_a_file_that_is_made_later_is_read(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    path, actions = tmp_path / "access.json", list[str]()
    table = AccessTable(AccessDocument(trust_domain=TWO.trust_domain))
    watch = AccessWatch(table, path, lambda changes: actions.extend(change.action for change in changes))
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(watch.run)
        await trio.sleep(10)
        await watch.reload()
        assert warnings(logs) == []
        write(path, TWO)
        await until(lambda: table.has_tokens)
    assert actions == ["agent.grant", "token.create"]
