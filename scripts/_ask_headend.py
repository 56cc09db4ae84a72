"""What scripts/run asks of the headend over REST; with Python, as a user may lack curl.

_ask_headend.py answers    exit 0 if something answers there
_ask_headend.py ready      wait until something answers
_ask_headend.py fleet      wait until the fleet is connected, a minute at most, and print the lines to try
"""

import http.client
import json
import os
import shlex
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from trioder.process.addresses import Address, parse_address

WAIT_S = 60.0
LOOK_EVERY_S = 0.25
# Each request for the fleet is a line in the headend's log.
LOOK_AT_FLEET_EVERY_S = 1.0
ANY_ADDRESS = {"127.0.0.1", "0.0.0.0", "::"}  # noqa: S104 - compared, not listened on


def access_dir() -> Path:
    return Path(os.environ.get("ACCESS_DIR") or Path(os.environ.get("STATE_DIR") or "var") / "access")


def connect(address: Address) -> http.client.HTTPConnection:
    certificate = os.environ.get("HEADEND_HTTP_TLS_CERT")
    if not certificate:
        return http.client.HTTPConnection(address.host, address.port, timeout=5)
    # Exactly the certificate that the headend was given, whatever its CA and its names are.
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return http.client.HTTPSConnection(address.host, address.port, timeout=5, context=context)


def get(address: Address, path: str, *, token: str = "") -> Any:
    """Return what is at the path; None if a token is needed."""
    connection = connect(address)
    # A headend with configured host names responds to no others.
    host = os.environ.get("HEADEND_HTTP_HOSTS", "").split(",")[0].strip()
    headers = {"Host": host} if host else {}
    try:
        connection.request("GET", path, headers=headers | ({"Authorization": token} if token else {}))
        response = connection.getresponse()
        return json.loads(response.read()) if response.status != http.HTTPStatus.UNAUTHORIZED else None
    finally:
        connection.close()


def answers(address: Address) -> bool:
    try:
        get(address, "/health")
    except ssl.SSLError:
        pass
    except OSError:
        return False
    except (http.client.HTTPException, ValueError):
        pass
    return True


def wait_until_ready(address: Address) -> None:
    if address.port == 0:
        raise ValueError(f"HEADEND_HTTP_ADDR is {address}; here it needs a port that is known beforehand")
    console = os.environ.get("CONSOLE_HTTP_ADDR", "none")
    if console != "none" and parse_address(console).port == 0:
        raise ValueError(f"CONSOLE_HTTP_ADDR is {console}; here it needs a port that is known beforehand")
    while not answers(address):
        time.sleep(LOOK_EVERY_S)


class Curl:
    """Lines for a shell, with the CA and the tokens that they need."""

    def __init__(self, address: Address, *, tokens: bool) -> None:
        certificate = os.environ.get("HEADEND_HTTP_TLS_CERT")
        host = "localhost:" + str(address.port) if address.host in ANY_ADDRESS else str(address)
        self._base = f"https://{host}" if certificate else host
        self._command = "curl -s"
        if certificate and access_dir() in Path(certificate).parents:
            self._command += f" --cacert {shlex.quote(str(access_dir() / 'ca.crt'))}"
        self._tokens = tokens

    def line(self, path: str, *, role: str = "viewer", data: str = "") -> str:
        parts = [self._command]
        if self._tokens:
            file = shlex.quote(str(token_file(role)))
            parts.append(f'-H "Authorization: Bearer $(cat {file})"')
        url = f"{self._base}{path}"
        parts.append(f"'{url}'" if "?" in url else url)
        if data:
            parts.append(f"-H 'content-type: application/json' -d '{data}'")
        return " ".join(parts)


def token_file(role: str) -> Path:
    return access_dir() / "tokens" / role


def read_token() -> str:
    """Return the viewer's token of scripts/run --secure; empty if there is none."""
    try:
        return f"Bearer {token_file('viewer').read_text().strip()}"
    except FileNotFoundError:
        return ""


def console_lines(token: str) -> list[str]:
    """Return where the console is, and how to log in; nothing if there is none."""
    text = os.environ.get("CONSOLE_HTTP_ADDR", "none")
    if text == "none":
        return []
    address = parse_address(text)
    host = "localhost:" + str(address.port) if address.host in ANY_ADDRESS else str(address)
    certificate = os.environ.get("CONSOLE_TLS_CERT")
    lines = [f"Console: {'https' if certificate else 'http'}://{host}"]
    if token:
        lines.append(f"  log in with the token in {token_file('operator')} (or viewer, or admin)")
    if certificate and access_dir() in Path(certificate).parents:
        lines.append(f"  browsers trust it once {access_dir() / 'ca.crt'} is among their authorities")
    return [*lines, ""]


def print_lines_to_try(address: Address) -> None:
    token = read_token()
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        health = get(address, "/health", token=token)
        # Without a token it says only whether the headend is well.
        if health is None or health.get("assets_connected") == health.get("assets"):
            break
        time.sleep(LOOK_AT_FLEET_EVERY_S)
    # The cursor may be behind a live line of the launcher's.
    start = "\r\x1b[K" if sys.stdout.isatty() else ""
    if health is None or "assets" not in health:
        lines = "The headend is up. Requests need a token: python -m trioder.access token create"
    else:
        state = f"{health['assets_connected']} of {health['assets']} batteries are connected"
        lines = f"{state}. Try, in another terminal:\n\n  " + "\n  ".join(lines_to_try(address, token))
    lines = "\n".join([*console_lines(token), lines])
    print(f"{start}\n{lines}\n", flush=True)
    print("Ctrl-C stops everything.\n", flush=True)


def lines_to_try(address: Address, token: str) -> list[str]:
    # A request that is refused would be in the audit.
    tokens = "assets" not in get(address, "/health")
    (asset,) = get(address, "/assets?limit=1", token=token)
    curl = Curl(address, tokens=tokens)
    body = json.dumps({"asset_id": asset["id"], "mw": round(asset["max_mw"] / 2, 3), "duration_s": 60})
    lines = [
        curl.line("/health"),
        curl.line("/assets?limit=3"),
        curl.line("/sites"),
        curl.line(f"/telemetry/{asset['id']}"),
        curl.line(f"/telemetry/{asset['id']}/history?limit=3"),
        curl.line("/dispatch", role="operator", data=body),
        curl.line("/dispatch?limit=1"),
        curl.line("/fleet"),
        curl.line("/agents"),
        curl.line("/metrics"),
    ]
    if tokens:
        lines += [curl.line("/whoami", role="operator"), curl.line("/audit?limit=3", role="admin")]
    return lines


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
