"""A stream of bytes as lines of text, of bounded length whatever a process writes."""


class LineSplitter:
    """Takes chunks as they come and gives whole lines; longer ones are cut short and marked."""

    def __init__(self, *, longest: int = 64 * 1024) -> None:
        self._longest = longest
        self._rest = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes | bytearray) -> list[str]:
        """Return the lines that this chunk completes, without their ends."""
        *whole, rest = chunk.split(b"\n")
        lines = []
        for part in whole:
            self._take(part)
            lines.append(self._pop())
        self._take(rest)
        return lines

    def finish(self) -> list[str]:
        """Return what came after the last end of line, if anything."""
        return [self._pop()] if self._rest else []

    def _take(self, part: bytes | bytearray) -> None:
        room = self._longest - len(self._rest)
        self._rest += part[:room]
        self._skipping |= len(part) > room

    def _pop(self) -> str:
        line = self._rest.decode(errors="replace").rstrip("\r") + (" [cut short]" if self._skipping else "")
        self._rest.clear()
        self._skipping = False
        return line
