"""How many log lines of one kind an agent's messages may cause: a flood of them must not fill the disk."""

from dataclasses import dataclass, field

# As many as the batteries of a large site report at once.
AT_ONCE = 1_000
EVERY_MS = 10_000


@dataclass(slots=True)
class _Window:
    since_ms: int
    lines: int = 0
    suppressed: int = 0


@dataclass(slots=True)
class LogLimit:
    """Of one session; the kinds are those of the program, not of the peer, and so few."""

    _windows: dict[str, _Window] = field(default_factory=dict)

    def suppressed_before(self, kind: str, now_ms: int) -> int | None:
        """Return None when a line of this kind is not to be written now; else how many were not before it."""
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now_ms)
        elif not 0 <= now_ms - window.since_ms < EVERY_MS:
            # Also after the clock was set back.
            window.since_ms, window.lines = now_ms, 0
        if window.lines >= AT_ONCE:
            window.suppressed += 1
            return None
        window.lines += 1
        suppressed, window.suppressed = window.suppressed, 0
        return suppressed
