"""What the form of a dispatch previews is what it sends; commands that it copies do the same in a shell."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.browser.chromium import Chromium
from tests.browser.components import open_component, open_component_site
from tests.browser.page import Page

# Dry runs whose requests a test answers, in any order: `sent[0].resolve(...)`.
DRY_RUNS = """
globalThis.sent = [];
globalThis.shown = [];
globalThis.ready = false;
import("/static/core/dry-run.js").then(({openDryRuns}) => {
    globalThis.runs = openDryRuns({
        signal, debounceMs: 20, withAllocations: () => true, onChange: (preview) => shown.push(preview),
        send: (path, body, {signal}) => new Promise((resolve, reject) => {
            sent.push({path, body, signal, resolve});
            signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
        }),
    });
    globalThis.ready = true;
});
"""
MODULES = """
globalThis.ready = false;
const names = ["dispatch-body", "dispatch-progress", "curl", "command-keys", "format"];
Promise.all(names.map((name) => import(`/static/core/${name}.js`)))
    .then((modules) => Object.assign(globalThis, ...modules, {ready: true}));
"""
TOKEN = "s'$t"
HOSTILE = [
    "it's",
    "'; touch /tmp/x; echo '",
    '$(reboot) `reboot` "$HOME" \\ !! %s',
    "two\nlines\ttab",
    "\u202eright to left, \U0001f50b",
    "-d @/etc/passwd",
    "",
]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_component_site() as address:
        yield address


@asynccontextmanager
async def open_modules(chromium: Chromium, origin: str, script: str) -> AsyncIterator[Page]:
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.wait_for("globalThis.ready")
            yield page


async def test_a_preview_is_asked_once_when_typing_has_paused(chromium: Chromium, origin: str) -> None:
    async with open_modules(chromium, origin, DRY_RUNS) as page:
        await page.evaluate("[1, 12, 125].forEach((mw) => runs.setBody({fleet: true, mw}))")
        await page.wait_for("sent.length > 0")
        bodies = await page.evaluate("sent.map(({body}) => body)")
        assert bodies == [{"fleet": True, "mw": 125, "dry_run": True}]
        await page.evaluate("sent[0].resolve({allocated_mw: 125})")
        await page.wait_for("runs.preview.status === 'ready'")
        # Without dry_run: this is what is sent when it is confirmed.
        assert await page.evaluate("runs.preview.body") == {"fleet": True, "mw": 125}


async def test_the_answer_to_an_earlier_body_is_never_shown(chromium: Chromium, origin: str) -> None:
    async with open_modules(chromium, origin, DRY_RUNS) as page:
        await page.evaluate("runs.setBody({fleet: true, mw: 1})")
        await page.wait_for("sent.length === 1")
        await page.evaluate("runs.setBody({fleet: true, mw: 2})")
        assert await page.evaluate("sent[0].signal.aborted")
        await page.evaluate("sent[0].resolve({allocated_mw: 1})")
        await page.wait_for("sent.length === 2")
        await page.evaluate("sent[1].resolve({allocated_mw: 2})")
        await page.wait_for("runs.preview.status === 'ready'")
        answers = await page.evaluate(
            "shown.filter(({status}) => status === 'ready').map((p) => p.answer.allocated_mw)"
        )
        assert answers == [2]


async def test_a_form_that_is_no_longer_complete_has_no_preview(chromium: Chromium, origin: str) -> None:
    async with open_modules(chromium, origin, DRY_RUNS) as page:
        await page.evaluate("runs.setBody({fleet: true, mw: 1})")
        await page.wait_for("sent.length === 1")
        await page.evaluate("runs.setBody(null)")
        assert await page.evaluate("[sent[0].signal.aborted, runs.preview.status]") == [True, "none"]


async def test_a_copied_command_passes_any_value_as_it_is(chromium: Chromium, origin: str) -> None:
    async with open_modules(chromium, origin, MODULES) as page:
        host = await page.evaluate("location.hostname")
        for value in HOSTILE:
            body = {"asset_ids": [value, "b"], "mw": -1.5}
            request = {"method": "POST", "path": f"/dispatch?name={value}", "body": body, "token": True}
            *arguments, data = _arguments_in_a_shell(
                await page.evaluate(f"curlCommand({json.dumps(request)})")
            )
            assert arguments == [
                *("-s", f"http://{host}:3001/dispatch?name={value}"),
                *("-H", f"Authorization: Bearer {TOKEN}", "-H", "content-type: application/json", "-d"),
            ]
            assert json.loads(data) == body


def _arguments_in_a_shell(command: str) -> list[str]:
    """Return what a POSIX shell passes to curl."""
    script = f"curl() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"TRIODER_TOKEN": TOKEN}, capture_output=True, check=True, timeout=20
    )
    assert not done.stderr
    return done.stdout.decode().split("\0")[:-1]


async def test_a_form_and_its_body_are_the_same_both_ways(chromium: Chromium, origin: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"fleet": True, "mw": 12.5, "duration_s": 900},
        {"site_id": "s", "mw": -3, "duration_s": 5400, "reversion_mw": -1, "strategy": "equal"},
        {"asset_id": "a", "mw": 0, "duration_s": 7},
        {"asset_ids": ["a", "b"], "mw": 4, "resplit": False},
    ]
    async with open_modules(chromium, origin, MODULES) as page:
        again = await page.evaluate(
            f"{json.dumps(bodies)}.map((body) => bodyOf(draftOfBody({{duration_s: null, ...body}})).body)"
        )
    assert again == bodies


@pytest.mark.parametrize(
    ("changed", "text", "material"),
    [
        ({}, None, None),
        ({"allocated_mw": 9.0}, "9.000 MW are allocated, not 10.000 MW", True),
        ({"members": 1}, "1 asset instead of 2", True),
        (
            {"allocations": [{"asset_id": "a", "mw": 6.2}, {"asset_id": "b", "mw": 3.8}]},
            "2 shares moved by up to 0.200 MW",
            False,
        ),
    ],
)
async def test_a_command_that_differs_from_its_preview_is_reported(
    chromium: Chromium, origin: str, changed: dict[str, Any], text: str | None, material: bool | None
) -> None:
    preview = {
        "allocated_mw": 10.0,
        "members": 2,
        "allocations": [{"asset_id": "a", "mw": 6.0}, {"asset_id": "b", "mw": 4.0}],
    }
    async with open_modules(chromium, origin, MODULES) as page:
        found = await page.evaluate(f"differenceOf({json.dumps(preview)}, {json.dumps(preview | changed)})")
    if text is None:
        assert found is None
    else:
        assert text in found["text"]
        assert found["material"] is material


async def test_a_dispatch_s_steps_count_what_its_batteries_have_reached(
    chromium: Chromium, origin: str
) -> None:
    by_state = {"queued": 1, "sent": 2, "accepted": 3, "tracking": 4, "rejected": 5, "failed": 6}
    async with open_modules(chromium, origin, MODULES) as page:
        steps = await page.evaluate(f"stepsOf({json.dumps({'by_state': by_state, 'members': 21})})")
    assert {step["step"]: step["count"] for step in steps} == {
        "sent": 20,
        "acknowledged": 12,
        "tracking": 4,
        "ended": 11,
    }


async def test_a_command_has_one_key_until_it_is_answered_also_on_plain_http(
    chromium: Chromium, origin: str
) -> None:
    async with open_modules(chromium, origin, MODULES) as page:
        # Browsers do not have it there.
        await page.evaluate("void delete Crypto.prototype.randomUUID")
        await page.evaluate("void (globalThis.keys = new CommandKeys())")
        first, again, other = await page.evaluate("[1, 1, 2].map((mw) => keys.keyOf({mw}))")
        assert first == again != other
        assert await page.evaluate("(keys.answered(), keys.keyOf({mw: 2}))") != other


async def test_numbers_beyond_all_plants_are_short_and_what_json_lacks_is_none(
    chromium: Chromium, origin: str
) -> None:
    async with open_modules(chromium, origin, MODULES) as page:
        assert await page.evaluate("number(-1e308, 2)") == "−1.00e+308"  # noqa: RUF001  # a minus sign
        assert await page.evaluate("parseNumber('9'.repeat(400))") is None
