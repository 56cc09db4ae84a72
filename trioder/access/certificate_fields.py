"""The serial number and the validity of a certificate, read from its DER encoding.

For agents as well, and so without `cryptography`, which adds 13 MB to each process. Signatures are verified
by OpenSSL; identities are read in `access.identity`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_INTEGER: Final = 0x02
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFields:
    """Some fields of a certificate.

    Attributes:
        serial: lower-case hex without leading zeros, as the access file has it.
        not_before_s: from when it is valid; Unix time.
        not_after_s: until when.
    """

    serial: str
    not_before_s: float
    not_after_s: float


def read_certificate(der: bytes) -> CertificateFields:
    """Read a certificate (RFC 5280, 4.1).

    Raises:
        ValueError: these bytes are no certificate.
    """
    try:
        certificate, _ = _element(der, 0, _SEQUENCE)
        to_be_signed, _ = _element(certificate, 0, _SEQUENCE)
        # Version 1 has none.
        at = _element(to_be_signed, 0, _VERSION)[1] if to_be_signed[0] == _VERSION else 0
        serial, at = _element(to_be_signed, at, _INTEGER)
        _, at = _element(to_be_signed, at, _SEQUENCE)  # the signature's algorithm
        _, at = _element(to_be_signed, at, _SEQUENCE)  # the issuer
        validity, _ = _element(to_be_signed, at, _SEQUENCE)
        not_before_s, at = _time(validity, 0)
        not_after_s, _ = _time(validity, at)
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a certificate: {error}") from None
    return CertificateFields(
        serial=f"{int.from_bytes(serial):x}", not_before_s=not_before_s, not_after_s=not_after_s
    )


def _element(data: bytes, at: int, *tags: int) -> tuple[bytes, int]:
    """Return the content of the element that begins at `at`, and where the next one begins."""
    if data[at] not in tags:
        raise ValueError(f"not a certificate: tag 0x{data[at]:02x} at byte {at}")
    length, begin = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + size]), begin + size
    if begin + length > len(data):
        raise ValueError("not a certificate: its end is missing")
    return data[begin : begin + length], begin + length


def _time(data: bytes, at: int) -> tuple[float, int]:
    content, following = _element(data, at, _UTC_TIME, _GENERALIZED_TIME)
    text = content.decode("ascii")
    if data[at] == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: two digits of the year, from 1950 on.
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), following
