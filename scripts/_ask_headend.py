"""What scripts/run asks of the headend over REST; with Python, as a user may lack curl.

_ask_headend.py answers    exit 0 if something answers there
_ask_headend.py ready      wait until something answers
_ask_headend.py fleet      wait until the fleet is connected, a minute at most, and print the lines to try
"""

import http.client
import json
import os
import sys
import time
from typing import Any

from trioder.process.addresses import Address, parse_address

WAIT_S = 60.0
LOOK_EVERY_S = 0.25
# Each request for the fleet is a line in the headend's log.
LOOK_AT_FLEET_EVERY_S = 1.0


def get(address: Address, path: str) -> Any:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
    # A headend with configured host names responds to no others.
    host = os.environ.get("HEADEND_HTTP_HOSTS", "").split(",")[0].strip()
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def answers(address: Address) -> bool:
    try:
        get(address, "/health")
    except OSError:
        return False
    except (http.client.HTTPException, ValueError):
        pass
    return True


def wait_until_ready(address: Address) -> None:
    if address.port == 0:
        raise ValueError(f"HEADEND_HTTP_ADDR is {address}; here it needs a port that is known beforehand")
    while not answers(address):
        time.sleep(LOOK_EVERY_S)


def print_lines_to_try(address: Address) -> None:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        health = get(address, "/health")
        if health["assets_connected"] == health["assets"]:
            break
        time.sleep(LOOK_AT_FLEET_EVERY_S)
    base = "localhost:" + str(address.port) if address.host in {"127.0.0.1", "0.0.0.0"} else str(address)  # noqa: S104 - compared, not listened on
    (asset,) = get(address, "/assets?limit=1")
    body = json.dumps({"asset_id": asset["id"], "mw": round(asset["max_mw"] / 2, 3), "duration_s": 60})
    lines = [
        f"curl -s {base}/health",
        f"curl -s '{base}/assets?limit=3'",
        f"curl -s {base}/sites",
        f"curl -s {base}/telemetry/{asset['id']}",
        f"curl -s '{base}/telemetry/{asset['id']}/history?limit=3'",
        f"curl -s {base}/dispatch -H 'content-type: application/json' -d '{body}'",
        f"curl -s '{base}/dispatch?limit=1'",
        f"curl -s {base}/fleet",
        f"curl -s {base}/agents",
        f"curl -s {base}/metrics",
    ]
    # The cursor may be behind a live line of the launcher's.
    start = "\r\x1b[K" if sys.stdout.isatty() else ""
    state = f"{health['assets_connected']} of {health['assets']} batteries are connected"
    print(f"{start}\n{state}. Try, in another terminal:\n\n  " + "\n  ".join(lines) + "\n", flush=True)
    print("Ctrl-C stops everything.\n", flush=True)


def main() -> int:
    mode = sys.argv[1]
    address = parse_address(os.environ["HEADEND_HTTP_ADDR"])
    if mode == "answers":
        return 0 if answers(address) else 1
    if mode == "ready":
        wait_until_ready(address)
    else:
        print_lines_to_try(address)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        # Whether the headend runs is checked, and reported, elsewhere.
        sys.exit(f"trioder: the headend could not be asked: {error}")
