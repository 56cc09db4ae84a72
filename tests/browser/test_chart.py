"""The chart of the console in a real browser: gaps, peaks, crosshair, selection, and when it draws."""

from collections.abc import Iterator

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium
from tests.browser.components import open_component, open_component_site

END = 1_800_000_000_000
# `redAt(part)`: how many pixels of the series' colour are at that part of the width, and the top one's y.
CHART = f"""
globalThis.END = {END};
globalThis.power = {{id: "power", label: "Power", kind: "line", axis: "left", color: "--test", unit: "MW",
    digits: 1}};
globalThis.open = (more = {{}}) => openChart(place, {{signal, label: "Power of a site", series: [power],
    height: 200, gapMs: 5000, now: () => END, ...more}});
globalThis.seconds = (count) => Array.from({{length: count}}, (_, n) => END - (count - 1 - n) * 1000);
globalThis.redAt = (part) => {{
    const canvas = document.querySelector(".chart-canvas");
    const [left, right] = [44, canvas.width - 20];
    const x = Math.round(left + part * (right - left));
    const {{data}} = canvas.getContext("2d").getImageData(x - 2, 0, 5, canvas.height);
    let [count, top] = [0, null];
    for (let i = 0; i < data.length; i += 4) {{
        if (data[i] > 200 && data[i + 1] < 80 && data[i + 3] > 100) {{
            count += 1;
            top ??= Math.floor(i / 20);
        }}
    }}
    return [count, top];
}};
globalThis.nextFrames = async () => {{
    for (let n = 0; n < 3; n += 1) await new Promise(requestAnimationFrame);
}};
globalThis.drawn = 0;
const clearRect = CanvasRenderingContext2D.prototype.clearRect;
CanvasRenderingContext2D.prototype.clearRect = function (...area) {{
    if (this.canvas === document.querySelector(".chart-canvas")) drawn += 1;
    return clearRect.apply(this, area);
}};
"""
HUNDRED = f"{CHART} globalThis.chart = open(); chart.setRange(END - 99_000, END);"
READOUT = "document.querySelector('.chart-readout').textContent"
SURFACE = "document.querySelector('.chart-surface')"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_component_site() as address:
        yield address


@pytest.mark.parametrize("gap", ["null", "no point"])
async def test_a_gap_is_not_bridged(chromium: Chromium, origin: str, gap: str) -> None:
    script = f"""{HUNDRED}
        const points = seconds(100).map((time, n) => [time, n > 40 && n < 60 ? "gap" : 10]);
        const kept = "{gap}" === "no point" ? points.filter(([, value]) => value !== "gap") : points;
        chart.setData("power", kept.map(([time]) => time),
            kept.map(([, value]) => value === "gap" ? null : value));"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate("await nextFrames()")
            assert (await page.evaluate("redAt(0.25)"))[0] > 0
            assert (await page.evaluate("redAt(0.5)"))[0] == 0
            assert (await page.evaluate("redAt(0.75)"))[0] > 0


async def test_a_peak_of_one_sample_among_100_000_is_drawn(chromium: Chromium, origin: str) -> None:
    script = f"""{HUNDRED} chart.setRange(END - 99_999_000, END);
        chart.setData("power", seconds(100_000), seconds(100_000).map((_, n) => n === 50_060 ? 100 : 10));"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate("await nextFrames()")
            _, flat = await page.evaluate("redAt(0.25)")
            _, peak = await page.evaluate("redAt(0.5)")
            assert peak < flat - 50


async def test_a_point_between_two_gaps_is_drawn(chromium: Chromium, origin: str) -> None:
    script = f"{HUNDRED} chart.setData('power', [END - 50_000], [10]);"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate("await nextFrames()")
            assert (await page.evaluate("redAt(0.495)"))[0] > 0


async def test_arrow_keys_move_the_crosshair_from_sample_to_sample(chromium: Chromium, origin: str) -> None:
    script = f"{HUNDRED} chart.setData('power', seconds(100), seconds(100).map((_, n) => n - 50));"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate(f"{SURFACE}.focus()")
            await page.press("ArrowLeft")
            await page.wait_for(f"{READOUT}.includes('49.0')")
            await page.press("ArrowLeft", "ArrowLeft")
            await page.wait_for(f"{READOUT}.includes('47.0')")
            assert "Power 47.0 MW" in await page.evaluate(f"{SURFACE}.ariaValueText")
            await page.press("Home")
            # A true minus sign: charging.
            await page.wait_for(f"{READOUT}.includes('\u221250.0')")


