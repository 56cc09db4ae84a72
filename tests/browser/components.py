"""A page for the tests of single components: the console's static files, and what the test's module opens."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trioder.console
from tests.browser.chromium import Chromium
from tests.browser.context import open_page
from tests.browser.page import Page
from tests.browser.small_site import open_site

STATIC = Path(trioder.console.__file__).parent / "static"
_KINDS = {".js", ".css"}
_HTML = """<!doctype html><html lang="en" data-theme="light" data-link="live"><head><title>Components</title>
<link rel="icon" href="/favicon.ico"><link rel="stylesheet" href="/static/styles/base.css">
<link rel="stylesheet" href="/static/styles/components.css"><link rel="stylesheet" href="/test.css">
<script type="module" src="/test.js"></script></head>
<body><main><h1>Components</h1>
<button id="before">Before</button><div id="place"></div></main></body></html>"""
_CSS = "#place {width: 800px; height: 400px; --test: rgb(255 0 0)}"
# The components as globals: a test calls them in the page.
_SCRIPT = """
import * as chart from "/static/components/chart.js";
import * as table from "/static/components/table.js";
import * as dialog from "/static/components/dialog.js";
const stop = new AbortController();
Object.assign(globalThis, {...chart, ...table, ...dialog, stop, signal: stop.signal,
    place: document.getElementById("place"), ready: true});
"""


@contextmanager
def open_component_site() -> Iterator[str]:
    """Serve the components under the console's Content-Security-Policy; yields the origin."""
    files = {
        f"/static/{path.relative_to(STATIC)}": path.read_text(encoding="utf-8")
        for path in STATIC.rglob("*")
        if path.suffix in _KINDS
    }
    with open_site({**files, "/": _HTML, "/test.css": _CSS, "/test.js": _SCRIPT}) as origin:
        yield origin


@asynccontextmanager
async def open_component(chromium: Chromium, origin: str, script: str) -> AsyncIterator[Page]:
    """Open a page and run statements in it; `signal`, `place` and the components' functions are there."""
    async with open_page(chromium, origin, "/") as page:
        await page.wait_for("globalThis.ready")
        await page.evaluate(f"(() => {{ {script}\n }})()")
        yield page
