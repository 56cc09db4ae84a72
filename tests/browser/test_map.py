"""The map of the fleet page, by itself: projections, hit test, aggregation, and what a user does with it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium
from tests.browser.context import open_page
from tests.browser.elements import button
from tests.browser.page import Page
from tests.browser.small_site import open_site

STATIC = Path(__file__).parents[2] / "trioder/console/static"
SERVED = [
    *STATIC.glob("components/map.js"),
    *STATIC.glob("components/map/*.js"),
    *STATIC.glob("geo/*.json"),
    STATIC / "styles/base.css",
    STATIC / "styles/map.css",
]
HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "W" * 5000

TWO_FRAMES = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"

FILES = {
    "/": """<!doctype html><html lang="en" data-theme="light"><head><title>Map</title>
        <link rel="icon" href="/favicon.ico"><link rel="stylesheet" href="/static/styles/base.css">
        <link rel="stylesheet" href="/static/styles/map.css"><link rel="stylesheet" href="/page.css">
        <script type="module" src="/page.js"></script></head>
        <body><main><h1>Sites</h1><div id="map"></div></main></body></html>""",
    "/page.css": "h1 { height: 40px; margin: 0; } #map { width: 800px; height: 500px; }",
    # Three sites in a row, from west to east, with the largest in the middle.
    "/page.js": f"""
        import {{ openMap }} from "/static/components/map.js";
        import * as projections from "/static/components/map/projection.js";
        import * as sites from "/static/components/map/sites.js";
        import {{ spread }} from "/static/components/map/spread.js";
        import {{ View }} from "/static/components/map/view.js";
        const state = (id) => {{
            seen.reads += 1;
            return {{powerMw: 5, socPct: 50, quality: id === "east" ? "stale" : "good", alarms: 0,
                stopped: false, ageS: 47}};
        }};
        const seen = {{reads: 0, selected: [], hovered: []}};
        const controller = new AbortController();
        const map = openMap(document.getElementById("map"), {{
            signal: controller.signal, state,
            onSelect: (id) => seen.selected.push(id), onHover: (id) => seen.hovered.push(id),
        }});
        map.setSites([
            {{id: "west", name: {HOSTILE!r}, lat: 38, lon: -120, maxMw: 10, minMw: -10}},
            {{id: "middle", name: "Middle", lat: 38, lon: -115, maxMw: 100, minMw: -80}},
            {{id: "east", name: "East", lat: 38, lon: -110, maxMw: 10, minMw: -10}},
            {{id: "lost", name: "Lost", lat: null, lon: null, maxMw: 10, minMw: -10}},
        ]);
        Object.assign(globalThis, {{projections, sites, spread, View, seen, controller, map}});
    """,
    **{f"/static/{path.relative_to(STATIC)}": path.read_text(encoding="utf-8") for path in SERVED},
}

# Of `count` sites, in a square of 20 by 20 degrees; every tenth has stale values, every twentieth an alarm.
_LAYER = """
    const layer = new sites.SiteLayer((id) => ({
        powerMw: 1, socPct: 50, quality: id % 10 ? "good" : "stale", alarms: id % 20 ? 0 : 2, stopped: false,
    }));
    const projection = projections.mercator();
    layer.setSites(Array.from({length: count}, (_, id) => ({
        id: String(id), name: "", lon: id * 7.3 % 20, lat: id * 3.7 % 20, maxMw: 10, minMw: -10,
    })), projection);
    const view = new View();
    view.resize(1000, 1000);
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_site(FILES) as running:
        yield running


@asynccontextmanager
async def open_map(chromium: Chromium, origin: str) -> AsyncIterator[Page]:
    with trio.fail_after(60):
        async with open_page(chromium, origin, "/") as page:
            # Read once it has drawn.
            await page.wait_for("globalThis.map && seen.reads > 3 && map.element.ariaLabel")
            yield page


