"""What is measured on the headend's machine, and the alarms of it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.alarms import list_alarms
from tests.unit.access.certificates import Authority
from tests.unit.headend.parts import START_UNIX_S, make_fleet
from trioder.api.context import Headend
from trioder.control.alarms import polls
from trioder.control.alarms.probes import Certificate, Disk, HostPaths, measure_disk, read_expiry
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreHealth
from trioder.store.none import NoneStore


async def test_a_file_system_is_measured_as_df_does(tmp_path: Path) -> None:
    disk = await measure_disk(tmp_path)
    assert disk is not None
    assert 0.0 <= disk.used_pct <= 100.0
    assert disk.free_bytes > 0
    assert await measure_disk(tmp_path / "missing") is None


async def test_the_end_of_the_first_certificate_of_a_file_is_read(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).issue("localhost", to_h=48.0).cert
    found = await read_expiry(certificate)
    assert found.expires_s is not None
    assert 47.9 < (found.expires_s - WallClock.starting_now().now_s()) / 3600 < 48.1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it has no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n", "it has no certificate"),
        (b"-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----", "it has no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\xff\n-----END CERTIFICATE-----\n", ""),
        (b"\x00" * 2_000_000, "it has no certificate"),
    ],
)
async def test_a_file_that_is_no_certificate_says_so(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "server.crt"
    path.write_bytes(content)
    found = await read_expiry(path)
    assert found.expires_s is None
    assert says in found.reason
    assert found.reason


async def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert (await read_expiry(tmp_path / "missing.crt")).reason == "No such file or directory"


@asynccontextmanager
async def open_on(host: HostPaths, store: NoneStore | None = None) -> AsyncIterator[Headend]:
    """A headend on this machine."""
    async with open_headend(
        fleet=make_fleet(1),
        store=store or NoneStore(),
        wall=WallClock(START_UNIX_S, trio.current_time()),
        rng=random.Random(1),
        tick_s=0,
        host=host,
    ) as headend:
        yield headend


async def test_a_disk_is_an_alarm_from_90_percent_until_it_is_below_85(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"pct": 89.0}

    async def measure(path: Path) -> Disk:
        await trio.lowlevel.checkpoint()
        return Disk(path, used["pct"], 10**9)

    monkeypatch.setattr(polls, "measure_disk", measure)
    async with open_on(HostPaths(disks=[Path("/var/trioder")])) as headend:
        found = []
        for used["pct"] in (89.0, 91.0, 86.0, 89.0, 84.0):
            await trio.sleep(100.0)
            found.append([alarm.kind for alarm in headend.alarms.register.open_alarms() if alarm.count == 0])
        [alarm] = [alarm for alarm in list_alarms(headend) if alarm.kind == "disk_nearly_full"]
    assert [bool(kinds) for kinds in found] == [False, True, True, True, False]
    assert (alarm.severity, alarm.source) == ("critical", "headend /var/trioder")


async def test_a_disk_that_does_not_answer_delays_no_other_alarm(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def measure(path: Path) -> Disk:
        if path.name == "hung":
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return Disk(path, 99.0, 0)

    monkeypatch.setattr(polls, "measure_disk", measure)
    async with open_on(HostPaths(disks=[Path("/hung"), Path("/full")])) as headend:
        await trio.sleep(20.0)
        assert [alarm.source for alarm in list_alarms(headend)] == ["headend /full"]


async def test_a_certificate_of_the_headend_is_an_alarm_before_it_expires_and_critical_after(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_s = START_UNIX_S + 15 * 86_400
    renewed = {"by_s": 0.0}

    async def read(path: Path) -> Certificate:
        await trio.lowlevel.checkpoint()
        return Certificate(path, ends_s + renewed["by_s"], "")

    monkeypatch.setattr(polls, "read_expiry", read)
    monkeypatch.setattr(polls, "CERTIFICATES_EVERY_S", 0.0)
    monkeypatch.setattr("trioder.control.alarms.engine.START_GRACE_S", 10**9)
    async with open_on(HostPaths(certificates=[Path("server.crt")])) as headend:
        seen = []
        for days in (0.5, 1.0, 13.0, 1.0):
            # Days pass: the clock is set.
            headend.wall.adjust(days * 86_400)
            await trio.sleep(30.0)
            seen.append([alarm[:3] for alarm in list_alarms(headend)])
        renewed["by_s"] = 90 * 86_400
        await trio.sleep(30.0)
        [alarm] = list_alarms(headend)
    expiring = ("certificate_expiring", "minor", "headend server.crt")
    assert seen[:3] == [[], [expiring], [expiring]]
    assert seen[3] == [("certificate_expiring", "critical", "headend server.crt")]
    assert alarm.cleared_s is not None


async def test_a_database_that_is_away_is_a_critical_alarm_until_it_is_back(autojump_clock: object) -> None:
    class Store(NoneStore):
        reason = ""

        @property
        def health(self) -> StoreHealth:
            return "error" if self.reason else "ok"

        @property
        def health_reason(self) -> str:
            return self.reason

    store = Store()
    async with open_on(HostPaths(), store) as headend:
        await trio.sleep(5.0)
        store.reason = "connection refused"
        await trio.sleep(3.0)
        store.reason = ""
        await trio.sleep(5.0)
        assert list_alarms(headend) == []
        store.reason = "connection refused"
        await trio.sleep(20.0)
        store.reason = ""
        await trio.sleep(10.0)
        [alarm] = list_alarms(headend)
        assert alarm[:3] == ("database_away", "critical", "headend")
        assert (alarm.raised_s, alarm.cleared_s) == (
            pytest.approx(18.0, abs=2.0),
            pytest.approx(38.0, abs=2.0),
        )
