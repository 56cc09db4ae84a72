"""One page as a user has it: it goes somewhere, is clicked, typed into and looked at."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from tests.browser.devtools import DevToolsConnection, DevToolsError
from tests.browser.elements import Locator, find_elements, where_to_click
from tests.browser.keys import parse_keys
from tests.browser.observer import Observer, exception_text

# What a page takes on a busy machine; tests that are about time measure it.
WITHIN_S = 20.0
_POLL_S = 0.03
_TEXT_LENGTH = 1500
_CONSOLE_LINES = 20
# Longer ones are inserted at once.
_TYPED_LENGTH = 200

_COUNT_FRAMES = """
(() => {
    const frames = globalThis.trioderFrames = {times: [], counting: true};
    requestAnimationFrame(function count(now) {
        frames.times.push(now);
        if (frames.counting) requestAnimationFrame(count);
    });
})()
"""
_STOP_COUNTING = "(trioderFrames.counting = false, trioderFrames.times)"


class JavaScriptError(Exception):
    """An exception of the page's JavaScript, with its stack."""


class PageError(AssertionError):
    """The page did not do what a test waited for; the text says what it shows instead."""


@dataclass(slots=True, kw_only=True)
class Frames:
    """Frames that a page drew in a while, once it is over."""

    per_second: float = 0.0
    longest_ms: float = 0.0


