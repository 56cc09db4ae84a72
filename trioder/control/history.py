"""The commands that the headend remembers: all that live, and the last of those that have ended.

What is older is the store's. Synchronous, and bounded by the number of members.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from trioder.control.model import Dispatch

MAX_COMMANDS = 10_000
# About 400 bytes each.
MAX_MEMBERS = 100_000


class DispatchHistory:
    """Finds a command by its own id, or by one that an agent knows it by."""

    def __init__(self, *, max_commands: int = MAX_COMMANDS, max_members: int = MAX_MEMBERS) -> None:
        self._max_commands = max_commands
        self._max_members = max_members
        self._living: dict[str, Dispatch] = {}
        self._ended: dict[str, Dispatch] = {}
        self._ended_members = 0
        self._by_wire_id: dict[str, Dispatch] = {}
        self._wire_ids: dict[str, set[str]] = {}

    def __iter__(self) -> Iterator[Dispatch]:
        """Those that live, oldest first."""
        return iter(tuple(self._living.values()))

    def add(self, command: Dispatch) -> None:
        """Remember a command."""
        self._living[command.dispatch_id] = command
        for wire_id in {command.dispatch_id, *(member.wire_id for member in command.members.values())}:
            self.name(command, wire_id)
        self.look(command)

    def name(self, command: Dispatch, wire_id: str) -> None:
        """Agents know the command by this id as well."""
        self._by_wire_id[wire_id] = command
        self._wire_ids.setdefault(command.dispatch_id, set()).add(wire_id)

    def look(self, command: Dispatch) -> None:
        """The command has changed: once it has ended, it may be forgotten some day."""
        if not command.ended or command.dispatch_id not in self._living:
            return
        del self._living[command.dispatch_id]
        self._ended[command.dispatch_id] = command
        self._ended_members += _size_of(command)
        while len(self._ended) > self._max_commands or self._ended_members > self._max_members:
            if len(self._ended) == 1:
                return
            self._forget(next(iter(self._ended)))

    def revive(self, command: Dispatch) -> None:
        """The command is about to get another member, though it may have ended."""
        if self._ended.pop(command.dispatch_id, None) is not None:
            self._ended_members -= _size_of(command)
            self._living[command.dispatch_id] = command

    def get(self, dispatch_id: str) -> Dispatch | None:
        """The command with this id."""
        return self._living.get(dispatch_id) or self._ended.get(dispatch_id)

    def by_wire_id(self, wire_id: str) -> Dispatch | None:
        """The command that an agent knows by this id."""
        return self._by_wire_id.get(wire_id)

    def newest(self, limit: int, *, counts: Callable[[Dispatch], bool]) -> list[Dispatch]:
        """The last `limit` commands that count, newest first."""
        found = filter(counts, [*self._living.values(), *self._ended.values()])
        ordered = sorted(found, key=lambda command: (command.number, command.dispatched_ms), reverse=True)
        return list(islice(ordered, limit))

    def _forget(self, dispatch_id: str) -> None:
        command = self._ended.pop(dispatch_id)
        self._ended_members -= _size_of(command)
        for wire_id in self._wire_ids.pop(dispatch_id):
            del self._by_wire_id[wire_id]


def _size_of(command: Dispatch) -> int:
    return 1 + len(command.members) + len(command.left_out)
