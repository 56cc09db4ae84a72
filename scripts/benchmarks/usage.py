"""What processes have used of the machine: CPU seconds and memory, by psutil."""

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds: of the process that serves, of the database's processes, of the whole machine."""

    server_s: float
    postgres_s: float
    machine_s: float

    def since(self, earlier: "Usage") -> "Usage":
        """Return what was used since then."""
        return Usage(
            server_s=self.server_s - earlier.server_s,
            postgres_s=self.postgres_s - earlier.postgres_s,
            machine_s=self.machine_s - earlier.machine_s,
        )


def read_usage(*, server_pid: int, headend_pid: int) -> Usage:
    """Read the usage of a server, and of the database: everything below the headend that has embedded it."""
    own = psutil.Process(server_pid).cpu_times()
    below_s = 0.0
    for process in psutil.Process(headend_pid).children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        # What has ended (an autovacuum worker) is in its parent's account, where the system keeps one.
        below_s += times.user + times.system + times.children_user + times.children_system
    machine = psutil.cpu_times()
    # On Linux a guest's time is in user and nice already.
    idle_s = machine.idle + getattr(machine, "iowait", 0.0)
    counted_twice_s = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
    return Usage(
        server_s=own.user + own.system,
        postgres_s=below_s,
        machine_s=sum(machine) - idle_s - counted_twice_s,
    )


def headend_usage(pid: int) -> Usage:
    """Read the usage of a headend, which is the server, and of its embedded database."""
    return read_usage(server_pid=pid, headend_pid=pid)


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process ever had resident (Linux; elsewhere what it has now)."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)
