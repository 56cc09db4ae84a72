"""Accessibility of a page by the rules of axe-core, which Deque publishes under the MPL 2.0.

It runs in an isolated world of the page: it has the same DOM, while the page's CSP stays as it is.
"""

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.browser.page import Page

# scripts/_environment.sh puts it there.
AXE = Path(sys.prefix) / "share" / "axe-core" / "axe_playwright_python" / "axe.min.js"

_RUN = """
(await axe.run(document, {resultTypes: ["violations"], ...ONLY})).violations.flatMap((rule) =>
    rule.nodes.map((node) => {
        const why = [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ");
        return `${rule.id} (${rule.impact}): ${node.target.join(" ")}: ${why || rule.help}`;
    }))
"""


async def find_violations(page: Page, *, rules: Sequence[str] = ()) -> list[str]:
    """Return what the page violates now, a line for each element: rule, impact, element and reason.

    Args:
        page: is as it was afterwards.
        rules: only these, by their names in axe; none for all.
    """
    world = await page.world("axe")
    await page.evaluate(f"(() => {{ {_source()}\n }})()", world=world)
    only = json.dumps({"runOnly": list(rules)} if rules else {})
    lines: list[str] = await page.evaluate(_RUN.replace("ONLY", only), world=world)
    return lines


@cache
def _source() -> str:
    if not AXE.exists():
        raise FileNotFoundError(f"{AXE} is missing; ./scripts/test installs it")
    return AXE.read_text(encoding="utf-8")
