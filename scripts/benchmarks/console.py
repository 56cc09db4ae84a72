"""`scripts/bench console`: how soon the console shows a fleet, how smoothly, and what it keeps in memory.

A real headend without a database, real agents, the console, and a headless Chromium at 1440 by 900 pixels.
Frames are those of its main thread: it draws without a graphics card.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import trio

from scripts.benchmarks.benchmark import BenchmarkError, Case, Report, benchmark, number
from scripts.benchmarks.database import in_thread
from scripts.benchmarks.processes import cpu_s, invented_fleet
from tests.browser.chromium import Chromium, ChromiumError, open_chromium
from tests.browser.consoles import Console, open_console
from tests.browser.context import BrowserContext, open_context
from tests.browser.elements import Locator
from tests.browser.page import Page, PageError

_SHARD_SIZE = 5000
_TICK_S = 4.0
_STEP_S = 1 / 60
_WHEEL_PX = 240.0
_DRAG_PX = 120.0
_LOADED_WITHIN_S = 120.0
_FIRST_PAINT = 'performance.getEntriesByName("first-contentful-paint")[0].startTime'
_IS_LIVE = "document.documentElement.dataset.link === 'live'"
_MAP = Locator(role="application")


@benchmark(
    number("--assets", 1, 100_000, (152, 10_000), "Of the fleet; once for each."),
    number("--seconds", 0.5, None, 3.0, "How long the table is scrolled, and the map panned and zoomed."),
    number("--minutes", 0.1, None, 1.0, "Between the two measurements of the heap; 10 shows a leak."),
)
async def console(*, assets: tuple[int, ...], seconds: float, minutes: float) -> Report:
    """Measure the console in a headless Chromium: first paint, frames, memory."""
    cases: dict[str, Case] = {}
    for count in assets:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trioder-bench-")))
            try:
                chromium = await in_thread(stack.enter_context, open_chromium())
            except ChromiumError as error:
                raise BenchmarkError(str(error)) from None
            opening = open_console(
                folder, invented_fleet(count), shard_size=_SHARD_SIZE, tick_s=_TICK_S, database_url="none"
            )
            running = await in_thread(stack.enter_context, opening)
            try:
                cases[f"{count:,} assets"] = await _measure(running, chromium, seconds, minutes)
            except PageError as error:
                raise BenchmarkError(str(error)) from None
    return Report(title="The console in a headless Chromium, 1440 by 900 pixels", cases=cases)


async def _measure(running: Console, chromium: Chromium, seconds: float, minutes: float) -> Case:
    rows: dict[str, Any] = {}
    # Each in a browser context of its own: nothing is in its cache, and no feed is open.
    async with _opened(running, chromium, "/assets", "table", rows) as (_, page):
        rows |= await _frames(page, "table scrolled", _scroll, seconds)
    async with _opened(running, chromium, "/", "fleet", rows) as (context, page):
        rows |= await _frames(page, "map panned", _pan, seconds)
        rows |= await _frames(page, "map zoomed", _zoom, seconds)
        rows["heaps at first, MB"] = await context.heap_mb()
        rows |= await _wait(running, chromium, 60 * minutes)
        rows[f"heaps after {minutes:g} min, MB"] = await context.heap_mb()
    return rows


@asynccontextmanager
async def _opened(
    running: Console, chromium: Chromium, path: str, name: str, rows: dict[str, Any]
) -> AsyncIterator[tuple[BrowserContext, Page]]:
    async with open_context(chromium, running.origin) as context:
        page = await context.open_page()
        began_s = time.monotonic()
        await page.goto(path)
        await page.wait_for(_IS_LIVE, within_s=_LOADED_WITHIN_S)
        live_s = time.monotonic() - began_s
        rows[f"{name}: first paint, ms"] = float(await page.evaluate(_FIRST_PAINT))
        rows[f"{name}: all values, ms"] = 1000 * live_s
        yield context, page


async def _wait(running: Console, chromium: Chromium, seconds: float) -> dict[str, float]:
    """Return what is used while the page is open and nobody does anything."""
    parts = {
        "CPU of the browser, % of a core": chromium.processes(),
        "CPU of the console's server, % of a core": [psutil.Process(running.server.pid)],
    }
    before_s = {name: sum(map(cpu_s, processes)) for name, processes in parts.items()}
    await trio.sleep(seconds)
    return {
        name: 100 * (sum(map(cpu_s, processes)) - before_s[name]) / seconds
        for name, processes in parts.items()
    }


async def _frames(
    page: Page, name: str, move: Callable[[Page], Awaitable[None]], seconds: float
) -> dict[str, float]:
    async with page.count_frames() as frames:
        with trio.move_on_after(seconds):
            await move(page)
    return {f"{name}, frames/s": frames.per_second, f"{name}, longest frame, ms": frames.longest_ms}


async def _pan(page: Page) -> None:
    x, y = await page.middle_of(_MAP)
    while True:
        await page.drag((x, y), (x + _DRAG_PX, y), steps=30)
        await page.drag((x + _DRAG_PX, y), (x, y), steps=30)


async def _zoom(page: Page) -> None:
    x, y = await page.middle_of(_MAP)
    while True:
        for by in (-_WHEEL_PX, _WHEEL_PX):
            for _ in range(8):
                await page.wheel(x, y, by=by)
                await trio.sleep(_STEP_S)


async def _scroll(page: Page) -> None:
    x, y = await page.middle_of(Locator(role="grid"))
    while True:
        await page.wheel(x, min(y, 600.0), by=_WHEEL_PX)
        await trio.sleep(_STEP_S)
