"""Browser contexts: pages with cookies, storage and workers of their own, in a Chromium that tests share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

import trio

from tests.browser.chromium import Chromium
from tests.browser.devtools import DevToolsConnection, DevToolsError, open_devtools
from tests.browser.observer import Observer
from tests.browser.page import Page
from trioder.process.nurseries import open_background_nursery

_CLOSE_WITHIN_S = 5.0
# Not the parts of the browser's own window, which are pages too.
_FOLLOWED = [
    *({"type": kind} for kind in ("page", "worker", "shared_worker", "service_worker")),
    {"exclude": True},
]
# What a screen of 1440 by 900 leaves a browser.
_SIZE = (1440, 900)


class BrowserContext:
    """Pages that share cookies, storage and workers with each other, and with nobody else."""

    def __init__(
        self, nursery: trio.Nursery, connection: DevToolsConnection, context_id: str, origin: str
    ) -> None:
        self.observer = Observer(origin)
        self._nursery = nursery
        self._connection = connection
        self._context_id = context_id
        self._numbers = count(1)
        self._pages: dict[str, tuple[str, str]] = {}
        self._followed: set[str] = set()
        self._changed = trio.Event()
        connection.on("Target.attachedToTarget", self._on_attached)
        connection.on("Target.detachedFromTarget", self._on_detached)

    async def attach(self) -> None:
        """Attach to each page and worker before it runs its first line."""
        await self._auto_attach("")

    async def open_page(self, path: str = "", *, size: tuple[int, int] = _SIZE) -> Page:
        """Open a tab of width and height in CSS pixels, at a path of the origin if one is given."""
        created = await self._connection.send(
            "Target.createTarget",
            url="about:blank",
            browserContextId=self._context_id,
        )
        target = created["targetId"]
        while target not in self._pages:
            await self._changed.wait()
        session, source = self._pages[target]
        page = Page(self._connection, session=session, target=target, observer=self.observer, source=source)
        await page.emulate(size=size)
        if path:
            await page.goto(path)
        return page

    async def heap_mb(self) -> float:
        """Return what pages and shared workers have in their JavaScript heaps after a collection, in MB."""
        total = 0.0
        for session in sorted(self._followed):
            await self._connection.send("HeapProfiler.collectGarbage", session=session)
            usage = await self._connection.send("Runtime.getHeapUsage", session=session)
            total += usage["usedSize"] + usage.get("backingStorageSize", 0)
        return total / 1e6

    async def close(self) -> None:
        """End all pages and workers."""
        await self._connection.send("Target.disposeBrowserContext", browserContextId=self._context_id)

    async def _auto_attach(self, session: str) -> None:
        await self._connection.send(
            "Target.setAutoAttach",
            session=session,
            autoAttach=True,
            waitForDebuggerOnStart=True,
            flatten=True,
            filter=_FOLLOWED,
        )

    def _on_attached(self, event: dict[str, Any]) -> None:
        self._nursery.start_soon(self._attached, event["sessionId"], event["targetInfo"])

    def _on_detached(self, event: dict[str, Any]) -> None:
        self._followed.discard(event["sessionId"])

    async def _attached(self, session: str, target: dict[str, Any]) -> None:
        # A worker may have ended, and a page been closed, in between.
        with suppress(DevToolsError):
            if target.get("browserContextId") == self._context_id:
                await self._follow(session, target)
            await self._connection.send("Runtime.runIfWaitingForDebugger", session=session)
        if target["type"] == "page" and target.get("browserContextId") == self._context_id:
            self._changed.set()
            self._changed = trio.Event()

    async def _follow(self, session: str, target: dict[str, Any]) -> None:
        source = f"{target['type']} {next(self._numbers)}"
        await self.observer.follow(self._connection, session, source)
        self._followed.add(session)
        self._connection.on("Target.attachedToTarget", self._on_attached, session=session)
        await self._auto_attach(session)
        if target["type"] == "page":
            on_dialog = partial(self._on_dialog, session, source)
            self._connection.on("Page.javascriptDialogOpening", on_dialog, session=session)
            await self._connection.send("Page.enable", session=session)
            await self._connection.send("Emulation.setFocusEmulationEnabled", session=session, enabled=True)
            self._pages[target["targetId"]] = session, source

    def _on_dialog(self, session: str, source: str, event: dict[str, Any]) -> None:
        self.observer.add(source, f"dialog {event['type']}: {event['message']}", problem=True)
        self._nursery.start_soon(self._dismiss, session)

    async def _dismiss(self, session: str) -> None:
        with suppress(DevToolsError):
            await self._connection.send("Page.handleJavaScriptDialog", session=session, accept=False)


@asynccontextmanager
async def open_context(chromium: Chromium, origin: str) -> AsyncIterator[BrowserContext]:
    """Open a browser context for the pages of an origin, as http://127.0.0.1:3000.

    Raises:
        AssertionError: at the end, if there were problems that `observer.expect` does not name.
    """
    async with open_devtools(chromium.url) as connection, open_background_nursery() as nursery:
        created = await connection.send("Target.createBrowserContext", disposeOnDetach=True)
        context = BrowserContext(nursery, connection, created["browserContextId"], origin)
        await context.attach()
        try:
            yield context
            # Not what the end itself causes.
            problems = context.observer.problems
        except Exception as error:
            for problem in context.observer.problems:
                error.add_note(problem)
            raise
        finally:
            with trio.move_on_after(_CLOSE_WITHIN_S, shield=True), suppress(DevToolsError):
                await context.close()
    assert not problems, "\n".join(["the browser reports:", *problems])


@asynccontextmanager
async def open_page(
    chromium: Chromium, origin: str, path: str = "", *, size: tuple[int, int] = _SIZE
) -> AsyncIterator[Page]:
    """Open one page in a browser context of its own; `open_context` says what fails at the end."""
    async with open_context(chromium, origin) as context:
        yield await context.open_page(path, size=size)
