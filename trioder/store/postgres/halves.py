"""Work on many items of which the database may refuse some."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from trioder.store.postgres.database import DatabaseError

T = TypeVar("T")


async def in_halves(
    items: Sequence[T],
    do: Callable[[Sequence[T]], Awaitable[None]],
    give_up: Callable[[T, DatabaseError], Awaitable[None]],
) -> None:
    """Do it with all at once, or, where the data is refused, with halves, in order, down to one."""
    try:
        await do(items)
    except DatabaseError as error:
        if not error.of_data:
            raise
        if len(items) == 1:
            await give_up(items[0], error)
            return
        middle = len(items) // 2
        await in_halves(items[:middle], do, give_up)
        await in_halves(items[middle:], do, give_up)
