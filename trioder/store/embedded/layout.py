"""Where the bundled server keeps what it keeps, below the headend's state folder."""

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
# The kernel's limit for a socket's path is 108 bytes (104 on macOS), with its end mark.
_MAX_SOCKET_PATH_BYTES = 103
# The server's own limit is 1,024, with the longest name of a file in the cluster.
_MAX_DATA_PATH_BYTES = 900
# For a TMPDIR that is itself too long.
_SHORT_TEMPORARY = Path("/tmp")  # noqa: S108  # what is made in it is checked to be ours
_SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """`<state>/postgres`: one folder that nobody else enters, and what lies in it."""

    root: Path

    @classmethod
    def below(cls, state_dir: Path) -> "DataFolder":
        """Return the folder that belongs to this state folder; nothing is made yet.

        Raises:
            StoreConfigurationError: no server can work in a folder of this name.
        """
        try:
            root = state_dir.resolve() / "postgres"
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreConfigurationError(
                f"STATE_DIR {str(state_dir)!r} is no usable path: {error}"
            ) from None
        name = str(root)
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in name):
            # The server's own files have a line a path.
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
        """The cluster; one a major version, which cannot read each other's."""
        return self.root / str(MAJOR_VERSION)

    @property
    def lock(self) -> Path:
        """Held by the headend that owns the server."""
        return self.root / "lock"

    @property
    def log(self) -> Path:
        """What the server wrote on its standard error since it was started."""
        return self.root / "server.log"

    @property
    def pid_file(self) -> Path:
        """Written by the server; its last line tells when it is ready."""
        return self.data / "postmaster.pid"

    @property
    def sockets(self) -> Path:
        """The folder of the server's socket: a temporary folder has it where none can be had here."""
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
        """Written by the server beside its socket: names its process, as the PID file does."""
        return self.sockets / f"{_SOCKET_NAME}.lock"

    @property
    def url(self) -> str:
        """How psql and every other client reach the server."""
        # Not urlencode: libpq does not read + as a space.
        return f"postgresql:///{DATABASE}?host={quote(os.fsencode(self.sockets))}&user={USER}"

    def make(self, installation: Installation) -> None:
        """Make the folders that are not there yet; of one that is there nothing is changed.

        Raises:
            StoreConfigurationError: one cannot be made, or is not ours to use.
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
                _make_own(folder, owner)
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
        # No text: a connection string cannot hold it.
        return False
    # libpq takes what stands on either side of a comma for two hosts, and knows no way to escape it.
    return length <= _MAX_SOCKET_PATH_BYTES and "," not in path


def _make_own(folder: Path, owner: int) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if owner != os.geteuid():
            os.chown(folder, owner, owner)
    # Not through a link: the folder of the socket may have to lie in /tmp, where anybody may put one.
    found = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
        raise StoreConfigurationError(
            f"{folder} must be a folder of user {owner} that nobody else enters (mode 0700); it is of user "
            f"{found.st_uid}, with mode {found.st_mode & 0o7777:04o}"
        )
