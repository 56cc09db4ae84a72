"""Measures what no part of the headend announces: how full a file system is, when a certificate expires."""

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from trioder.access.certificate_fields import read_certificate
from trioder.domain.text import preview

_MAX_CERTIFICATE_BYTES = 1_000_000
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPaths:
    """What is measured on the headend's own machine.

    Attributes:
        disks: a path on each file system.
        certificates: PEM files, of which the first certificate counts.
    """

    disks: Sequence[Path] = ()
    certificates: Sequence[Path] = ()


class Disk(NamedTuple):
    """A file system; `used_pct` as df has it: of what an ordinary user may use."""

    path: Path
    used_pct: float
    free_bytes: int


class Certificate(NamedTuple):
    """A certificate file; `expires_s` is Unix time, None where it cannot be read, with the reason."""

    path: Path
    expires_s: float | None
    reason: str


async def measure_disk(path: Path) -> Disk | None:
    """Measure the file system of a path; None if that fails.

    *Cancellation*: a file system that does not answer keeps its thread, and delays nothing else.
    """
    try:
        found = await trio.to_thread.run_sync(os.statvfs, path, abandon_on_cancel=True)
    except OSError:
        return None
    usable = found.f_blocks - found.f_bfree + found.f_bavail
    used_pct = 100.0 * (1 - found.f_bavail / usable) if usable else 0.0
    return Disk(path, used_pct, found.f_bavail * found.f_frsize)


async def read_expiry(path: Path) -> Certificate:
    """Read until when the first certificate of a PEM file is valid."""
    return await trio.to_thread.run_sync(_read_expiry, path, abandon_on_cancel=True)


def _read_expiry(path: Path) -> Certificate:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(_MAX_CERTIFICATE_BYTES)
        before, end, _ = text.partition(_END)
        begin = before.find("-----BEGIN CERTIFICATE-----")
        if begin < 0 or not end:
            return Certificate(path, None, "it has no certificate")
        der = ssl.PEM_cert_to_DER_cert(before[begin:] + end)
        return Certificate(path, read_certificate(der).not_after_s, "")
    except OSError as error:
        return Certificate(path, None, error.strerror or str(error))
    except ValueError as error:
        return Certificate(path, None, preview(str(error)))
