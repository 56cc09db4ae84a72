"""Follows the live feed for `trioder watch`: draws the table, or prints lines."""

import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from trioder.cli.connection import configuration_errors
from trioder.cli.exit_codes import INTERRUPTED
from trioder.cli.live_assets import LiveAssets
from trioder.cli.live_frame import View, frame, page_rows
from trioder.cli.output import Output, has_colour, is_terminal, note
from trioder.cli.printable import line_of
from trioder.cli.quantities import mw_text, number_text, time_text
from trioder.cli.screen import Screen, open_screen
from trioder.cli.settings import Settings
from trioder.client import (
    AlarmEvent,
    AsyncHeadendClient,
    FeedEvent,
    FeedLost,
    HeadendError,
    HeadendUnavailable,
    TelemetryEvent,
    Topic,
)
from trioder.schemas.stream import LiveRow

_TOPICS: tuple[Topic, ...] = ("fleet", "telemetry", "alarms")
# Without a change, for the ages.
_REDRAW_S = 0.5
_MIN_REDRAW_S = 0.1
# Of the processor, at most.
_DRAWING_SHARE = 0.2
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)
_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGWINCH,
    signal.SIGTSTP,
)
# Shells report a program that a signal has ended so.
_SIGNALLED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is followed, and how it is shown.

    Attributes:
        settings: of the headend.
        site_ids: only the assets of these; all without any.
        title: of the table, harmless.
        view: at the start.
        output: for lines.
        live: a table that is drawn again, instead of lines.
        seconds: it ends after this time; None for never.
    """

    settings: Settings
    site_ids: tuple[str, ...]
    title: str
    view: View
    output: Output
    live: bool
    seconds: int | None


def run_watch(watch: Watch) -> int:
    """Follow until the user ends it, and return the exit code.

    Raises:
        HeadendError: the headend refuses it, or is not there at the start.
        ConfigurationError: its address or CA cannot be used.
    """
    return anyio.run(_run, watch)


async def _run(watch: Watch) -> int:
    settings = watch.settings
    with configuration_errors(settings):
        # An empty token: the client itself would read the environment.
        client = AsyncHeadendClient(settings.url, token=settings.token or "", ca_file=settings.ca)
    live = LiveAssets(now=time.time, monotonic=time.monotonic)
    async with client:
        follower = _Follower(client=client, live=live, site_ids=watch.site_ids)
        await follower.load_assets()
        with anyio.move_on_after(watch.seconds):
            if watch.live:
                return await _show_table(watch, follower)
            await _print_lines(watch, follower)
    return 0


@dataclass(slots=True, kw_only=True)
class _Follower:
    client: AsyncHeadendClient
    live: LiveAssets
    site_ids: tuple[str, ...]

    async def load_assets(self) -> None:
        rows = []
        for site_id in self.site_ids or (None,):
            rows += [row async for row in self.client.assets(site_id=site_id)]
        self.live.set_assets(rows)

    async def receive(self, event: FeedEvent) -> None:
        """Take over an event; nameplates are read again when it is about assets that are new."""
        if self.live.receive(event):
            with suppress(HeadendUnavailable):
                await self.load_assets()


async def _print_lines(watch: Watch, follower: _Follower) -> None:
    async with follower.client.stream(site_ids=watch.site_ids, topics=_TOPICS) as feed:
        async for event in feed:
            await follower.receive(event)
            if watch.output.as_json:
                watch.output.json_lines([{"event": _name_of(event), "data": event}])
            else:
                if isinstance(event, FeedLost):
                    note(f"the feed is lost: {line_of(event.reason)}")
                watch.output.lines(_lines_of(event, follower.live, watch.view))


def _name_of(event: FeedEvent) -> str:
    name = type(event).__name__.removesuffix("Event")
    # The names of the feed, and one more.
    return {"FeedLost": "lost", "Alarm": "alarms", "Session": "sessions", "Schedule": "schedules"}.get(
        name, name.lower()
    )


def _lines_of(event: FeedEvent, live: LiveAssets, view: View) -> Iterator[str]:
    match event:
        case TelemetryEvent(rows=rows):
            for row in rows:
                if not view.not_good or row.quality != "good":
                    yield _row_line(row, live)
        case AlarmEvent(at=at, transition=transition, alarm=alarm):
            what = f"{alarm.severity} {alarm.kind}: {line_of(alarm.reason, 400)}"
            yield f"{time_text(at)}  alarm {transition}  {what}"


def _row_line(row: LiveRow, live: LiveAssets) -> str:
    asset = live.assets.get(row.asset_id)
    parts = [
        time_text(row.sampled_at),
        line_of(row.asset_id if asset is None else asset.name, 60),
        f"power {mw_text(row.current_mw, signed=True)}",
        f"setpoint {mw_text(row.setpoint_mw, signed=True)}",
        f"SOC {number_text(row.soc_pct, 1)} %",
        row.quality,
        "connected" if row.connected else "away",
    ]
    return "  ".join(parts)


async def _show_table(watch: Watch, follower: _Follower) -> int:
    keyboard = sys.stdin.fileno() if is_terminal(sys.stdin) else None
    # Signals first: whatever arrives while the screen is shown restores the terminal.
    with anyio.open_signal_receiver(*_SIGNALS) as signals, open_screen(keyboard) as screen:
        display = _Display(watch=watch, follower=follower, screen=screen, view=watch.view)
        async with anyio.create_task_group() as tasks:
            display.scope = tasks.cancel_scope
            tasks.start_soon(display.follow)
            tasks.start_soon(display.receive_signals, signals)
            tasks.start_soon(display.read_keys)
            await display.draw_until_ended()
    if display.failure is not None:
        raise display.failure
    return display.code


@dataclass(slots=True, kw_only=True)
class _Display:
    watch: Watch
    follower: _Follower
    screen: Screen
    view: View
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    changed: anyio.Event = field(default_factory=anyio.Event)
    failure: HeadendError | None = None
    code: int = 0

    def end(self, code: int = 0) -> None:
        self.code = code
        self.scope.cancel()

    async def follow(self) -> None:
        try:
            async with self.follower.client.stream(site_ids=self.watch.site_ids, topics=_TOPICS) as feed:
                async for event in feed:
                    await self.follower.receive(event)
                    self.changed.set()
        except HeadendError as error:
            # Raised once the terminal is restored.
            self.failure = error
            self.end()

    async def draw_until_ended(self) -> None:
        while True:
            begun = time.monotonic()
            self.changed = anyio.Event()
            self.draw()
            drawing_s = time.monotonic() - begun
            await anyio.sleep(max(_MIN_REDRAW_S, drawing_s / _DRAWING_SHARE))
            with anyio.move_on_after(_REDRAW_S):
                await self.changed.wait()

    def draw(self) -> None:
        self.follower.live.check()
        width, height = self.screen.size()
        lines = frame(
            self.follower.live,
            self.view,
            title=self.watch.title,
            width=width,
            height=height,
            colour=has_colour(),
        )
        self.screen.draw(lines)

    async def read_keys(self) -> None:
        keyboard = self.screen.keyboard
        while keyboard is not None:
            await anyio.wait_readable(keyboard)
            pressed = os.read(keyboard, 256)
            if not pressed:
                return
            for key in _KEY.findall(pressed.decode(errors="replace")):
                if key in ("q", "Q"):
                    self.end()
                    return
                listed = self.follower.live.listed(not_good=self.view.not_good)
                page = page_rows(self.screen.size()[1])
                self.view = self.view.after_key(key, page=page, rows=len(listed))
            self.draw()

    async def receive_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for received in signals:
            match received:
                case signal.SIGWINCH:
                    self.draw()
                case signal.SIGTSTP:
                    self._suspend()
                case signal.SIGINT:
                    self.end(INTERRUPTED)
                case _:
                    self.end(_SIGNALLED + received)

    def _suspend(self) -> None:
        self.screen.leave()
        # Returns when the shell continues it.
        os.kill(os.getpid(), signal.SIGSTOP)
        self.screen.enter()
        self.draw()
