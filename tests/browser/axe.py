"""Accessibility of a page by the rules of axe-core, which Deque publishes under the MPL 2.0.

It runs in an isolated world of the page: it has the same DOM, while the page's CSP stays as it is.
"""

import sys
from functools import cache
from pathlib import Path

from tests.browser.page import Page

# scripts/_environment.sh puts it there.
AXE = Path(sys.prefix) / "share" / "axe-core" / "axe_playwright_python" / "axe.min.js"

_RUN = """
(await axe.run(document, {resultTypes: ["violations"]})).violations.flatMap((rule) =>
    rule.nodes.map((node) => {
        const why = [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ");
        return `${rule.id} (${rule.impact}): ${node.target.join(" ")}: ${why || rule.help}`;
    }))
"""


async def find_violations(page: Page) -> list[str]:
    """Return what the page violates now, a line for each element: rule, impact, element and reason."""
    world = await page.world("axe")
    await page.evaluate(f"(() => {{ {_source()}\n }})()", world=world)
    lines: list[str] = await page.evaluate(_RUN, world=world)
    return lines


@cache
def _source() -> str:
    if not AXE.exists():
        raise FileNotFoundError(f"{AXE} is missing; ./scripts/test installs it")
    return AXE.read_text(encoding="utf-8")
