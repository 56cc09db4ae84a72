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
    const beyond = (element) => {
        const box = element.getBoundingClientRect();
        return Math.max(box.right, box.left + element.scrollWidth) - root.clientWidth;
    };
    const found = [...document.body.querySelectorAll("*")]
        .filter((element) => beyond(element) > 0 && !clips(element) && !isClipped(element.parentElement));
    return ["the page", ...found.map((element) => `${name(element)} by ${beyond(element)} px`)];
})()
"""


async def find_overflow(page: Page) -> list[str]:
    """Return the elements beyond the right edge of a page that has a scroll bar across, none otherwise."""
    found: list[str] = await page.evaluate(_OVERFLOW)
    return found


_NOT_ISOLATED = """
(() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const name = (element) => [element.tagName.toLowerCase(), ...element.classList].join(".");
    const found = [];
    while (walker.nextNode()) {
        const text = walker.currentNode;
        if (!/[\u202a-\u202e]/.test(text.data) || text.parentElement.checkVisibility?.() === false) continue;
        let element = text.parentElement;
        while (getComputedStyle(element).display === "inline"
            && !getComputedStyle(element).unicodeBidi.startsWith("isolate")
            && getComputedStyle(element).unicodeBidi !== "plaintext") element = element.parentElement;
        const style = getComputedStyle(element);
        const isIsolated = style.unicodeBidi.startsWith("isolate") && style.display === "inline"
            || style.unicodeBidi === "plaintext" || element.textContent === text.data;
        if (!isIsolated) found.push(`${name(element)}: ${element.textContent.slice(0, 100)}`);
    }
    return [...new Set(found)];
})()
"""


async def find_text_that_turns_others(page: Page) -> list[str]:
    """Return the elements with a text whose directional characters change the order of the text around it."""
    found: list[str] = await page.evaluate(_NOT_ISOLATED)
    return found
