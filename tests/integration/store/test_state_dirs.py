"""STATE_DIRs of every spelling, and PG* variables meant for other servers: the embedded database works."""

import os
import sys
from pathlib import Path

import pytest
import trio
import trio_asyncio

from tests.integration.store.servers import FLEET, open_store_on, run_sql
from trioder.process.wall_time import WallClock
from trioder.store.embedded.layout import DataFolder
from trioder.store.embedded.server import open_embedded_server
from trioder.store.interface import StoreConfigurationError
from trioder.store.open import open_store

ROOT = Path(__file__).parents[3]
PG_VARIABLES = {
    "PGSERVICE": "office",
    "PGSERVICEFILE": "/nowhere/services",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGHOST": "192.0.2.1",
    "PGPORT": "6000",
    "PGUSER": "somebody",
    "PGDATABASE": "elsewhere",
    "PGPASSWORD": "secret",
    "PGSSLMODE": "no such mode",
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "German",
    "PGDATA": "/nowhere",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGTARGETSESSIONATTRS": "standby",
    "PG_COLOR": "always",
}


async def pasted_into_a_shell(state_dir: Path) -> str:
    """Run the line that `python -m trioder.store url` prints."""
    command = [sys.executable, "-m", "trioder.store", "url", "--state-dir", str(state_dir)]
    printed = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True)
    line = printed.stderr.decode(errors="surrogateescape").strip()
    shell = ["sh", "-c", f"{line} -Atc 'SELECT current_user'"]
    return (await trio.run_process(shell, capture_stdout=True)).stdout.decode()


@pytest.mark.parametrize(
    "name",
    [
        "my data 100%25 what?#a@b",
        'it\'s "q" back\\slash $HOME `id` ;&|*',
        "Straße 電池",
        "a,b",
        os.fsdecode(b"not utf-8 \xff"),
        "/".join(["long" * 50] * 4),
    ],
)
async def test_any_folder_will_do(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "office")
    state_dir = tmp_path / name
    folder = DataFolder.below(state_dir)
    async with (
        trio_asyncio.open_loop(),
        open_store("embedded", state_dir=state_dir, fleet=FLEET, wall=WallClock.starting_now()) as store,
    ):
        assert (store.health, store.health_reason) == ("ok", "")
        assert run_sql(folder.url, "SELECT count(*) FROM sites") == [(1,)]
        assert await pasted_into_a_shell(state_dir) == "trioder\n"
    if folder.sockets.parent != folder.root:
        folder.sockets.rmdir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("new\nline", "control character"),
        ("bell\x07", "control character"),
        ("/".join(["x" * 200] * 5), "too long"),
    ],
)
async def test_a_folder_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(StoreConfigurationError, match=f"STATE_DIR.*{reason}"):
        async with open_embedded_server(tmp_path / name):
            pass
    assert not list(tmp_path.iterdir())


async def test_a_temporary_folder_that_is_no_way_out_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a,b"))
    folder = DataFolder.below(tmp_path / "c,d")
    assert folder.sockets.parent == Path("/tmp")
    monkeypatch.setattr("trioder.store.embedded.layout._SHORT_TEMPORARY", tmp_path / "e,f")
    with pytest.raises(StoreConfigurationError, match="set STATE_DIR or TMPDIR"):
        async with open_embedded_server(tmp_path / "c,d"):
            pass


async def test_variables_for_other_servers_do_not_reach_the_embedded_one(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    passwords = tmp_path / "pgpass"
    passwords.write_text("*:*:*:*:secret\n")
    passwords.chmod(0o644)  # libpq warns about it whenever it reads it
    for name, value in {**PG_VARIABLES, "PGPASSFILE": str(passwords), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    in_home = tmp_path / ".pgpass"
    in_home.write_text(passwords.read_text())
    in_home.chmod(0o644)
    async with (
        trio_asyncio.open_loop(),
        open_store("embedded", state_dir=state_dir, fleet=FLEET, wall=WallClock.starting_now()) as store,
    ):
        assert (store.health, store.health_reason) == ("ok", "")
        await store.dispatches(limit=1)
        assert "password file" not in capfd.readouterr().err
        url = DataFolder.below(state_dir).url
        assert run_sql(url, "SHOW DateStyle") == [("ISO, MDY",)]
        assert run_sql(url, "SHOW port") == [("5432",)]
        assert await pasted_into_a_shell(state_dir) == "trioder\n"
    # They are the user's, and are there again.
    assert {name: os.environ[name] for name in PG_VARIABLES} == PG_VARIABLES


async def test_for_a_server_of_the_users_own_libpqs_rules_hold(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Formats are the headend's own business; whom to connect to is not.
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    async with open_store_on(database_url) as store:
        assert store.health == "ok"
        assert await store.sessions(limit=1) == []
    services = tmp_path / "services"
    services.write_text("[office]\ndbname=no_such_database\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    url = "postgresql://?service=office&" + database_url.partition("?")[2]
    async with open_store_on(url) as store:
        assert 'database "no_such_database" does not exist' in store.health_reason
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    async with open_store_on(database_url) as store:
        assert "read-only transaction" in store.health_reason
