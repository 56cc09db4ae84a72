"""What the other tests here rely on: a real Chromium that clicks, types, and reports every problem."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium, open_chromium
from tests.browser.context import open_context, open_page
from tests.browser.elements import button, field, link
from tests.browser.layout import find_overflow, find_text_that_turns_others
from tests.browser.page import JavaScriptError, PageError
from tests.browser.small_site import open_site

HEAD = '<!doctype html><html lang="en"><head><title>A page</title><link rel="icon" href="/favicon.ico">'
FILES = {
    "/": f"""{HEAD}<script type="module" src="/page.js"></script></head><body><main><h1>Fleet</h1>
        <label>Target in MW <input id="target" type="number"></label>
        <button id="send">Send</button><button id="covered">Covered</button><button disabled>Disabled</button>
        <p id="said" role="status"></p><a href="/other">Elsewhere</a></main></body></html>""",
    "/page.js": """
        const said = document.getElementById("said");
        const target = document.getElementById("target");
        document.getElementById("send").addEventListener("click", (event) => {
            said.textContent = `${event.isTrusted ? "a user" : "a script"} sent ${target.value}`;
        });
        addEventListener("keydown", (event) => {
            if (event.ctrlKey && event.key === "k") said.textContent = "searching";
        });
        const cover = document.createElement("div");
        const box = document.getElementById("covered").getBoundingClientRect();
        Object.assign(cover.style, {position: "fixed", left: `${box.x}px`, top: `${box.y}px`,
            width: `${box.width}px`, height: `${box.height}px`});
        document.body.append(cover);
        const policy = trustedTypes.createPolicy("trioder", {createScriptURL: () => "/worker.js"});
        globalThis.worker = new SharedWorker(policy.createScriptURL(""), {type: "module"});
    """,
    "/worker.js": """
        addEventListener("connect", async ({ports: [port]}) => {
            port.onmessage = ({data: {keep}}) => {
                if (!keep) throw new Error("the worker's");
                globalThis.kept = new Array(keep).fill(0.5);
            };
            port.postMessage((await fetch("/of-worker.txt")).status);
        });
    """,
    "/of-worker.txt": "text",
    "/other": f"{HEAD}</head><body><main><h1>Elsewhere</h1></main></body></html>",
    "/unlabelled": f"{HEAD}</head><body><main><h1>Form</h1><input></main></body></html>",
}


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_site(FILES) as address:
        yield address


async def test_a_page_is_used_by_mouse_and_keyboard(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/") as page:
            await page.fill(field("Target in MW", role="spinbutton"), "12.5")
            await page.click(button("Send"))
            assert await page.text("#said") == "a user sent 12.5"
            await page.fill("#target", "-3")
            await page.press("Tab", "Enter")
            assert await page.text("#said") == "a user sent -3"
            await page.press("Control+k")
            await page.wait_for_text("searching")
            await page.click(link("Elsewhere"))
            await page.wait_for("location.pathname === '/other'")


async def test_what_a_page_evaluates_is_python_s(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/") as page:
            assert await page.evaluate("{a: [1, 2.5, null], b: await Promise.resolve('c')}") == {
                "a": [1, 2.5, None],
                "b": "c",
            }
            assert await page.wait_for("Promise.resolve(3)") == 3
            with pytest.raises(PageError, match="last value: 0"):
                await page.wait_for("Promise.resolve(0)", within_s=0.1)
            with pytest.raises(JavaScriptError, match="ReferenceError: missing is not defined"):
                await page.evaluate("await missing()")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Covered", "it is covered by <div"),
        ("Disabled", "it is disabled"),
        ("Nowhere", "there is no such element"),
    ],
)
async def test_what_a_user_could_not_click_is_not_clicked(
    chromium: Chromium, origin: str, name: str, reason: str
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/") as page:
            with pytest.raises(PageError, match=reason):
                await page.click(button(name), within_s=0.5)


async def test_a_wait_that_fails_reports_what_the_page_shows(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/") as page:
            await page.evaluate("console.info('ready')")
            with pytest.raises(PageError) as failure:
                await page.wait_for("document.title === 'Another'", within_s=0.2)
    for part in ("document.title === 'Another'", f"at {origin}/", "Elsewhere", "console.info: ready"):
        assert part in str(failure.value)


@pytest.mark.parametrize(
    ("doing", "problem"),
    [
        ("console.error('one', 2)", r"page \d+: console.error: one 2"),
        ("void setTimeout(() => { throw new Error('late'); })", "uncaught: Uncaught Error: late"),
        ("void Promise.reject(new Error('late'))", r"uncaught: Uncaught \(in promise\) Error: late"),
        ("document.body.setAttribute('style', 'color: red')", "CSP: kInlineViolation style-src-attr"),
        ("void setTimeout(() => document.body.innerHTML = '')", "CSP: kTrustedTypesSinkViolation"),
        ("fetch('/nothing').then(() => undefined)", "404"),
        ("void (new Image().src = 'http://example.org/x.png')", "another origin: http://example.org/x.png"),
        ("void setTimeout(() => alert(1))", "dialog alert: 1"),
        ("void worker.port.postMessage({})", "shared_worker .*the worker's"),
    ],
)  # fmt: skip
async def test_a_problem_fails_the_test(chromium: Chromium, origin: str, doing: str, problem: str) -> None:
    async def open_and_do() -> None:
        async with open_page(chromium, origin, "/") as page:
            await page.evaluate(doing)
            while not re.search(problem, "\n".join(page.observer.problems)):
                await trio.sleep(0.02)

    with trio.fail_after(20), pytest.raises(AssertionError, match=problem):
        await open_and_do()


async def test_an_expected_problem_fails_nothing(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/") as page:
            page.observer.expect("status of 404")
            await page.evaluate("fetch('/nothing').then(() => undefined)")


async def test_tabs_of_one_context_share_a_worker_whose_requests_are_seen(
    chromium: Chromium, origin: str
) -> None:
    with trio.fail_after(60):
        async with open_context(chromium, origin) as context:
            for _ in range(3):
                page = await context.open_page("/")
            await page.wait_for("worker")
            while len(requests := context.observer.requested("/of-worker.txt")) < 3:
                await trio.sleep(0.02)
    assert len({request.source for request in requests}) == 1
    assert len(context.observer.requested("/worker.js")) == 1


async def test_axe_names_what_is_violated(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/other") as page:
            assert await find_violations(page) == []
            await page.goto("/unlabelled")
            (line,) = await find_violations(page)
    assert line.startswith("label (critical): input: ")


async def test_a_window_s_size_scheme_and_motion_are_emulated(
    chromium: Chromium, origin: str, tmp_path: Path
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/other") as page:
            await page.emulate(size=(390, 844), scheme="dark", reduced_motion=True)
            assert await page.evaluate("[innerWidth, innerHeight]") == [390, 844]
            for query in ("(prefers-color-scheme: dark)", "(prefers-reduced-motion: reduce)"):
                assert await page.evaluate(f"matchMedia('{query}').matches"), query
            await page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


async def test_frames_are_counted(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/other") as page:
            for _ in range(2):
                async with page.count_frames() as frames:
                    await trio.sleep(0.3)
                assert 1 < frames.per_second < 70


async def test_the_heap_of_pages_and_workers_is_measured(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_context(chromium, origin) as context:
            page = await context.open_page("/")
            before = await context.heap_mb()
            await page.evaluate("void (globalThis.kept = new Array(2e6).fill(0.5))")
            kept = await context.heap_mb()
            assert kept > before + 10
            await page.evaluate("void worker.port.postMessage({keep: 2e6})")
            while await context.heap_mb() < kept + 10:
                await trio.sleep(0.05)


def test_nothing_of_chromium_is_left() -> None:
    started: list[Chromium] = []

    def fail() -> None:
        with open_chromium() as running:
            started.append(running)
            assert len(running.processes()) > 1
            # One that does not react is ended all the same.
            os.kill(running.pid, signal.SIGSTOP)
            raise RuntimeError("as a test that fails")

    with pytest.raises(RuntimeError, match="as a test that fails"):
        fail()
    assert started[0].processes() == []
    assert not started[0].profile.exists()


async def test_what_sticks_out_and_what_turns_the_text_around_it_is_named(
    chromium: Chromium, origin: str
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/other") as page:
            assert await find_overflow(page) == await find_text_that_turns_others(page) == []
            await page.evaluate(
                """void document.querySelector("main").append(...["W".repeat(2000), "2 MW of "].map(
                    (textContent, n) =>
                        Object.assign(document.createElement("p"), {textContent, className: "ab"[n]})))"""
            )
            await page.evaluate(
                """void document.querySelector(".b").append(
                    Object.assign(document.createElement("span"), {textContent: "\\u202ename"}),
                    Object.assign(document.createElement("bdi"), {textContent: "\\u202ename"}))"""
            )
            assert any(line.startswith("p.a by") for line in await find_overflow(page))
            assert [line[:4] for line in await find_text_that_turns_others(page)] == ["p.b:"]
