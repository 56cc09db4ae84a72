"""The layout of a page: what sticks out of it."""

from tests.browser.page import Page

_OVERFLOW = """
(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const name = (element) => [element.tagName.toLowerCase(), ...element.classList].join(".");
    const isClipped = (element) => {
        for (let outer = element.parentElement; outer && outer !== document.body; outer = outer.parentElement) {
            if (getComputedStyle(outer).overflowX !== "visible") return true;
        }
        return false;
    };
    return ["the page", ...[...document.body.querySelectorAll("*")]
        .map((element) => [element, element.getBoundingClientRect().right - root.clientWidth])
        .filter(([element, pixels]) => pixels > 0 && !isClipped(element)).map(([element, pixels]) => `${name(element)} by ${pixels} px`)];
})()
"""


async def find_overflow(page: Page) -> list[str]:
    """Return the elements beyond the right edge of a page that has a scroll bar across, none otherwise."""
    found: list[str] = await page.evaluate(_OVERFLOW)
    return found
