"""`Idempotency-Key`: a command that is sent again under its key is not given again, and answered the same.

Keys are remembered here for a day, and in the store for as long as its records last.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import msgspec
import trio
from quart import request

from trioder.headend.api.dispatch_models import DispatchBody
from trioder.headend.api.errors import ApiError, shown
from trioder.headend.dispatch.command import Command
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError
from trioder.store.records import DispatchRecord

_MAX_KEYS = 100_000
_KEPT_MS = 24 * 3_600_000
_MAX_KEY_LENGTH = 256
# A database that is slow holds up commands for no longer.
_LOOK_WITHIN_S = 2.0

# By the key as it is recorded and the digest of the request.
Give = Callable[[str | None, str | None], Command]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    digest: str
    record: DispatchRecord
    at_ms: int


class IdempotencyKeys:
    """The commands that were given under a key."""

    def __init__(
        self, *, store: Store, wall: WallClock, record_of: Callable[[Command], DispatchRecord]
    ) -> None:
        self._store = store
        self._wall = wall
        self._record_of = record_of
        self._given: OrderedDict[str, _Given] = OrderedDict()
        # Two requests with one key are one after the other, so that the second finds what the first has done.
        self._turn = trio.Lock()

    async def give_once(self, body: DispatchBody, give: Give) -> DispatchRecord:
        """Give the command that `give` gives, unless it was given before; the record as first answered.

        Raises:
            ApiError: the key is malformed, or was used for something else; and what `give` raises.
        """
        key = _key_of_request()
        if key is None:
            return self._record_of(give(None, None))
        digest = sha256(msgspec.json.encode(body)).hexdigest()
        async with self._turn:
            given = self._given.get(key) or await self._look_up(key)
            if given is None:
                record = self._record_of(give(key, digest))
                self._remember(key, _Given(digest=digest, record=record, at_ms=self._wall.now_ms()))
                return record
        if given.digest != digest:
            raise ApiError(
                409,
                f"Idempotency-Key {shown(key)} was used for another command, {given.record.dispatch_id}; "
                "a new command takes a new key",
            )
        return given.record

    async def _look_up(self, key: str) -> _Given | None:
        record: DispatchRecord | None = None
        try:
            with trio.move_on_after(_LOOK_WITHIN_S):
                record = await self._store.find_dispatch(idempotency_key=key)
        except StoreUnavailableError:
            # The command goes before: what was given under the key before this headend's start is not known.
            return None
        if record is None or record.request_digest is None:
            return None
        given = _Given(digest=record.request_digest, record=record, at_ms=self._wall.now_ms())
        self._remember(key, given)
        return given

    def _remember(self, key: str, given: _Given) -> None:
        self._given[key] = given
        oldest_ms = self._wall.now_ms() - _KEPT_MS
        while len(self._given) > _MAX_KEYS or next(iter(self._given.values())).at_ms < oldest_ms:
            self._given.popitem(last=False)


def _key_of_request() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY_LENGTH or not key.isprintable() or not key.isascii():
        raise ApiError(
            400,
            f"Idempotency-Key is {shown(key)}; it must be 1 to {_MAX_KEY_LENGTH} printable ASCII characters",
        )
    return key
