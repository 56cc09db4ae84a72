"""Real PostgreSQL servers for the tests: a shared one, and temporary databases and logins on it."""

import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import trio
import trio_asyncio

from tests.ports import free_port
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.process.wall_time import WallClock
from trioder.store.embedded.binaries import find_installation
from trioder.store.embedded.server import open_embedded_server
from trioder.store.postgres import open_postgres_store
from trioder.store.postgres.store import PostgresStore

SITE = Site(id="3f1d2c4b-0000-4000-8000-000000000002", name="Site", location="Somewhere")


def asset(number: int, capacity_mwhr: float = 40.0) -> Asset:
    return Asset(
        id=f"3f1d2c4b-0000-4000-8000-{number:012}",
        name=f"Battery {number}",
        site_id=SITE.id,
        site_name=SITE.name,
        capacity_mwhr=capacity_mwhr,
        max_mw=10.0,
        min_mw=-10.0,
        charge_efficiency=0.95,
        discharge_efficiency=0.95,
        ramp_rate_mw_per_min=10.0,
    )


# Asset 1 is the contract tests' own.
FLEET = Fleet(sites=(SITE,), assets=tuple(asset(number) for number in range(1, 41)))


@contextmanager
def run_server(state_dir: Path) -> Iterator[str]:
    """Run an embedded server beside the test, on a Trio of its own, and yield its URL."""
    urls: list[str] = []
    stop = trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []
    ready = threading.Event()

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with open_embedded_server(state_dir) as url:
            urls.append(url)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            trio.run(serve)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.wait()
        yield urls[0]
    finally:
        if urls:
            tokens[0].run_sync_soon(stop.set)
        thread.join()


@contextmanager
def own_database(server_url: str) -> Iterator[str]:
    """Make an empty database on the server, and drop it afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    # Copies files instead of writing each of their pages to the log: a third of the work.
    run_sql(server_url, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    try:
        yield in_database(server_url, name)
    finally:
        run_sql(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def in_database(url: str, name: str) -> str:
    return url.replace("/trioder?", f"/{name}?", 1)


def run_sql(url: str, statement: str, *parameters: object) -> list[tuple]:
    """Run one statement, apart from the code under test."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(statement.encode(), parameters or None)
        return found.fetchall() if found.description else []


@asynccontextmanager
async def open_store_on(
    url: str,
    *,
    fleet: Fleet = FLEET,
    wall: WallClock | None = None,
    retention_days: int = 0,
    records_retention_days: int = 0,
) -> AsyncIterator[PostgresStore]:
    async with (
        trio_asyncio.open_loop(),
        open_postgres_store(
            url,
            fleet=fleet,
            wall=wall or WallClock.starting_now(),
            retention_days=retention_days,
            records_retention_days=records_retention_days,
        ) as store,
    ):
        yield store


@contextmanager
def run_password_server(password: str) -> Iterator[str]:
    """Run a server on loopback that asks for a password (SCRAM), and yield the URL of its superuser."""
    installation = find_installation()
    folder = Path(tempfile.mkdtemp(prefix="trioder-test-"))
    secret = folder / "secret"
    secret.write_text(password)
    try:
        subprocess.run(
            installation.command(
                "initdb",
                "-D",
                f"{folder}/data",
                "-U",
                "boss",
                "-A",
                "scram-sha-256",
                f"--pwfile={secret}",
                "--no-sync",
                "--locale=C",
                "--encoding=UTF8",
            ),
            check=True,
            capture_output=True,
            cwd=folder,
            **installation.account,
        )
        port = free_port()
        server = subprocess.Popen(
            installation.command(
                "postgres",
                "-D",
                f"{folder}/data",
                "-p",
                str(port),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **installation.account,
        )
        try:
            url = (
                f"postgresql://boss:{password}@127.0.0.1:{port}/postgres?{urlencode({'connect_timeout': 5})}"
            )
            until_answers(url)
            yield url
        finally:
            server.send_signal(2)
            server.wait(20)
    finally:
        shutil.rmtree(folder)


def until_answers(url: str) -> None:
    for _ in range(500):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{url} does not answer")