class Page:
    """A tab of a browser."""

    def __init__(
        self, connection: DevToolsConnection, *, session: str, target: str, observer: Observer, source: str
    ) -> None:
        self.observer = observer
        self.source = source
        self._connection = connection
        self._session = session
        self._target = target

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol for this page."""
        return await self._connection.send(method, session=self._session, **params)

    async def goto(self, path: str) -> None:
        """Load a path of the origin, and wait until its scripts have run."""
        result = await self.send("Page.navigate", url=self.observer.origin + path)
        if error := result.get("errorText"):
            raise PageError(f"{path} does not load: {error}")
        await self.wait_for("document.readyState === 'complete'")

    async def reload(self) -> None:
        """Load the page again, as with F5."""
        await self.evaluate("globalThis.trioderBeforeReload = true")
        await self.send("Page.reload")
        await self.wait_for("!globalThis.trioderBeforeReload && document.readyState === 'complete'")

    async def close(self) -> None:
        """Close the tab."""
        await self._connection.send("Target.closeTarget", targetId=self._target)

    async def bring_to_front(self) -> None:
        """Make this the tab in front."""
        await self.send("Page.bringToFront")

    async def be_hidden_behind_others(self) -> None:
        """Be visible only while this is the tab in front; until then a page is visible and has the focus."""
        await self.send("Emulation.setFocusEmulationEnabled", enabled=False)

    async def evaluate(self, expression: str, *, world: int | None = None) -> Any:
        """Return the value of a JavaScript expression, as JSON has it; it may contain `await`.

        DevTools evaluates it, so that the page's Content-Security-Policy does not concern it.

        Raises:
            JavaScriptError: it raised an exception.
        """
        params: dict[str, Any] = {} if world is None else {"contextId": world}
        answer = await self.send(
            "Runtime.evaluate",
            expression=f"(async () => ({expression}\n))()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
            **params,
        )
        if "exceptionDetails" in answer:
            raise JavaScriptError(exception_text(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def wait_for(self, condition: str, *, within_s: float = WITHIN_S) -> Any:
        """Evaluate a JavaScript expression until it is truthy, and return its value.

        Raises:
            PageError: it is not within that many seconds; with URL, text and console of the page.
        """
        last: object = None
        with trio.move_on_after(within_s):
            while True:
                try:
                    holds, last = await self.evaluate(f"((value) => [!!value, value])(await ({condition}))")
                    if holds:
                        return last
                except (JavaScriptError, DevToolsError) as error:
                    # A page that is being replaced has no context for a moment.
                    last = error
                await trio.sleep(_POLL_S)
        raise PageError(await self.describe(f"not within {within_s:g} s: {condition}\nlast value: {last!r}"))

    async def wait_for_text(self, text: str, *, within_s: float = WITHIN_S) -> None:
        """Wait until the page shows this text, wherever its lines break."""
        wanted = json.dumps(" ".join(text.split()))
        shown = r"document.body.innerText.replace(/\s+/g, ' ')"
        await self.wait_for(f"{shown}.includes({wanted})", within_s=within_s)

    async def find(self, where: str | Locator, *, within_s: float = WITHIN_S) -> str:
        """Wait for the one element, and return its object id of DevTools."""
        found: list[str] = []
        with trio.move_on_after(within_s):
            while len(found) != 1:
                try:
                    found = await find_elements(self.send, where)
                except DevToolsError:
                    found = []
                if len(found) != 1:
                    await trio.sleep(_POLL_S)
        if len(found) == 1:
            return found[0]
        raise PageError(await self.describe(f"{where}: {len(found)} elements, not one"))

    async def count(self, where: str | Locator) -> int:
        """Return how many elements there are now."""
        return len(await find_elements(self.send, where))

    async def call(self, where: str | Locator, function: str) -> Any:
        """Call a JavaScript function with the one element as `this`, and return its result."""
        answer = await self.send(
            "Runtime.callFunctionOn",
            objectId=await self.find(where),
            functionDeclaration=function,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise JavaScriptError(exception_text(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def middle_of(self, where: str | Locator) -> tuple[float, float]:
        """Return the middle of an element, in CSS pixels of the window."""
        x, y = await self.call(
            where,
            """function () {
                const box = this.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }""",
        )
        return x, y

    async def text(self, where: str | Locator = "body") -> str:
        """Return the visible text of an element."""
        return str(await self.call(where, "function () { return this.innerText; }"))

    async def click(self, where: str | Locator, *, within_s: float = WITHIN_S) -> None:
        """Click an element with the mouse, once it can be: it is there, enabled, at rest, and not covered.

        Raises:
            PageError: it cannot be within that many seconds; with the reason.
        """
        reason = "there is no such element"
        with trio.move_on_after(within_s):
            while True:
                try:
                    found = await where_to_click(self.send, where)
                except DevToolsError as error:
                    found = str(error)
                if not isinstance(found, str):
                    break
                reason = found
                await trio.sleep(_POLL_S)
            await self.click_at(*found)
            return
        raise PageError(await self.describe(f"{where} cannot be clicked: {reason}"))

    async def click_at(self, x: float, y: float) -> None:
        """Click at a place of the window, in CSS pixels from its upper left corner."""
        await self.move_mouse(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def move_mouse(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def drag(self, start: tuple[float, float], end: tuple[float, float], *, steps: int = 10) -> None:
        """Press the left button at one place, move to the other in steps, and release it."""
        await self.move_mouse(*start)
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        await self.send("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **mouse)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
            await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **mouse)
        await self.send(
            "Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left", clickCount=1
        )

    async def wheel(self, x: float, y: float, *, by: float) -> None:
        """Turn the wheel over a place of the window, downwards if `by` is positive."""
        await self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, by their names: `Escape`, `a`, `Control+k`, `Shift+Tab`."""
        for key in keys:
            chord = parse_keys(key)
            for part in chord:
                await self.send("Input.dispatchKeyEvent", **part.event("keyDown"))
            for part in reversed(chord):
                await self.send("Input.dispatchKeyEvent", **part.event("keyUp"))

    async def type(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        if len(text) > _TYPED_LENGTH or not text.isascii():
            await self.send("Input.insertText", text=text)
        else:
            for character in text:
                await self.press(character)

    async def fill(self, where: str | Locator, text: str) -> None:
        """Click a field and replace what it has; an empty text leaves it empty."""
        await self.click(where)
        await self.press("Control+a", "Delete")
        await self.type(text)

    async def choose(self, where: str | Locator, value: str) -> None:
        """Choose an option of a <select> by its value or its text."""
        chosen = await self.call(
            where,
            f"""function () {{
                const wanted = {value!r};
                const option = [...this.options].find((o) => o.value === wanted || o.text.trim() === wanted);
                if (!option) return false;
                this.value = option.value;
                this.dispatchEvent(new Event("input", {{bubbles: true}}));
                this.dispatchEvent(new Event("change", {{bubbles: true}}));
                return true;
            }}""",
        )
        if not chosen:
            raise PageError(await self.describe(f"{where} has no option {value!r}"))

    async def emulate(
        self,
        *,
        size: tuple[int, int] | None = None,
        scale: float = 1.0,
        scheme: str | None = None,
        reduced_motion: bool | None = None,
    ) -> None:
        """Set the window's width and height, the colour scheme (`light`, `dark`), and reduced motion.

        Scheme and motion are set together: what is not given is as in a new browser.
        """
        if size is not None:
            width, height = size
            await self.send(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=scale,
                mobile=False,
            )
        if scheme is not None or reduced_motion is not None:
            features = [
                {"name": "prefers-color-scheme", "value": scheme or ""},
                {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else ""},
            ]
            await self.send("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """Write what the window shows to a PNG."""
        picture = await self.send("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(picture["data"]))

    @asynccontextmanager
    async def count_frames(self) -> AsyncIterator[Frames]:
        """Count the animation frames while the block runs; the figures are there when it has ended."""
        frames = Frames()
        await self.evaluate(_COUNT_FRAMES)
        yield frames
        times = await self.evaluate(_STOP_COUNTING)
        if len(times) > 1:
            frames.per_second = 1000 * (len(times) - 1) / (times[-1] - times[0])
            frames.longest_ms = max(b - a for a, b in pairwise(times))

    async def world(self, name: str) -> int:
        """Return a new isolated world: it has the page's DOM, but neither its globals nor its CSP."""
        tree = await self.send("Page.getFrameTree")
        frame = tree["frameTree"]["frame"]["id"]
        created = await self.send("Page.createIsolatedWorld", frameId=frame, worldName=name)
        return int(created["executionContextId"])

    async def describe(self, headline: str) -> str:
        """Return the headline with URL, text and last console lines of the page, for a failure."""
        lines = [headline]
        try:
            with trio.fail_after(5):
                url = await self.evaluate("location.href")
                text = await self.evaluate("document.body.innerText")
            lines += [f"at {url}, which shows:", *_shortened(str(text), _TEXT_LENGTH).splitlines()]
        except (JavaScriptError, DevToolsError, trio.TooSlowError) as error:
            lines.append(f"the page does not answer: {error!r}")
        console = self.observer.console[-_CONSOLE_LINES:]
        return "\n".join([*lines, "console:" if console else "nothing on the console", *console])


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + " ..."
