"""The cluster on disk: made once, beside its place, and moved there whole."""

import shutil
from pathlib import Path

import structlog
import trio

from trioder.store.embedded.binaries import Installation
from trioder.store.embedded.environment import server_environment
from trioder.store.embedded.layout import DATABASE, USER, DataFolder
from trioder.store.interface import StoreConfigurationError

log = structlog.stdlib.get_logger(__name__)


async def make_cluster(folder: DataFolder, installation: Installation) -> None:
    """Make the cluster unless it is there; one that was half made before is made anew.

    Raises:
        StoreConfigurationError: it cannot be made; the text is the server's own.
    """
    if (folder.data / "PG_VERSION").exists():
        return
    log.info("making the database", path=str(folder.data))
    half_made = folder.data.with_name(folder.data.name + ".new")
    if half_made.exists():
        await trio.to_thread.run_sync(shutil.rmtree, half_made)
    await _run(
        installation.command(
            "initdb",
            f"--pgdata={half_made}",
            f"--username={USER}",
            "--auth=trust",  # the socket's folder is the lock
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ),
        stdin=b"",
        folder=folder,
        installation=installation,
    )
    single = installation.command("postgres", "--single", "-D", str(half_made), "postgres")
    await _run(
        single, stdin=b"CREATE DATABASE %b\n" % DATABASE.encode(), folder=folder, installation=installation
    )
    _move(half_made, folder.data)


def _move(half_made: Path, place: Path) -> None:
    try:
        half_made.rename(place)
    except OSError as error:
        raise StoreConfigurationError(
            f"{place} is no database of ours and in its way: {error.strerror}"
        ) from None


async def _run(command: list[str], *, stdin: bytes, folder: DataFolder, installation: Installation) -> None:
    done = await trio.run_process(
        command,
        check=False,
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        cwd=folder.root,
        env=server_environment(),
        **installation.account,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise StoreConfigurationError(f"no database could be made in {folder.root}: {' '.join(said[-3:])}")
