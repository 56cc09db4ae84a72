"""A stand-in for the agent: a real process that reads its shard and then behaves as its argument says.

Usage: python stand_in.py MODE [FOLDER]. It leaves a file named after its process id in FOLDER.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:  # noqa: C901, PLR0912 - one branch a mode
    mode = sys.argv[1]
    if len(sys.argv) > 2:
        # Renamed into place, so that a reader never sees it half written.
        (Path(sys.argv[2]) / f"new-{os.getpid()}").write_text(os.environ.get("LOG_LEVEL", ""))
        (Path(sys.argv[2]) / f"new-{os.getpid()}").rename(Path(sys.argv[2]) / f"pid-{os.getpid()}")
    if mode == "dies-before-reading":
        sys.exit(3)
    if mode == "dies-while-reading":
        sys.stdin.buffer.read(100_000)
        sys.exit(3)
    if mode in {"hangs", "deaf"}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "writes-when-stopped":

        def write_and_end(number: int, frame: object) -> None:
            for line in range(5000):
                complain(f"still writing {line}")
            complain("the very end")
            os._exit(0)

        signal.signal(signal.SIGTERM, write_and_end)
    shard = json.loads(sys.stdin.readline())
    assets = len(shard["assets"])
    mended = mode != "first-crashes" or (Path(sys.argv[2]) / "mended").exists()
    if not mended and shard["agent_id"].startswith("shard-1of"):
        sys.exit(1)
    if mode == "refuses-configuration":
        complain("MAX_MW is -3; it must be above 0")
        sys.exit(2)
    if mode == "crashes":
        complain("Traceback: the stand-in is broken")
        os.abort()
    if mode == "crashes-once" and len(list(Path(sys.argv[2]).glob("pid-*"))) == 1:
        sys.exit(1)
    if mode == "garbage":
        for number in range(100):
            say(f"garbage {number}")
        sys.stdout.buffer.write(b"\xff\x00" * 500_000 + b"\n")
    say(json.dumps({"state": "connected", "assets": assets}))
    while sys.stdin.read(1):
        pass
    if mode == "hangs":
        time.sleep(600)


main()
