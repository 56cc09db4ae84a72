"""The bundled server's files and folders below the headend's state folder."""

import os
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from trioder.store.embedded.binaries import MAJOR_VERSION, Installation
from trioder.store.interface import StoreConfigurationError

USER = "trioder"
DATABASE = "trioder"
# The kernel's limit for a socket's path is 108 bytes (104 on macOS), including the terminator.
_MAX_SOCKET_PATH_BYTES = 103
# The server's own limit is 1,024, including the longest file name in the cluster.
_MAX_DATA_PATH_BYTES = 900
# Used if TMPDIR is itself too long.
_SHORT_TEMPORARY = Path("/tmp")  # noqa: S108  # ownership and mode are checked
_SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """`<state>/postgres`: a private folder and its contents."""

    root: Path

    @classmethod
    def below(cls, state_dir: Path) -> "DataFolder":
        """Return the folder of this state folder, without creating anything.

        Raises:
            StoreConfigurationError: a server cannot work under this path.
        """
        try:
            root = state_dir.resolve() / "postgres"
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreConfigurationError(
                f"STATE_DIR {str(state_dir)!r} is no usable path: {error}"
            ) from None
        name = str(root)
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in name):
            # The server's own files have one path per line.
            raise StoreConfigurationError(f"STATE_DIR {name!r} must not have a control character in it")
        length = len(os.fsencode(root / str(MAJOR_VERSION)))
        if length > _MAX_DATA_PATH_BYTES:
            raise StoreConfigurationError(
                f"STATE_DIR is too long for the database: {length} bytes with its subfolders, "
                f"at most {_MAX_DATA_PATH_BYTES}: {name[:80]}..."
            )
        return cls(root)

    @property
    def data(self) -> Path:
        """The cluster; one per major version, since versions cannot read each other's."""
        return self.root / str(MAJOR_VERSION)

    @property
    def lock(self) -> Path:
        """Held by the headend that owns the server."""
        return self.root / "lock"

    @property
    def log(self) -> Path:
        """The server's standard error since it was started."""
        return self.root / "server.log"

    @property
    def pid_file(self) -> Path:
        """Written by the server; its last line says when it is ready."""
        return self.data / "postmaster.pid"

    @property
    def sockets(self) -> Path:
        """The folder of the server's socket: below `root`, or a temporary one if that path is unsuitable."""
        here = self.root / "run"
        name = f"trioder-{os.geteuid()}-{sha256(os.fsencode(self.root)).hexdigest()[:16]}"
        elsewhere = [folder / name for folder in (Path(tempfile.gettempdir()), _SHORT_TEMPORARY)]
        return next(filter(_may_hold_sockets, [here, *elsewhere]), here)

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return self.sockets / _SOCKET_NAME

    @property
    def socket_lock(self) -> Path:
        """Written by the server beside its socket; holds its process id, as the PID file does."""
        return self.sockets / f"{_SOCKET_NAME}.lock"

    @property
    def url(self) -> str:
        """The URL for psql and every other client."""
        # Not urlencode: libpq does not read + as a space.
        return f"postgresql:///{DATABASE}?host={quote(os.fsencode(self.sockets))}&user={USER}"

    def make(self, installation: Installation) -> None:
        """Create missing folders; existing ones are not changed.

        Raises:
            StoreConfigurationError: one cannot be created, or is not private to the server's account.
        """
        if not _may_hold_sockets(self.sockets):
            raise StoreConfigurationError(
                f"neither {self.root} nor the temporary folder {tempfile.gettempdir()} can hold the "
                f"database's socket: its path must be UTF-8 without a comma, at most "
                f"{_MAX_SOCKET_PATH_BYTES} bytes; "
                "set STATE_DIR or TMPDIR to such a folder"
            )
        owner = os.geteuid() if installation.uid is None else installation.uid
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.root, self.sockets):
                _make_private(folder, owner)
        except OSError as error:
            raise StoreConfigurationError(
                f"the database's folder cannot be made: {error.filename}: {error.strerror}; "
                "set STATE_DIR to a folder of yours"
            ) from None


def _may_hold_sockets(folder: Path) -> bool:
    path = str(folder / _SOCKET_NAME)
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        # Not UTF-8: a connection string cannot hold it.
        return False
    # libpq takes a comma as the separator of two hosts, with no way to escape it.
    return length <= _MAX_SOCKET_PATH_BYTES and "," not in path


def _make_private(folder: Path, owner: int) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if owner != os.geteuid():
            os.chown(folder, owner, owner)
    # No symbolic link: the socket's folder may be in /tmp, where anybody can create one.
    found = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
        raise StoreConfigurationError(
            f"{folder} must be a folder of user {owner} that nobody else enters (mode 0700); it is of user "
            f"{found.st_uid}, with mode {found.st_mode & 0o7777:04o}"
        )
