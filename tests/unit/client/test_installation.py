"""`pip install trioder[client]` is enough: the client imports nothing that needs the extra `server`."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[3]
# Refuses what is neither Python's own nor allowed, as if it were not installed.
BLOCKER = """
import sys
import sysconfig

OWN = {*sys.stdlib_module_names, sysconfig._get_sysconfigdata_name()}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in OWN and top not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
        return None

sys.meta_path.insert(0, Refuse())
"""


def requirements_of(distribution: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in metadata.requires(distribution) or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}
        ):
            yield requirement.name.lower().replace("_", "-"), frozenset(requirement.extras)


def closure(distribution: str, extras: frozenset[str]) -> set[str]:
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [(distribution, extras)]
    while pending:
        each = pending.pop()
        if each not in seen:
            seen.add(each)
            pending.extend(requirements_of(*each))
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def allowed() -> set[str]:
    installed = closure("trioder", frozenset({"client"}))
    modules = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if any(each.lower().replace("_", "-") in installed for each in distributions)
    }
    return modules | {"trioder"}


def run(code: str, allowed: set[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"ALLOWED = {sorted(allowed)!r}\n{BLOCKER}\n{code}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr


def test_the_extra_installs_no_server(allowed: set[str]) -> None:
    server = {
        "cryptography",
        "google",
        "h2",
        "hypercorn",
        "joserfc",
        "psycopg",
        "purerpc",
        "quart",
        "structlog",
        "trio",
        "trio_asyncio",
        "yaml",
    }
    assert not server & allowed


def test_the_shared_definitions_import(allowed: set[str]) -> None:
    run(
        """
import pkgutil
from importlib import import_module
from trioder import domain, schemas
import trioder.process.rfc3339
for package in (schemas, domain):
    for module in pkgutil.iter_modules(package.__path__):
        # The server's own: dateutil.
        if module.name != "recurrence":
            import_module(f"{package.__name__}.{module.name}")
""",
        allowed,
    )


def test_both_clients_work(allowed: set[str]) -> None:
    run(
        """
import asyncio, json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from trioder.client import AsyncHeadendClient, CompleteEvent, HeadendClient

WHOAMI = {"name": "a", "kind": "open", "role": "admin", "tenant": "*", "sites": None, "expires_at": None}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        if self.path == "/stream":
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b'event: complete\\ndata: {"at": ""}\\n\\n')
        else:
            self.end_headers()
            self.wfile.write(json.dumps(WHOAMI).encode())

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"

with HeadendClient(url) as client, client.stream() as feed:
    assert client.whoami().role == "admin"
    assert next(feed) == CompleteEvent(at="")

async def main():
    async with AsyncHeadendClient(url) as client, client.stream() as feed:
        assert (await client.whoami()).role == "admin"
        assert await anext(feed) == CompleteEvent(at="")

asyncio.run(main())
""",
        allowed,
    )


def test_the_command_line_works(allowed: set[str]) -> None:
    run(
        """
from trioder.cli.main import main
for arguments in (["--help"], ["fleet", "--help"], ["dispatch", "--help"], ["watch", "--help"]):
    sys.argv = ["trioder", *arguments]
    try:
        main()
    except SystemExit as exit:
        assert not exit.code, (arguments, exit.code)
""",
        allowed,
    )
