"""Elements of a page by CSS selector, or by role and accessible name, as assistive technology has them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Send = Callable[..., Awaitable[dict[str, Any]]]

# Gives [x, y] of the middle, or why it cannot be clicked there.
_PLACE = """
async function () {
    const box = () => this.getBoundingClientRect();
    const nextFrame = () => new Promise(requestAnimationFrame);
    if (!this.isConnected) return "it has been removed";
    if (this.matches(":disabled") || this.ariaDisabled === "true") return "it is disabled";
    let before = box();
    if (before.width === 0 || before.height === 0) return "it has no size";
    if (before.top < 0 || before.left < 0 || before.bottom > innerHeight || before.right > innerWidth) {
        this.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
        before = box();
    }
    await nextFrame();
    const after = box();
    if (before.x !== after.x || before.y !== after.y) return "it moves";
    const first = this.getClientRects()[0];
    const [x, y] = [first.x + first.width / 2, first.y + first.height / 2];
    const hit = document.elementFromPoint(x, y);
    if (hit === null) return "it is outside of the window";
    const label = hit.closest("label");
    if (this.contains(hit) || (label && label.control === this)) return [x, y];
    return `it is covered by ${hit.cloneNode(false).outerHTML}`;
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locator:
    """An element by role and accessible name; inside of the element of a CSS selector, if one is given.

    Without a name every element of the role is meant; with `place` one of several, counted from 0.
    """

    role: str
    name: str | None = None
    within: str = ""
    place: int | None = None

    def __str__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        place = "" if self.place is None else f", number {self.place}"
        return f"{self.role}{name}{place}{f' in {self.within}' if self.within else ''}"


def button(name: str, *, within: str = "", place: int | None = None) -> Locator:
    """Return the button with this accessible name."""
    return Locator(role="button", name=name, within=within, place=place)


def link(name: str, *, within: str = "", place: int | None = None) -> Locator:
    """Return the link with this accessible name."""
    return Locator(role="link", name=name, within=within, place=place)


def field(name: str, *, role: str = "textbox", within: str = "") -> Locator:
    """Return the field with this accessible name; the role of a number's is `spinbutton`."""
    return Locator(role=role, name=name, within=within)


def heading(name: str) -> Locator:
    """Return the heading with this text."""
    return Locator(role="heading", name=name)


async def find_elements(send: Send, where: str | Locator) -> list[str]:
    """Return the object ids of all such elements, in the order of the document."""
    if isinstance(where, str):
        return await _by_selector(send, where)
    roots = await _by_selector(send, where.within) if where.within else [await _document(send)]
    found: list[str] = []
    for root in roots:
        name = {} if where.name is None else {"accessibleName": where.name}
        answer = await send("Accessibility.queryAXTree", objectId=root, role=where.role, **name)
        for node in answer["nodes"]:
            if not node["ignored"] and "backendDOMNodeId" in node:
                resolved = await send("DOM.resolveNode", backendNodeId=node["backendDOMNodeId"])
                found.append(resolved["object"]["objectId"])
    return found if where.place is None else found[where.place : where.place + 1]


async def where_to_click(send: Send, where: str | Locator) -> tuple[float, float] | str:
    """Return the middle of the one element in CSS pixels of the window, or why it cannot be clicked."""
    found = await find_elements(send, where)
    if len(found) != 1:
        return f"there are {len(found)} such elements" if found else "there is no such element"
    answer = await send(
        "Runtime.callFunctionOn",
        objectId=found[0],
        functionDeclaration=_PLACE,
        awaitPromise=True,
        returnByValue=True,
    )
    value = answer["result"].get("value")
    return (value[0], value[1]) if isinstance(value, list) else str(value)


async def _document(send: Send) -> str:
    answer = await send("Runtime.evaluate", expression="document")
    return str(answer["result"]["objectId"])


async def _by_selector(send: Send, selector: str) -> list[str]:
    answer = await send("Runtime.evaluate", expression=f"[...document.querySelectorAll({selector!r})]")
    if "exceptionDetails" in answer:
        raise ValueError(f"{selector!r} is no CSS selector")
    properties = await send(
        "Runtime.getProperties", objectId=answer["result"]["objectId"], ownProperties=True
    )
    return [entry["value"]["objectId"] for entry in properties["result"] if entry["name"].isdecimal()]
