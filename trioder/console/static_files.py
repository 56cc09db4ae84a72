"""The files of the page: from disk, kept in memory as long as they do not change there."""

import zlib
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from trioder.api.representations import Wishes, not_modified, prefers_gzip
from trioder.console.exchange import Exchange, ExchangeError
from trioder.domain.text import preview

STATIC: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"

_TEXT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
_OTHER_TYPES: Final = {".ico": "image/x-icon", ".png": "image/png", ".webp": "image/webp"}
_UNKNOWN_TYPE: Final = "application/octet-stream"
# Below this, compression saves no packet.
_GZIP_FROM_BYTES: Final = 1_024
_GZIP_LEVEL, _GZIP_WINDOW = 9, 31


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced."""

    modified_ns: int
    size: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    stamp: _Stamp
    etag: str
    content_type: str
    body: bytes
    gzipped: bytes | None


class StaticFiles:
    """Serves the files below a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path = STATIC) -> None:
        self._root = root.resolve()
        self._files: dict[str, _File] = {}

    async def serve(self, exchange: Exchange, name: str, *, status: int = 200) -> None:
        """Respond with a file.

        Args:
            exchange: a GET or HEAD.
            name: the path below the folder, decoded.
            status: of the response that has the file.

        Raises:
            ExchangeError: 404: there is no such file; 405.
        """
        if exchange.method not in {"GET", "HEAD"}:
            raise ExchangeError(
                405,
                f"{preview(exchange.method)} is not allowed at {preview(exchange.path)}",
                headers=[(b"allow", b"GET, HEAD")],
            )
        file = self._find(name)
        if file is None:
            raise ExchangeError(404, f"there is nothing at {preview(exchange.path)}")
        headers = [
            (b"etag", file.etag.encode()),
            # Files change with an upgrade: the browser asks each time, and gets 304.
            (b"cache-control", b"no-cache"),
            (b"vary", b"Accept-Encoding"),
        ]
        if not_modified(file.etag, Wishes(_text(exchange.value(b"if-none-match")))) is not None:
            await exchange.respond(304, headers)
            return
        headers.append((b"content-type", file.content_type.encode()))
        body = file.body
        if file.gzipped is not None and prefers_gzip(_text(exchange.value(b"accept-encoding"))):
            headers.append((b"content-encoding", b"gzip"))
            body = file.gzipped
        await exchange.respond(status, headers, body)

    def _find(self, name: str) -> _File | None:
        # No empty segment, no hidden file, and nothing above the folder.
        segments = name.split("/")
        if not all(_is_plain(segment) for segment in segments):
            return None
        path = self._root.joinpath(*segments)
        try:
            if not (path.is_file() and path.resolve().is_relative_to(self._root)):
                return None
            status = path.stat()
            stamp = _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._files.get(name)
            if known is None or known.stamp != stamp:
                known = self._files[name] = _read(path, stamp)
        except OSError:
            return None
        return known


def _is_plain(segment: str) -> bool:
    return bool(segment) and not segment.startswith(".") and segment.isprintable() and "\\" not in segment


def _read(path: Path, stamp: _Stamp) -> _File:
    body = path.read_bytes()
    is_text = path.suffix in _TEXT_TYPES
    gzipped = None
    if is_text and len(body) >= _GZIP_FROM_BYTES:
        compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        gzipped = compressor.compress(body) + compressor.flush()
    return _File(
        stamp=stamp,
        # Weak: the same for both codings.
        etag=f'W/"{blake2b(body, digest_size=12).hexdigest()}"',
        content_type=_TEXT_TYPES[path.suffix] if is_text else _OTHER_TYPES.get(path.suffix, _UNKNOWN_TYPE),
        body=body,
        gzipped=gzipped,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
