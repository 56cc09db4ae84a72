"""Follow a fleet, also across restarts of its headend: python examples/follow_fleet.py [URL]."""
# ruff: noqa: INP001, S310, T201

import http.client
import json
import os
import sys
import time
import urllib.request

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3001/stream?topics=fleet"
headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"} if "TOKEN" in os.environ else {}
while True:
    try:
        # Something comes every 2 s: after 10 s without, the connection is dead.
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as stream:
            event = {}
            for line in stream:
                if text := line.decode().rstrip("\n"):
                    event.update([text.split(": ", 1)])
                    continue
                headers["Last-Event-ID"] = event.get("id", headers.get("Last-Event-ID", ""))
                if event.get("event") in {"begin", "fleet", "end"}:
                    print(event["event"], json.loads(event["data"]), flush=True)
                event = {}
    except (OSError, http.client.HTTPException) as error:
        print("lost:", error, flush=True)
    time.sleep(2)
