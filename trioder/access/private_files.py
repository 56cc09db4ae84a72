"""Private files: written as a whole, for their owner alone; and whether others can read one."""

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

log = structlog.stdlib.get_logger(__name__)

# Of a file that is to replace the one beside it.
NEW_SUFFIX: Final = ".new"


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file as a whole: a new one, on disk before it takes the name; the caller holds the lock.

    Raises:
        OSError: it cannot be written, and names the file; a file that was there is still there.
    """
    put_in_place(write_beside(path, data, mode=mode), path)


def write_beside(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    """Write what is to replace a file, on disk, and return its path; for `put_in_place`.

    Raises:
        OSError: it cannot be written, and names the file; nothing is left of it.
    """
    new = path.with_name(path.name + NEW_SUFFIX)
    # A killed process may have left it, with any mode.
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            if os.geteuid() == 0:
                # Run by root, for a headend of another user.
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        # Of a full disk it would keep a part.
        new.unlink(missing_ok=True)
        # What a write raises has no name.
        raise OSError(error.errno, error.strerror, str(path)) from None
    return new


def put_in_place(new: Path, path: Path) -> None:
    """Replace a file by a new one beside it.

    Raises:
        OSError: it cannot be replaced.
    """
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_pair(key: Path, key_data: bytes, certificate: Path, certificate_data: bytes) -> None:
    """Replace a private key and its certificate.

    Raises:
        OSError: they cannot be written; both are as they were, or the key alone is the new one.
    """
    new_key = write_beside(key, key_data)
    # Both, before one is replaced: a full disk must not leave a key without its certificate.
    try:
        new_certificate = write_beside(certificate, certificate_data, mode=0o644)
    except OSError:
        new_key.unlink()
        raise
    put_in_place(new_key, key)
    put_in_place(new_certificate, certificate)


def warn_of_exposed(paths: Iterable[Path]) -> None:
    """Log a warning for each private file that others can read; for the start of a program."""
    for path in dict.fromkeys(paths):
        reason = exposure(path)
        if reason is not None:
            log.warning("a private file can be read by others", file=str(path), reason=reason)


def exposure(path: Path) -> str | None:
    """Say who else can use a private file, and what to do; None if nobody can, or it cannot be examined.

    A group may read the file of root where the program runs as another user: so keys are given to a service.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    others = stat.S_IRWXG | stat.S_IRWXO
    if status.st_uid == 0 and os.geteuid() != 0:
        others &= ~stat.S_IRGRP
    if not status.st_mode & others:
        return None
    mode = stat.S_IMODE(status.st_mode)
    return f"its mode is {mode:04o}; run: chmod 600 {shlex.quote(str(path))}"
