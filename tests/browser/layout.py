"""The layout of a page: what sticks out of it."""

from tests.browser.page import Page

_OVERFLOW = """
(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const name = (element) => [element.tagName.toLowerCase(), ...element.classList].join(".");
    const clips = (element) => element !== document.body && getComputedStyle(element).overflowX !== "visible";
    const isClipped = (element) =>
        element !== null && (clips(element) || isClipped(element.parentElement));
    const beyond = (element) => element.getBoundingClientRect().right - root.clientWidth;
    const found = [...document.body.querySelectorAll("*")]
        .filter((element) => beyond(element) > 0 && !isClipped(element.parentElement));
    return ["the page", ...found.map((element) => `${name(element)} by ${beyond(element)} px`)];
})()
"""


async def find_overflow(page: Page) -> list[str]:
    """Return the elements beyond the right edge of a page that has a scroll bar across, none otherwise."""
    found: list[str] = await page.evaluate(_OVERFLOW)
    return found
