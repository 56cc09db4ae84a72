"""`python -m trioder.agent` as a process: its configuration, its standard streams and its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

COMMAND = [sys.executable, "-m", "trioder.agent"]
NOBODY = "127.0.0.1:9"
WITHIN_S = 30
ONE_ASSET = {
    "ASSET_ID": "11111111-1111-4111-8111-111111111111",
    "SITE_ID": "22222222-2222-4222-8222-222222222222",
    "CAPACITY_MWHR": "10",
    "MAX_MW": "5",
    "MIN_MW": "-5",
    "EFFICIENCY": "0.9",
    "RAMP_RATE_MW_PER_MIN": "100",
    "HEADEND_GRPC": NOBODY,
}
SHARD = {
    "agent_id": "shard-1of1-00000000",
    "headend": NOBODY,
    "tick_s": 0.2,
    "phase": 0.0,
    "assets": [
        {
            "id": ONE_ASSET["ASSET_ID"],
            "name": "Battery",
            "site_id": ONE_ASSET["SITE_ID"],
            "capacity_mwhr": 10.0,
            "max_mw": 5.0,
            "min_mw": -5.0,
            "efficiency": 0.9,
            "ramp_rate_mw_per_min": 100.0,
        }
    ],
}
LINE = json.dumps(SHARD).encode() + b"\n"


def environment(**variables: str) -> dict[str, str]:
    ours = {*ONE_ASSET, "TICK_S", "SITE_NAME", "ASSET_NAME", "ASSET_LOCATION", "LOG_LEVEL", "LOG_FORMAT"}
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


@contextmanager
def open_agent(
    *arguments: str, env: dict[str, str] | None = None, stdin: int | IO[bytes] = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=env or environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()


def run(
    *arguments: str, env: dict[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=env or environment(),
        input=given,
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )


def hand_over(process: subprocess.Popen[bytes], line: bytes = LINE) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def first_status(process: subprocess.Popen[bytes]) -> dict[str, object]:
    assert process.stdout is not None
    status: dict[str, object] = json.loads(process.stdout.readline())
    return status


def test_every_fault_of_the_variables_is_reported_and_the_exit_code_is_2() -> None:
    wrong = {"MAX_MW": "much", "TICK_S": "-1", "HEADEND_GRPC": "nowhere", "COMMS_LOSS_HOLD_S": "0"}
    ended = run(env=environment(**ONE_ASSET | wrong))
    reported = ended.stderr.decode()
    assert ended.returncode == 2
    faults = ("MAX_MW is 'much'", "TICK_S is -1.0", "HEADEND_GRPC: 'nowhere'", "COMMS_LOSS_HOLD_S is 0.0")
    assert all(fault in reported for fault in faults)
    assert "Traceback" not in reported


def test_help_names_each_option_with_its_variable() -> None:
    ended = run("--help")
    reported = ended.stdout.decode()
    assert ended.returncode == 0
    for name in (
        *ONE_ASSET,
        "TICK_S",
        "COMMS_LOSS_HOLD_S",
        "SITE_NAME",
        "ASSET_NAME",
        "ASSET_LOCATION",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ):
        assert f"env var: {name}" in " ".join(reported.split())
        assert "--" + name.lower().replace("_", "-") in reported


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        (b"", "standard input ended after 0 bytes"),
        (LINE[:-1], "standard input ended after"),
        (b"hello\n", "is not JSON"),
        (b'{"agent_id": ""}\n', "agent_id is ''"),
    ],
)
def test_a_bad_handover_is_reported_and_the_exit_code_is_2(given: bytes, reported: str) -> None:
    ended = run("--stdin", given=given)
    assert ended.returncode == 2
    assert reported in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()


def test_a_closed_standard_input_is_reported_and_the_exit_code_is_2() -> None:
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "--stdin"],
        env=environment(),
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert ended.returncode == 2
    assert b"standard input is closed" in ended.stderr


def test_a_terminal_as_standard_input_is_reported_and_the_exit_code_is_2() -> None:
    ours, theirs = os.openpty()
    try:
        ended = subprocess.run(
            [*COMMAND, "--stdin"],
            env=environment(),
            stdin=theirs,
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == 2
    assert b"standard input is a terminal" in ended.stderr


def test_the_end_of_standard_input_stops_the_agent() -> None:
    with open_agent("--stdin") as agent:
        hand_over(agent)
        assert first_status(agent)["state"] == "disconnected"
        assert agent.stdin is not None
        agent.stdin.close()
        assert agent.wait(timeout=10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_agent_well(number: signal.Signals) -> None:
    with open_agent("--stdin") as agent:
        hand_over(agent)
        first_status(agent)
        agent.send_signal(number)
        assert agent.wait(timeout=10) == 0


def test_a_signal_before_the_handover_stops_the_agent_well() -> None:
    with open_agent("--stdin", env=environment(LOG_LEVEL="debug")) as agent:
        hand_over(agent, LINE[:20])
        # It reports nothing at this point; the default handler would make it -SIGTERM.
        deadline_s = time.monotonic() + WITHIN_S
        while not _catches_sigterm(agent.pid):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        agent.terminate()
        assert agent.wait(timeout=10) == 0


def test_a_single_asset_runs_from_its_variables(tmp_path: Path) -> None:
    with open_agent(env=environment(**ONE_ASSET, STATE_DIR=str(tmp_path))) as agent:
        status = first_status(agent)
        assert (status["state"], status["assets"]) == ("disconnected", 0)
        assert "127.0.0.1:9" in str(status["reason"])
        agent.terminate()
        assert agent.wait(timeout=10) == 0


def test_an_agent_whose_standard_output_is_closed_goes_on() -> None:
    with open_agent("--stdin") as agent:
        hand_over(agent)
        first_status(agent)
        assert agent.stdout is not None
        assert agent.stderr is not None
        agent.stdout.close()
        retries = 0
        while retries < 3:
            retries += b"not connected" in agent.stderr.readline()
        agent.terminate()
        assert agent.wait(timeout=10) == 0
        assert b"Traceback" not in agent.stderr.read()


def test_a_file_as_standard_input_is_read_and_its_end_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shard.json"
    path.write_bytes(LINE)
    with path.open("rb") as file, open_agent("--stdin", stdin=file) as agent:
        first_status(agent)
        first_status(agent)
        assert agent.poll() is None
        agent.terminate()
        assert agent.wait(timeout=10) == 0


def _catches_sigterm(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False
