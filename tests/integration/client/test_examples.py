"""The examples of docs/client.md, run as they stand against a headend with a database and agents."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest

from tests.unit.launcher.fleets import fleet_of
from trioder.client import HeadendClient
from trioder.fleet import dump_fleet
from trioder.process.rfc3339 import parse_ms

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
ADDRESS = "http://localhost:3001"
ASSETS = 4
# Bounds a failure: the machine may be busy.
WITHIN_S = 60.0

# The code of each section, in order.
EXAMPLES = {
    heading: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for heading, text in re.findall(r"^##? (.*?)\n(.*?)(?=^##? |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
}
NAMED = ["Follow a signal", "Export a day of history to pandas", "An alarm to a webhook"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A headend and its agents."""

    url: str
    folder: Path

    def client(self) -> HeadendClient:
        return HeadendClient(self.url, token="")

    def script(self, code: str) -> Path:
        assert ADDRESS in code
        path = self.folder / "example.py"
        path.write_text(code.replace(ADDRESS, self.url))
        return path

    def run(self, code: str, *arguments: str, before: str = "") -> str:
        """Run an example to its end, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-W", "error", str(self.script(before + code)), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
            cwd=ROOT,
            env=environment(),
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TRIODER_TOKEN": "", **more}


def until(holds: Any) -> None:
    give_up_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


@contextmanager
def program(module: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=environment(LOG_FORMAT="json", **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def event_of(log: Path, name: str) -> dict[str, Any] | None:
    lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return next((line for line in lines if line.get("event") == name), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("guide")
    (folder / "assets.yaml").write_text(dump_fleet(fleet_of(ASSETS), form="yaml"))
    log = folder / "headend.log"
    common = {"ASSETS_PATH": str(folder / "assets.yaml"), "STATE_DIR": str(folder)}
    addresses = {"HEADEND_HTTP_ADDR": "127.0.0.1:0", "HEADEND_GRPC_ADDR": "127.0.0.1:0"}
    with program("trioder.headend", log, **common, **addresses, DATABASE_URL="embedded"):
        until(lambda: event_of(log, "headend ready"))
        ready = event_of(log, "headend ready")
        assert ready is not None
        agents = {"HEADEND_GRPC": ready["grpc_addr"], "TICK_S": "0.5"}
        with program("trioder.launcher", folder / "launcher.log", **common, **agents):
            found = Site(url=f"http://{ready['http_addr']}", folder=folder)
            with found.client() as client:
                until(lambda: client.fleet().live_assets == client.fleet().connected_assets == ASSETS)
            yield found


@pytest.mark.parametrize("heading", NAMED)
def test_the_named_examples_are_short(heading: str) -> None:
    [code] = EXAMPLES[heading]
    assert len(code.splitlines()) <= 25


def test_the_guide_has_every_method() -> None:
    [methods] = re.findall(r"^## Methods\n(.*)", GUIDE, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", methods.split("`help(")[0]))
    public = {name for name in vars(HeadendClient) if not name.startswith("_")}
    assert named == public - {"close"}


def test_the_first_steps(site: Site) -> None:
    threads, asynchronous = EXAMPLES["The client library"]
    assert re.fullmatch(r"(Battery \d 10.0 MW\n){3}.* MW now, .* MW for an hour\n", site.run(threads))
    assert site.run(asynchronous) == "4 of 4 batteries are connected\n"


def test_follow_a_signal(site: Site) -> None:
    signal_mw = [4.0, -2.0, 1.0]
    path = site.folder / "signal.txt"
    path.write_text("".join(f"{mw}\n" for mw in signal_mw))
    [code] = EXAMPLES["Follow a signal"]
    lines = site.run(code, str(path)).splitlines()
    assert lines == [f"{mw:+.1f} MW: {mw:+.1f} by 4 batteries" for mw in signal_mw]
    with site.client() as client:
        made = list(client.dispatches(limit=3))[::-1]
    assert [(dispatch.mw, dispatch.duration_s) for dispatch in made] == [(mw, 10) for mw in signal_mw]
    first, *_, last = [parse_ms(dispatch.dispatched_at) for dispatch in made]
    assert last - first == pytest.approx(4_000, abs=1_500)


@pytest.mark.parametrize("has_pandas", [True, False])
def test_export_a_day_of_history(site: Site, has_pandas: bool) -> None:
    with site.client() as client:
        [asset] = client.assets(limit=1)
        until(lambda: len(list(client.history(asset.id))) >= 5)
        recorded = len(list(client.history(asset.id)))
    [code] = EXAMPLES["Export a day of history to pandas"]
    if has_pandas:
        pytest.importorskip("pandas")
        printed = site.run(code)
        assert re.search(r"current_mw +soc_pct", printed)
        assert re.search(r"^20\d\d-.*:00\+00:00 +-?\d+\.\d+ +\d+\.\d+", printed, re.MULTILINE)
    else:
        header, *rows = site.run(code, before="import sys\nsys.modules['pandas'] = None\n").splitlines()
        assert header.startswith("asset_id,site_id,timestamp,soc_mwhr")
        assert len(rows) >= recorded
        assert all(row.startswith(asset.id) for row in rows)


def test_an_alarm_to_a_webhook(site: Site) -> None:
    posted: SimpleQueue[dict[str, Any]] = SimpleQueue()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        [code] = EXAMPLES["An alarm to a webhook"]
        url = f"http://127.0.0.1:{server.server_port}/"
        example = subprocess.Popen([sys.executable, str(site.script(code)), url], cwd=ROOT, env=environment())
        try:
            with site.client() as client:
                # It ends before the battery can have ramped to it.
                made = client.dispatch(asset_id=next(client.assets()).id, mw=10.0, duration_s=1)
                alarm = posted.get(timeout=WITHIN_S)
                assert alarm["kind"] == "dispatch_not_tracked"
                assert made.dispatch_id in alarm["reason"]
        finally:
            example.kill()
            example.wait()
            server.shutdown()


def test_waiting_for_a_dispatch(site: Site) -> None:
    wait, follow = EXAMPLES["Waiting for a dispatch"]
    assert site.run(wait) == "the batteries follow\n"
    assert site.run(follow).startswith("tracking {")


def test_the_live_feed(site: Site) -> None:
    [code] = EXAMPLES["The live feed"]
    assert site.run(code) == "4 batteries are good\n"


def test_every_example_is_run_by_these_tests() -> None:
    sections = {heading: len(codes) for heading, codes in EXAMPLES.items() if codes}
    assert sections == {
        "The client library": 2,
        **dict.fromkeys(NAMED, 1),
        "Waiting for a dispatch": 2,
        "The live feed": 1,
    }
