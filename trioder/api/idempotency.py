"""`Idempotency-Key`: a repeated request is executed once and gets the same response.

A tenant's keys are its own. They are kept in memory for a day, and in the store as long as its dispatch
records. The newest keep the record of the first response; for the others the current record is returned.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

import msgspec
import trio
from quart import request

from trioder.api.errors import ApiError
from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.text import preview
from trioder.schemas.dispatch import DispatchBody
from trioder.store.interface import Store, StoreUnavailableError

_MAX_KEYS = 100_000
# Of the first responses together; about 500 bytes each.
_MAX_MEMBERS = 100_000
_KEY_LIFETIME_S = 24 * 3_600.0
_MAX_KEY_LENGTH = 256
_LOOKUP_TIMEOUT_S = 2.0
# The longest pause between two attempts of the store to connect.
_RETRY_AFTER_S = 5

# A tenant, and one of its keys.
_OwnKey = tuple[str, str]
# Takes the key to be recorded and the digest of the request.
Execute = Callable[[str | None, str | None], Awaitable[DispatchRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsedKey:
    digest: str
    dispatch_id: str
    at_s: float


class IdempotencyKeys:
    """The keys that were used, and the dispatches made under them.

    Args:
        store: has the keys from before the headend's start.
        find: returns the current record of a dispatch that is in memory, by its id.
    """

    def __init__(
        self,
        *,
        store: Store,
        find: Callable[[str], Awaitable[DispatchRecord | None]],
    ) -> None:
        self._store = store
        self._find = find
        self._used: OrderedDict[_OwnKey, _UsedKey] = OrderedDict()
        self._first_records: OrderedDict[_OwnKey, DispatchRecord] = OrderedDict()
        self._members = 0
        # Requests with the same key run one after the other, so that the second finds the first's record.
        self._locks: dict[_OwnKey, trio.Lock] = {}

    async def execute_once(self, body: DispatchBody, execute: Execute, *, scope: Scope) -> DispatchRecord:
        """Call `execute` unless the caller's tenant has used the request's key before.

        Returns:
            The record of the first call.

        Raises:
            ApiError: 400 for a malformed key, 409 for a key used with another body, 503 when the store
                cannot be read (nothing is dispatched); and whatever `execute` raises.
        """
        key = key_of_request()
        if key is None:
            return await execute(None, None)
        own_key = scope.tenant, key
        digest = _digest_of(body, scope)
        async with self._locked(own_key):
            used = self._used.get(own_key) or await self._look_up(own_key)
            if used is None:
                # No checkpoint between these two: a cancelled request has either done both or neither.
                record = await execute(key, digest)
                self._remember(own_key, record, digest)
                return record
        if used.digest != digest:
            # That command may have been to sites that this caller does not see.
            named = f", {used.dispatch_id}" if scope.site_ids is None else ""
            raise ApiError(
                409,
                f"Idempotency-Key {preview(key)} was used for another command{named}; "
                "a new command takes a new key",
            )
        return self._first_records.get(own_key) or await self._current_record(own_key, used)

    @asynccontextmanager
    async def _locked(self, key: _OwnKey) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            # Another request may hold it by now.
            if not lock.locked():
                self._locks.pop(key, None)

    async def _current_record(self, own_key: _OwnKey, used: _UsedKey) -> DispatchRecord:
        tenant, key = own_key
        try:
            found = await self._find(used.dispatch_id)
            # What another tenant's agent reports under its id is another.
            if found is None or tenant not in {ALL_TENANTS, found.tenant}:
                found = await self._store.find_dispatch(
                    dispatch_id=used.dispatch_id, scope=Scope(tenant=tenant)
                )
        except StoreUnavailableError as error:
            raise ApiError(
                503,
                f"Idempotency-Key {preview(key)} was used for {used.dispatch_id}, which cannot be read now: "
                f"{error}; nothing was commanded again",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        if found is None:
            raise ApiError(
                409,
                f"Idempotency-Key {preview(key)} was used for {used.dispatch_id}; it is not on record",
            )
        return found

    async def _look_up(self, own_key: _OwnKey) -> _UsedKey | None:
        tenant, key = own_key
        try:
            with trio.fail_after(_LOOKUP_TIMEOUT_S):
                # Of all sites: a key is the tenant's.
                record = await self._store.find_dispatch(idempotency_key=key, scope=Scope(tenant=tenant))
        except (StoreUnavailableError, trio.TooSlowError) as error:
            why = str(error) or f"the database has not answered within {_LOOKUP_TIMEOUT_S:g} s"
            raise ApiError(
                503,
                f"it cannot be known now whether Idempotency-Key {preview(key)} was used before: {why}; "
                "nothing was commanded",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        if record is None or record.request_digest is None:
            return None
        return self._remember(own_key, record, record.request_digest)

    def _remember(self, key: _OwnKey, record: DispatchRecord, digest: str) -> _UsedKey:
        # Monotonic: no step of the wall clock expires a key early.
        now_s = trio.current_time()
        used = self._used[key] = _UsedKey(digest=digest, dispatch_id=record.dispatch_id, at_s=now_s)
        self._first_records[key] = record
        self._members += _size_of(record)
        while len(self._used) > _MAX_KEYS or next(iter(self._used.values())).at_s < now_s - _KEY_LIFETIME_S:
            oldest, _ = self._used.popitem(last=False)
            self._drop_first_record(oldest)
        while self._members > _MAX_MEMBERS and len(self._first_records) > 1:
            self._drop_first_record(next(iter(self._first_records)))
        return used

    def _drop_first_record(self, key: _OwnKey) -> None:
        record = self._first_records.pop(key, None)
        if record is not None:
            self._members -= _size_of(record)


def _digest_of(body: DispatchBody, scope: Scope) -> str:
    encoded = msgspec.json.encode(body)
    if scope.site_ids is not None:
        # `fleet` means other assets to a caller that sees other sites.
        encoded += msgspec.json.encode(sorted(scope.site_ids))
    return sha256(encoded).hexdigest()


def _size_of(record: DispatchRecord) -> int:
    return 1 + len(record.members) + len(record.left_out)


def key_of_request() -> str | None:
    """Return the current request's key; None without one.

    Raises:
        ApiError: 400.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY_LENGTH or not key.isprintable() or not key.isascii():
        raise ApiError(
            400,
            f"Idempotency-Key is {preview(key)}; "
            f"it must be 1 to {_MAX_KEY_LENGTH} printable ASCII characters",
        )
    return key