async def symbol_at(page: Page, lon: float) -> tuple[float, float]:
    """Return where the symbol of a site at 38 degrees north is in the window: the map shows all three."""
    place: tuple[float, float] = await page.evaluate(
        f"""(() => {{
            const at = (lon) => projections.albers().project(lon, 38);
            const view = new View();
            view.resize(800, 500);
            const ends = [at(-120), at(-115), at(-110)];
            view.fit({{west: ends[0].x, east: ends[2].x, north: Math.min(...ends.map((p) => p.y)),
                south: Math.max(...ends.map((p) => p.y))}});
            const point = view.toScreen(at({lon}).x, at({lon}).y);
            const box = map.element.getBoundingClientRect();
            return [box.left + point.x, box.top + point.y];
        }})()"""
    )
    return place


async def in_layer(page: Page, count: int, result: str) -> object:
    """Return the value of an expression about a layer and a view of it."""
    return await page.evaluate(f"(() => {{ const count = {count}; {_LAYER} return {result}; }})()")


async def test_projections_have_an_inverse(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        worst = await page.evaluate(
            """["albers", "mercator"].map((name) => {
                const projection = projections[name]();
                let worst = 0;
                for (let lon = -179; lon <= 179; lon += 6) for (let lat = -60; lat <= 84; lat += 4) {
                    const {x, y} = projection.project(lon, lat);
                    const back = projection.invert(x, y);
                    worst = Math.max(worst, Math.abs(back.lon - lon), Math.abs(back.lat - lat));
                }
                return worst;
            })"""
        )
    assert max(worst) < 1e-6


async def test_a_fleet_elsewhere_has_another_projection(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        for lon, expected in ((-115, "albers"), (10, "mercator")):
            name = await page.evaluate(f"projections.projectionFor([{{lon: {lon}, lat: 40}}]).name")
            assert name == expected


async def test_the_uppermost_symbol_is_hit_or_the_nearest_within_reach(
    chromium: Chromium, origin: str
) -> None:
    async with open_map(chromium, origin) as page:
        hits = await page.evaluate(
            """(() => {
                const items = [{name: "large", x: 0, y: 0, r: 20}, {name: "small", x: 5, y: 0, r: 5}];
                return [[5, 0], [-15, 0], [0, 24], [0, 40]].map(
                    ([x, y]) => sites.hitTest(items, x, y, 6)?.name ?? null);
            })()"""
        )
    assert hits == ["small", "large", "large", None]


async def test_symbols_that_cover_each_other_move_apart_by_a_little(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        large, small, far, crowded = await page.evaluate(
            """(() => {
                const discs = [{x: 0, y: 0, r: 20}, {x: 0, y: 0, r: 4}, {x: 90, y: 0, r: 4}];
                spread(discs, 40);
                const crowd = Array.from({length: 40}, () => ({x: 0, y: 0, r: 10}));
                spread(crowd, 14);
                const distances = (of) => of.map(({x, y}) => Math.hypot(x, y));
                return [...distances(discs), Math.max(...distances(crowd))];
            })()"""
        )
    # The large one stays nearly where it is, the small one moves to its edge.
    assert large < 2
    assert 20 < small < 26
    assert far == 90
    assert 10 < crowded <= 14.001


async def test_clusters_sum_their_sites(chromium: Chromium, origin: str) -> None:
    sums = """(() => {
        const items = sites.aggregate(layer.items, 0.05);
        const sum = (of) => items.reduce((total, item) => total + of(item), 0);
        return [items.length < 100, items.every((item) => item.kind === "cluster"),
            sum((item) => item.members.length), sum((item) => item.ratingMw), sum((item) => item.powerMw),
            sum((item) => item.notGood), sum((item) => item.alarms)];
    })()"""
    async with open_map(chromium, origin) as page:
        # The power of the stale ones is not in the sum.
        assert await in_layer(page, 1000, sums) == [True, True, 1000, 10_000, 900, 100, 100]


async def test_above_300_symbols_are_aggregated_until_they_are_zoomed(
    chromium: Chromium, origin: str
) -> None:
    kinds = """(() => {
        const shown = (scale) => {
            view.scale = scale;
            const middle = projection.project(10, 10);
            view.centre(middle.x, middle.y);
            return [...new Set(layer.visible(view).map((item) => item.kind))].includes("cluster");
        };
        return [shown(2000), shown(40000), shown(2000)];
    })()"""
    async with open_map(chromium, origin) as page:
        assert await in_layer(page, 1000, kinds) == [True, False, True]
        assert await in_layer(page, 300, kinds) == [False, False, False]


async def test_panning_regroups_nothing(chromium: Chromium, origin: str) -> None:
    same = """(() => {
        view.scale = 2000;
        const groups = (left) => {
            view.left = left;
            view.top = 900;
            return new Set(layer.visible(view).map(({planeX, planeY}) => `${planeX} ${planeY}`));
        };
        const [before, after] = [groups(100), groups(133)];
        return before.size > 20 && [...before].every((group) => after.has(group));
    })()"""
    async with open_map(chromium, origin) as page:
        assert await in_layer(page, 1000, same) is True


async def test_a_hostile_name_is_text_in_the_callout(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        await page.move_mouse(*await symbol_at(page, -120))
        await page.wait_for("document.querySelector('.map-callout-name')?.textContent.startsWith('<img')")
        assert await page.count("img") == 0
        assert await page.evaluate("document.querySelector('.map-callout').offsetWidth") <= 320
        # Nothing of the map is pushed out of its place.
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True


async def test_the_callout_names_power_charge_and_quality_with_age(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        await page.move_mouse(*await symbol_at(page, -110))
        await page.wait_for_text("East")
        text = (await page.text(".map-callout")).replace("\xa0", " ").splitlines()
        assert text == [
            "East",
            "Rated 10 MW",
            "Last: +5 MW discharging, SOC 50 %",
            "Quality: stale, 47 s old",
        ]
        assert await page.evaluate("seen.hovered") == ["east"]


async def test_a_click_selects_and_a_drag_pans(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        x, y = await symbol_at(page, -115)
        await page.drag((x, y), (x + 60, y + 40))
        await page.click_at(x + 60, y + 40)
        await page.wait_for("seen.selected.length > 0")
        assert await page.evaluate("seen.selected") == ["middle"]


async def test_keys_go_from_site_to_site_and_open_one(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        await page.evaluate("map.element.focus()")
        # By rating; with Shift only what needs attention.
        for keys, name in ((["n"], "Middle"), (["Shift+n"], "East"), (["p"], "Middle"), (["p"], "West")):
            await page.press(*keys)
            if name != "West":
                await page.wait_for(f"document.querySelector('.map-spoken').textContent.startsWith('{name}')")
        await page.press("n", "Enter")
        await page.wait_for("seen.selected.length > 0")
        assert await page.evaluate("seen.selected") == ["middle"]


async def test_sites_without_a_position_are_counted(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        await page.wait_for_text("1 site has no position")
        label = await page.evaluate("map.element.ariaLabel")
    assert label.startswith(
        "Map of 3 sites: 1 not good, 0 with open alarms, 0 stopped. 1 without a position."
    )


async def test_states_are_read_after_an_update_only(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        before = await page.evaluate("seen.reads")
        await page.click(button("Zoom in"))
        await page.evaluate(TWO_FRAMES)
        assert await page.evaluate("seen.reads") == before
        # Once, however often.
        await page.evaluate("[map.update(), map.update()]")
        await page.evaluate(TWO_FRAMES)
        assert await page.evaluate("seen.reads") == before + 3


async def test_nothing_is_left_when_the_signal_ends_it(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        frames = await page.evaluate(
            """await (async () => {
                map.update();
                controller.abort();
                let frames = 0;
                globalThis.requestAnimationFrame = () => { frames += 1; };
                map.update();
                document.documentElement.dataset.theme = "dark";
                // Observers of mutations are called before this goes on.
                await new Promise((done) => setTimeout(done));
                return frames;
            })()"""
        )
        assert frames == 0
        assert await page.evaluate("document.getElementById('map').childElementCount") == 0


async def test_colours_follow_the_theme(chromium: Chromium, origin: str) -> None:
    # The upper left corner is in Oregon.
    land = "[...map.element.querySelector('canvas').getContext('2d').getImageData(1, 1, 1, 1).data].join()"
    async with open_map(chromium, origin) as page:
        await page.wait_for(f"{land} === '228,231,234,255'")
        await page.evaluate("document.documentElement.dataset.theme = 'dark'")
        await page.wait_for(f"{land} === '35,40,45,255'")


async def test_the_map_meets_accessibility_rules(chromium: Chromium, origin: str) -> None:
    async with open_map(chromium, origin) as page:
        assert await find_violations(page) == []
