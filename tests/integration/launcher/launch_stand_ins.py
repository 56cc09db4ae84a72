"""The launcher in a process of its own, over stand-ins. Usage: python launch_stand_ins.py MODE FOLDER."""

import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.unit.launcher.fleets import shards_of
from trioder.launcher import process
from trioder.launcher.restarts import RestartLimits
from trioder.launcher.run import run_launcher
from trioder.launcher.shards import LaunchSettings
from trioder.process.logs import configure_logging

MODE, FOLDER = sys.argv[1:]
SETTINGS = LaunchSettings(
    headend="127.0.0.1:1",
    command=(sys.executable, str(Path(__file__).with_name("stand_in.py")), MODE, FOLDER),
    limits=RestartLimits(first_delay_s=0.02, longest_delay_s=0.02),
)
if MODE == "hangs":
    # Instead of 8 s: whoever outlives it is killed.
    process.STOP_GRACE_S = 1.0
configure_logging(level="info", format="json")
sys.exit(trio.run(run_launcher, shards_of(assets=6, size=2), SETTINGS))
