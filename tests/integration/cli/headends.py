"""A headend with agents, as processes, and the command line as a user runs it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from trioder.cli.main import run

ROOT = Path(__file__).parents[3]
# Generous: other tests run beside these.
WITHIN_S = 60.0

GOOD = "Agua Fria AFSB1"
GOOD_ID = "ce004c89-74dc-590e-b279-cce2c6364bc3"
SITE = "Agua Fria"
LARGE_SITE = "Dynegy Moss Landing Power Plant Hybrid"
# Its device flags its values, and its agent rejects setpoints.
FAULTY = "El Centro Hybrid BESS"
# No agent drives it.
AWAY = "Pebbly Beach Generating Station Hybrid NASB1"

_SCENARIO = """
name: one battery is faulty
actions:
  - {do: flag_bad, assets: {names: ["El Centro*"]}, at_s: 0}
  - {do: reject, assets: {names: ["El Centro*"]}, at_s: 0}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trioder:
    """Runs `trioder` with a home of its own."""

    url: str
    home: Path

    def env(self, **more: str) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TRIODER_", "XDG_"))
        }
        return {**kept, "HOME": str(self.home), "TRIODER_URL": self.url, "TZ": "UTC", **more}

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        """Run a command within this process, which takes a tenth of the time."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with (
            patch.dict(os.environ, self.env(**(env or {})), clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                code = run(arguments)
            except SystemExit as ended:
                # Of completion, by click.
                code = int(ended.code or 0)
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        return Result(code=code, out=texts[0], err=texts[1])

    def process(
        self, *arguments: str, env: Mapping[str, str] | None = None, within_s: float = WITHIN_S
    ) -> Result:
        """Run a command as a process of its own."""
        ended = subprocess.run(
            [sys.executable, "-m", "trioder.cli", *arguments],
            env=self.env(**(env or {})),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        return Result(code=ended.returncode, out=ended.stdout, err=ended.stderr)

    def shell(self, script: str, folder: Path, env: Mapping[str, str] | None = None) -> Result:
        """Run a script of bash in a folder, with `trioder` as it is installed."""
        (folder / "trioder").write_text(f'#!/bin/sh\nexec {sys.executable} -m trioder.cli "$@"\n')
        (folder / "trioder").chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            ["bash", "-c", script],
            env=self.env(PATH=path, PYTHONPATH=str(ROOT), **(env or {})),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        return Result(code=ended.returncode, out=ended.stdout, err=ended.stderr)

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "trioder.cli", *arguments], env=self.env(), cwd=ROOT, **options
        )


def write_fleet(folder: Path) -> tuple[Path, Path, Path]:
    """Write the fleet of the headend, that of the agents, which lacks `AWAY`, and their scenario."""
    document = yaml.safe_load((ROOT / "assets.yaml").read_text())
    names = {GOOD, FAULTY, AWAY, f"{LARGE_SITE} BAT1", f"{LARGE_SITE} BAT2"}
    assets = [asset for asset in document["assets"] if asset["name"] in names]
    assert len(assets) == len(names)
    ids = {asset["site_id"] for asset in assets}
    sites = [site for site in document["sites"] if site["id"] in ids]
    paths = folder / "assets.json", folder / "agents.json", folder / "scenario.yaml"
    paths[0].write_text(json.dumps({"sites": sites, "assets": assets}))
    paths[1].write_text(
        json.dumps({"sites": sites, "assets": [asset for asset in assets if asset["name"] != AWAY]})
    )
    paths[2].write_text(_SCENARIO)
    return paths


@contextmanager
def program(name: str, env: Mapping[str, str], *, ready: str) -> Iterator[dict[str, Any]]:
    """Run `trioder headend` or `launcher`; yield the log line that says it is ready, and stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trioder.cli", name],
        env={**os.environ, "LOG_FORMAT": "json", **env},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    lines: list[str] = []
    found: list[dict[str, Any]] = []
    is_ready = threading.Event()

    def follow() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if not is_ready.is_set() and re.search(ready, line):
                found.append(json.loads(line))
                is_ready.set()
        is_ready.set()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        assert is_ready.wait(WITHIN_S), "".join(lines)
        assert found, "".join(lines)
        yield {**found[0], "pid": process.pid}
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WITHIN_S)
        finally:
            process.kill()
        thread.join()
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def running_headend(
    folder: Path,
    *,
    database: str,
    http_addr: str = "127.0.0.1:0",
    grpc_addr: str = "127.0.0.1:0",
    env: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Run a headend with the fleet of `write_fleet` in this folder."""
    variables = {
        "ASSETS_PATH": str(folder / "assets.json"),
        "STATE_DIR": str(folder / "headend"),
        "HEADEND_HTTP_ADDR": http_addr,
        "HEADEND_GRPC_ADDR": grpc_addr,
        "DATABASE_URL": database,
        **(env or {}),
    }
    with program("headend", variables, ready="headend ready") as line:
        yield line


@contextmanager
def running_agents(folder: Path, grpc_addr: str) -> Iterator[None]:
    """Run the agents, with samples twice a second."""
    env = {
        "ASSETS_PATH": str(folder / "agents.json"),
        "STATE_DIR": str(folder / "agents"),
        "HEADEND_GRPC": grpc_addr,
        "TICK_S": "0.5",
        "SCENARIO": str(folder / "scenario.yaml"),
    }
    with program("launcher", env, ready="fleet connected"):
        yield


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.1)