async def test_the_readout_has_no_value_in_a_gap(chromium: Chromium, origin: str) -> None:
    script = f"""{HUNDRED}
        chart.setData("power", seconds(100), seconds(100).map((_, n) => n > 20 && n < 80 ? null : 10));"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            box = await page.call(
                ".chart-surface", "function () { const r = this.getBoundingClientRect(); return [r.x, r.y]; }"
            )
            await page.move_mouse(box[0] + 100, box[1] + 100)
            await page.wait_for("document.querySelector('.chart-value').textContent === '10.0 MW'")
            await page.move_mouse(box[0] + 400, box[1] + 100)
            await page.wait_for("document.querySelector('.chart-value').textContent === '\u2013'")


async def test_charts_of_one_group_share_crosshair_and_zoom(chromium: Chromium, origin: str) -> None:
    script = f"""{CHART} globalThis.ranges = [];
        const one = open({{sync: "site", onRange: (...range) => ranges.push(range)}});
        const other = open({{sync: "site"}});
        const alone = open();
        for (const each of [one, other, alone]) {{
            each.setRange(END - 99_000, END);
            each.setData("power", seconds(100), seconds(100).map((_, n) => n));
        }}"""
    shown = "[...document.querySelectorAll('.chart-value')].map((value) => value.textContent)"
    zoomed = "[...document.querySelectorAll('.chart-reset')].map((button) => !button.hidden)"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            left, top = await page.call(
                ".chart:first-child .chart-surface",
                "function () { const r = this.getBoundingClientRect(); return [r.x, r.y]; }",
            )
            await page.move_mouse(left + 400, top + 100)
            await page.wait_for(f"{shown}[0] !== '' && {shown}[0] === {shown}[1]")
            assert (await page.evaluate(shown))[2] == ""
            await page.drag((left + 200, top + 100), (left + 400, top + 100))
            await page.wait_for(f"String({zoomed}) === 'true,true,false'")
            [[start, end]] = await page.evaluate("ranges")
            assert END - 99_000 < start < end < END
            assert 20_000 < end - start < 35_000
            await page.evaluate(f"{SURFACE}.focus()")
            await page.press("Escape")
            await page.wait_for(f"String({zoomed}) === 'false,false,false'")
            assert (await page.evaluate("ranges"))[1] == [None, None]


async def test_a_range_is_selected_by_keyboard(chromium: Chromium, origin: str) -> None:
    script = f"""{CHART} globalThis.ranges = [];
        const chart = open({{onRange: (...range) => ranges.push(range)}});
        chart.setRange(END - 99_000, END);
        chart.setData("power", seconds(100), seconds(100));"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate(f"{SURFACE}.focus()")
            await page.press("ArrowLeft", " ", *["ArrowLeft"] * 10, "Enter")
            assert await page.evaluate("ranges") == [[END - 10_000, END]]


async def test_many_new_values_are_drawn_at_most_ten_times_a_second(chromium: Chromium, origin: str) -> None:
    script = f"{CHART} globalThis.chart = open({{now: Date.now}}); chart.setFollowing(900_000);"
    append = """(async () => {
        await nextFrames();
        const before = drawn;
        const end = performance.now() + 1000;
        for (let n = 0; performance.now() < end; n += 1) {
            chart.append("power", Date.now() + n / 1000, n);
            await new Promise((done) => setTimeout(done, 5));
        }
        return drawn - before;
    })()"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            assert 3 <= await page.evaluate(f"await {append}") <= 11


async def test_a_chart_that_does_not_change_does_not_draw(chromium: Chromium, origin: str) -> None:
    script = f"{HUNDRED} chart.setData('power', seconds(100), seconds(100));"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate("await nextFrames()")
            before = await page.evaluate("drawn")
            await page.evaluate("await new Promise((done) => setTimeout(done, 500))")
            assert await page.evaluate("drawn") == before


async def test_an_old_newest_value_is_not_shown_as_the_present_one(chromium: Chromium, origin: str) -> None:
    script = f"""{CHART} globalThis.at = END;
        globalThis.chart = open({{now: () => at}});
        chart.setFollowing(60_000);
        chart.append("power", END, 12.5);"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.wait_for("document.querySelector('.chart-value').textContent === '12.5 MW'")
            await page.evaluate("at = END + 6000")
            await page.wait_for("document.querySelector('.chart-value').textContent === '\u2013'")


async def test_values_are_there_as_a_table(chromium: Chromium, origin: str) -> None:
    script = f"{HUNDRED} chart.setData('power', seconds(100), seconds(100).map((_, n) => n));"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate("document.querySelector('.chart-table-button').focus()")
            await page.press("Enter")
            assert await page.count(".chart-table tbody tr") == 48
            assert "Power, MW" in await page.text(".chart-table thead")
            assert "Power 0.0 to 99.0 MW" in await page.evaluate(f"{SURFACE}.ariaLabel")
            assert await find_violations(page) == []


async def test_times_that_do_not_ascend_are_refused(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, HUNDRED) as page:
            said = await page.evaluate(
                "(() => { try { chart.setData('power', [5, 4], [1, 2]); }"
                " catch (error) { return error.message; } })()"
            )
            assert said == "times[1] is 4, not after times[0], 5"


async def test_ticks_are_on_the_hours_of_the_zone_that_is_named(chromium: Chromium, origin: str) -> None:
    ticks = """(await import("/static/components/chart/axis.js")).timeTicks(
        Date.parse("2026-10-31T11:00:00-07:00"), Date.parse("2026-11-02T12:00:00-08:00"), 800)"""
    with trio.fail_after(60):
        async with open_component(chromium, origin, CHART) as page:
            await page.send("Emulation.setTimezoneOverride", timezoneId="America/Los_Angeles")
            labels = await page.evaluate(f"{ticks}.map(({{label}}) => label)")
            # 1 November has 25 hours.
            assert labels == ["12:00", "18:00", "1 Nov", "06:00", "12:00", "18:00", "2 Nov", "06:00", "12:00"]
            zone = '(await import("/static/components/chart/axis.js")).zoneName(END)'
            assert await page.evaluate(zone) == "PST"
