"""`Idempotency-Key`: a command that is sent again under its key is not given again, and answered the same.

Keys are remembered here for a day, and in the store for as long as its records last; the newest with what
was answered first, the others with what has become of their command since.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

import msgspec
import trio
from quart import request

from trioder.api.errors import ApiError, shown
from trioder.api.schemas.dispatch import DispatchBody
from trioder.domain.dispatch import DispatchRecord
from trioder.store.interface import Store, StoreUnavailableError

_MAX_KEYS = 100_000
# Of the answers that are kept as they were given; about 500 bytes each.
_MAX_MEMBERS = 100_000
_KEPT_S = 24 * 3_600.0
_MAX_KEY_LENGTH = 256
# A database that has not answered by then is taken to be away.
_LOOK_WITHIN_S = 2.0
# The store tries again at least so often.
_RETRY_AFTER_S = 5

# By the key as it is recorded and the digest of the request.
Give = Callable[[str | None, str | None], Awaitable[DispatchRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    digest: str
    dispatch_id: str
    at_s: float


class IdempotencyKeys:
    """The commands that were given under a key.

    Args:
        store: knows those from before the headend's start.
        find: returns what has become of a command that is still remembered, by its id.
    """

    def __init__(
        self,
        *,
        store: Store,
        find: Callable[[str], Awaitable[DispatchRecord | None]],
    ) -> None:
        self._store = store
        self._find = find
        self._given: OrderedDict[str, _Given] = OrderedDict()
        self._first_answers: OrderedDict[str, DispatchRecord] = OrderedDict()
        self._members = 0
        # Two requests with one key are one after the other, so that the second finds what the first has done.
        self._turns: dict[str, trio.Lock] = {}

    async def execute_once(self, body: DispatchBody, give: Give) -> DispatchRecord:
        """Give the command that `give` gives, unless it was given before; the record as first answered.

        Raises:
            ApiError: the key is malformed, or was used for something else; 503 while it cannot be known
                whether it was used, and nothing is commanded; and what `give` raises.
        """
        key = _key_of_request()
        if key is None:
            return await give(None, None)
        digest = sha256(msgspec.json.encode(body)).hexdigest()
        async with self._turn_of(key):
            given = self._given.get(key) or await self._look_up(key)
            if given is None:
                # No checkpoint between the command and this note of it: neither is without the other.
                record = await give(key, digest)
                self._remember(key, record, digest)
                return record
        if given.digest != digest:
            raise ApiError(
                409,
                f"Idempotency-Key {shown(key)} was used for another command, {given.dispatch_id}; "
                "a new command takes a new key",
            )
        return self._first_answers.get(key) or await self._as_it_stands(key, given)

    @asynccontextmanager
    async def _turn_of(self, key: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(key, trio.Lock())
        try:
            async with turn:
                yield
        finally:
            # Unless the next one has it by now.
            if not turn.locked():
                self._turns.pop(key, None)

    async def _as_it_stands(self, key: str, given: _Given) -> DispatchRecord:
        try:
            found = await self._find(given.dispatch_id) or await self._store.find_dispatch(
                dispatch_id=given.dispatch_id
            )
        except StoreUnavailableError as error:
            raise ApiError(
                503,
                f"Idempotency-Key {shown(key)} was used for {given.dispatch_id}, which cannot be read now: "
                f"{error}; nothing was commanded again",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        if found is None:
            raise ApiError(
                409,
                f"Idempotency-Key {shown(key)} was used for {given.dispatch_id}; no more is known of it now",
            )
        return found

    async def _look_up(self, key: str) -> _Given | None:
        try:
            with trio.fail_after(_LOOK_WITHIN_S):
                record = await self._store.find_dispatch(idempotency_key=key)
        except (StoreUnavailableError, trio.TooSlowError) as error:
            why = str(error) or f"the database has not answered within {_LOOK_WITHIN_S:g} s"
            raise ApiError(
                503,
                f"it cannot be known now whether Idempotency-Key {shown(key)} was used before: {why}; "
                "nothing was commanded",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        if record is None or record.request_digest is None:
            return None
        return self._remember(key, record, record.request_digest)

    def _remember(self, key: str, record: DispatchRecord, digest: str) -> _Given:
        # By the steady clock: no step of the wall clock lets a command be given twice.
        now_s = trio.current_time()
        given = self._given[key] = _Given(digest=digest, dispatch_id=record.dispatch_id, at_s=now_s)
        self._first_answers[key] = record
        self._members += _size_of(record)
        while len(self._given) > _MAX_KEYS or next(iter(self._given.values())).at_s < now_s - _KEPT_S:
            oldest, _ = self._given.popitem(last=False)
            self._forget_answer(oldest)
        while self._members > _MAX_MEMBERS and len(self._first_answers) > 1:
            self._forget_answer(next(iter(self._first_answers)))
        return given

    def _forget_answer(self, key: str) -> None:
        record = self._first_answers.pop(key, None)
        if record is not None:
            self._members -= _size_of(record)


def _size_of(record: DispatchRecord) -> int:
    return 1 + len(record.members) + len(record.left_out)


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
