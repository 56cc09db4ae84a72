"""What a benchmark asks a headend over REST: how many assets are fresh, what is committed. Synchronous."""

import http.client
import json

from trioder.process.addresses import Address

_ANSWER_WITHIN_S = 60.0


def fresh_assets(http_address: Address) -> int:
    """Return how many assets of the fleet have a sample of the quality `good`."""
    return int(json.loads(_get(http_address, "/fleet"))["by_quality"]["good"])


def rows_committed(http_address: Address) -> int:
    """Return how many rows the headend has committed since its start."""
    name = "trioder_store_rows_committed_total "
    for line in _get(http_address, "/metrics").decode().splitlines():
        if line.startswith(name):
            return int(float(line.removeprefix(name)))
    raise RuntimeError(f"/metrics does not tell {name}")


def _get(http_address: Address, path: str) -> bytes:
    connection = http.client.HTTPConnection(http_address.host, http_address.port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"GET {path} answered {answer.status}")
    return body
