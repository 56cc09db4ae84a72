"""The layout of a page: what sticks out of it."""

from tests.browser.page import Page

_OVERFLOW = """
(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const name = (element) => [element.tagName.toLowerCase(), ...element.classList].join(".");
    return ["the page", ...[...document.body.querySelectorAll("*")]
        .filter((element) => element.getBoundingClientRect().right > root.clientWidth)
        .map((element) => `${name(element)} by ${element.getBoundingClientRect().right - root.clientWidth} px`)];
})()
"""


async def find_overflow(page: Page) -> list[str]:
    """Return the elements beyond the right edge of a page that has a scroll bar across; none where it has not."""
    found: list[str] = await page.evaluate(_OVERFLOW)
    return found
