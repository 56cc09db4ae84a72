"""A disk that is really full: the headend says so, goes on, and writes what waited once there is room."""

import subprocess
from pathlib import Path

import pytest
import trio

from tests.e2e.processes import Processes, open_api, open_processes

WITHIN_S = 30
# A small disk of its own, that nobody else sees: in a mount namespace.
ON_A_SMALL_DISK = (
    *("unshare", "--user", "--map-root-user", "--mount", "bash", "-c"),
    'mount -t tmpfs -o size=120m tmpfs "$STATE_DIR" && exec "$@"',
    "headend",
)


def small_disks_are_possible() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def disk_of(processes: Processes, state_dir: Path) -> Path:
    """The small disk, by way of a process that sees it."""
    pid = processes.pids(containing="trioder.headend")[-1]
    return Path(f"/proc/{pid}/root{state_dir}")


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            return


@pytest.mark.skipif(not small_disks_are_possible(), reason="user and mount namespaces are refused here")
async def test_a_full_disk_is_reported_and_what_waited_is_written_once_there_is_room(tmp_path: Path) -> None:
    state_dir, agents_dir = tmp_path / "small", tmp_path / "agents"
    state_dir.mkdir()
    async with open_processes() as processes:
        with trio.fail_after(4 * WITHIN_S):
            headend = await processes.start(
                "trioder.headend",
                env={
                    "HEADEND_HTTP_ADDR": "127.0.0.1:0",
                    "HEADEND_GRPC_ADDR": "127.0.0.1:0",
                    "HEADEND_TICK_S": "0",
                    "STATE_DIR": str(state_dir),
                },
                within=ON_A_SMALL_DISK,
            )
            ready = await headend.logged("^headend ready$")
            launcher = await processes.start(
                "trioder.launcher",
                "--shard-size=50",
                env={"HEADEND_GRPC": ready["grpc_addr"], "STATE_DIR": str(agents_dir), "TICK_S": "0.2"},
            )
            async with open_api(ready["http_addr"]) as api:
                await api.until_connected(152)
                while (await api.get("/fleet"))["by_quality"]["good"] < 152:
                    await trio.sleep(0.1)
                [asset] = await api.get("/assets", limit=1)
                disk = disk_of(processes, state_dir)
                fill(disk / "filler")
                reported = await headend.logged("database unavailable")
                assert "No space left on device" in reported["reason"]
                assert (await api.health())["db"] == "error"
                # Telemetry stays fresh, and dispatches work.
                await api.post("/dispatch?wait=ack", {"asset_id": asset["id"], "mw": 1.0, "duration_s": 600})
                while (await api.get(f"/telemetry/{asset['id']}"))["setpoint_mw"] != 1.0:
                    await trio.sleep(0.1)
                assert (await api.get(f"/telemetry/{asset['id']}"))["age_s"] < 3

                (disk / "filler").unlink()
                await headend.logged("database available again")
                while (await api.health())["db_backlog_rows"] > 152:
                    await trio.sleep(0.1)
                await trio.sleep(1)
                rows = await api.get(f"/telemetry/{asset['id']}/history", limit=10_000)
                instants = [row["timestamp"] for row in rows]
                assert len(set(instants)) == len(instants)
                # One each 0.2 s, through the outage as well.
                seconds = {instant[:19] for instant in instants}
                assert len(instants) >= 4 * (len(seconds) - 2)
            assert await launcher.stop() == 0
            assert await headend.stop() == 0
            await processes.none_left()
