"""The commands against a real headend with agents: what they print, and their exit codes."""

import csv
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.headends import (
    AWAY,
    FAULTY,
    GOOD,
    GOOD_ID,
    LARGE_SITE,
    ROOT,
    SITE,
    WITHIN_S,
    Trioder,
    eventually,
    running_agents,
    running_headend,
    write_fleet,
)
from trioder.cli import completing
from trioder.cli.exit_codes import EXIT_CODES
from trioder.cli.main import COMMANDS

DOCS = ROOT / "docs" / "cli.md"


@pytest.fixture(scope="module")
def trioder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trioder]:
    folder = tmp_path_factory.mktemp("cli")
    write_fleet(folder)
    with (
        running_headend(folder, database="embedded") as ready,
        running_agents(folder, ready["grpc_addr"]),
    ):
        trioder = Trioder(url=f"http://{ready['http_addr']}", home=folder)
        # Samples of all agents, good ones and flagged ones.
        eventually(lambda: trioder("fleet", "--json").json["by_quality"].get("bad") == 1)
        yield trioder


def test_the_fleet(trioder: Trioder) -> None:
    result = trioder("fleet")
    assert result.code == 0
    assert re.search(r"^assets +5, 4 connected", result.out, re.MULTILINE)
    assert re.search(r"^for 15 min +\d+\.\d +\d+\.\d$", result.out, re.MULTILINE)


def test_json_is_one_document_with_the_fields_of_the_api(trioder: Trioder) -> None:
    rows = trioder("assets", "--json").json
    assert rows[0]["name"] == GOOD
    assert rows[0]["telemetry"]["quality"] == "good"
    assert trioder("sites", "--json").json[0]["available"]["15_min"]


def test_what_is_not_good_is_listed(trioder: Trioder) -> None:
    lines = trioder("assets", "--not-good").out.splitlines()
    assert [FAULTY in line or AWAY in line for line in lines] == [False, True, True]
    assert re.search(r" bad ", next(line for line in lines if FAULTY in line))


def test_agents_and_their_assets(trioder: Trioder) -> None:
    assert re.search(r"^shard-\S+ +4  connected  .* UTC", trioder("agents").out, re.MULTILINE)
    assert trioder("agents", "--assets", "--json").json[0]["asset_name"] == GOOD


def test_assets_are_sorted(trioder: Trioder) -> None:
    names = [row["name"] for row in trioder("assets", "--sort", "rating", "--reverse", "--json").json]
    assert names[0] == f"{LARGE_SITE} BAT1"
    assert names[-1] == AWAY


@pytest.mark.parametrize("name", [GOOD, GOOD_ID, GOOD_ID.upper(), GOOD_ID[:4]])
def test_an_asset_is_found_by_name_id_or_the_beginning_of_the_id(name: str, trioder: Trioder) -> None:
    assert trioder("asset", name, "--json").json["id"] == GOOD_ID


@pytest.mark.parametrize(
    "arguments",
    [
        ["asset", "nonsuch"],
        ["asset", "00000000-0000-0000-0000-000000000000"],
        ["asset", GOOD_ID[:3]],
        ["assets", "--site", "nonsuch"],
        ["dispatch", "show", "00000000-0000-0000-0000-000000000000"],
        ["dispatch", "cancel", "ffff"],
        ["alarms", "--ack", "ffff"],
        ["schedule", "show", "ffff"],
    ],
)
def test_what_does_not_exist_is_5(arguments: list[str], trioder: Trioder) -> None:
    assert trioder(*arguments).code == 5


def test_a_dispatch_that_tracks_is_0(trioder: Trioder) -> None:
    result = trioder("dispatch", "asset", GOOD, "-3", "--for", "1m", "--wait", "tracking", "--json")
    assert result.code == 0
    assert result.json["by_state"]["tracking"] == 1
    assert result.json["mw"] == -3.0
    assert "tracking or ended" in result.err


def test_a_dispatch_is_waited_for_to_its_end(trioder: Trioder) -> None:
    result = trioder("dispatch", "asset", GOOD, "2", "--for", "4s", "--wait", "end", "--json")
    assert (result.code, result.json["state"]) == (0, "completed")


def test_a_dispatch_that_is_rejected_is_6(trioder: Trioder) -> None:
    result = trioder.process("dispatch", "asset", FAULTY, "5", "--for", "1m", "--wait", "ack")
    assert result.code == 6
    assert f"{FAULTY} rejected" in result.err


def test_the_wait_ends_with_7_and_the_dispatch_goes_on(trioder: Trioder) -> None:
    result = trioder("dispatch", "asset", AWAY, "0.5", "--for", "1m", "--wait", "ack", "--timeout", "1s")
    assert result.code == 7
    [newest] = trioder("dispatch", "list", "--limit", "1", "--json").json
    assert newest["state"] == "queued"
    assert f"trioder dispatch cancel {newest['dispatch_id']} ends it" in result.err


def test_a_dry_run_shows_the_split_and_its_shortfall(trioder: Trioder) -> None:
    before = trioder("dispatch", "list", "--json").json
    result = trioder("dispatch", "site", LARGE_SITE, "500", "--for", "15m", "--dry-run")
    assert result.code == 6
    assert re.search(r"^shortfall +\+100\.0 MW$", result.out, re.MULTILINE)
    assert re.search(r"BAT1 +\+300\.0", result.out)
    assert trioder("dispatch", "list", "--json").json == before


def test_a_dispatch_that_the_headend_refuses_is_1(trioder: Trioder) -> None:
    result = trioder("dispatch", "asset", GOOD, "99")
    assert result.code == 1
    assert "takes -25.0 to 25.0 MW" in result.err


def test_the_same_key_is_one_dispatch(trioder: Trioder) -> None:
    command = ["dispatch", "asset", GOOD, "1", "--for", "5s", "--idempotency-key", "once", "--json"]
    assert trioder(*command).json["dispatch_id"] == trioder(*command).json["dispatch_id"]


def test_ctrl_c_ends_the_wait_with_130_and_the_dispatch_goes_on(trioder: Trioder) -> None:
    process = trioder.start(
        *["dispatch", "asset", AWAY, "0.4", "--for", "1m", "--wait", "ack"], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        # It waits once it says how far it is.
        assert b"0 of 1 acknowledged" in stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = stderr.read()
    assert process.wait(WITHIN_S) == 130
    assert b"goes on; trioder dispatch cancel" in rest


def test_the_fleet_is_stopped_only_when_that_is_confirmed(trioder: Trioder) -> None:
    asked = trioder.process("stop", "fleet")
    assert asked.code == 2
    assert "add --yes" in asked.err
    assert trioder("stop", "fleet", "--yes", "--json").json["assets"] == 5
    try:
        deferred = trioder("dispatch", "asset", GOOD, "1", "--for", "1m", "--json").json
        assert deferred["state"] == "deferred"
        assert re.search(r"^fleet +5 ", trioder("stop", "list").out, re.MULTILINE)
    finally:
        assert trioder("resume", "fleet", "--yes", "--json").json["assets"] == 5


def test_history_as_csv(trioder: Trioder) -> None:
    eventually(lambda: len(trioder("history", GOOD, "--csv").out.splitlines()) > 2)
    rows = list(csv.DictReader(io.StringIO(trioder("history", GOOD, "--csv", "--from", "1h").out)))
    assert rows[0]["timestamp"] > rows[-1]["timestamp"]
    assert float(rows[0]["soc_pct"]) > 0
    periods = list(csv.DictReader(io.StringIO(trioder("history", GOOD, "--csv", "--resolution", "1m").out)))
    assert int(periods[0]["samples"]) >= 1
    assert "current_mw_mean" in periods[0]


def test_history_as_json_is_one_array(trioder: Trioder) -> None:
    assert len(trioder("history", GOOD, "--json", "--limit", "2").json) == 2


def test_an_alarm_is_acknowledged_by_the_beginning_of_its_id(trioder: Trioder) -> None:
    alarms = trioder("alarms", "--kind", "value_bad", "--json").json
    [alarm_id] = [alarm["alarm_id"] for alarm in alarms]
    result = trioder("alarms", "--ack", alarm_id[:8], "--comment", "seen", "--json")
    assert result.json["comment"] == "seen"
    assert f"asset {FAULTY}" in trioder("alarms", "--kind", "value_bad").out


def test_a_schedule_from_creation_to_its_end(trioder: Trioder) -> None:
    created = trioder(
        *[
            "schedule",
            "create",
            "--asset",
            GOOD,
            "--start",
            "2030-06-01T18:00",
            "--timezone",
            "Europe/Berlin",
        ],
        *["--step", "15m:5", "--step", "10m:-2", "--repeat", "FREQ=DAILY;COUNT=3", "--json"],
    ).json
    schedule_id = created["schedule_id"]
    assert [step["mw"] for step in created["steps"]] == [5.0, -2.0]
    assert trioder("schedule", "skip", schedule_id[:8], "2030-06-02T16:00:00Z").code == 0
    rows = trioder(
        "schedule", "occurrences", schedule_id, "--from", "2030-06-01", "--to", "2030-06-10", "--json"
    ).json
    assert [row["state"] for row in rows] == ["pending", "skipped", "pending"]
    assert schedule_id[:8] in trioder("schedule", "list").out
    assert trioder("schedule", "cancel", schedule_id).code == 0
    assert schedule_id[:8] not in trioder("schedule", "list").out


def test_the_zone_of_a_schedule_is_the_systems_by_default(trioder: Trioder) -> None:
    created = trioder(
        *["schedule", "create", "--fleet", "--start", "2030-06-01T18:00", "--mw", "1", "--for", "1h"],
        *["--dry-run", "--json"],
        env={"TZ": "America/New_York"},
    ).json
    assert (created["timezone"], created["next_start"]) == ("America/New_York", "2030-06-01T22:00:00.000Z")


def test_a_headend_that_is_not_there_is_3(trioder: Trioder) -> None:
    result = trioder.process("--url", "http://127.0.0.1:9", "health")
    assert result.code == 3
    assert "the headend at http://127.0.0.1:9 cannot be reached" in result.err


def test_a_stream_ends_when_its_reader_leaves(trioder: Trioder, tmp_path: Path) -> None:
    result = trioder.shell("trioder watch --json | head -n 1 > /dev/null; echo ${PIPESTATUS[0]}", tmp_path)
    assert (result.out, result.err) == ("141\n", "")


def test_a_reader_that_has_left_ends_it_with_141(trioder: Trioder) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = trioder.start("fleet", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, err) == (141, b"")


def test_without_standard_output_nothing_is_commanded(trioder: Trioder, tmp_path: Path) -> None:
    result = trioder.shell("trioder stop fleet --yes >&-; echo $?", tmp_path)
    assert result.out == "1\n"
    assert result.err.startswith("Error: standard output is closed")
    assert json.loads(trioder("fleet", "--json").out)["stopped_assets"] == 0


def test_lines_of_the_live_feed(trioder: Trioder) -> None:
    lines = trioder("watch", "--json", "--for", "2s").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "begin"
    assert {event["event"] for event in events} >= {"begin", "fleet", "telemetry", "complete", "alarms"}
    text = trioder("watch", "--site", SITE, "--for", "1s").out
    assert re.search(rf"^\S+ \S+ UTC  {GOOD}  power \S+ MW .* good  connected$", text, re.MULTILINE)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_names_are_completed_from_the_headend(
    shell: str, trioder: Trioder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "WITHIN_S", WITHIN_S)
    # What the shell's script asks.
    word = {"zsh": "2", "fish": "Agu"}[shell]
    env = {"_TRIODER_COMPLETE": f"{shell}_complete", "COMP_WORDS": "trioder asset Agu", "COMP_CWORD": word}
    result = trioder(env=env)
    assert GOOD in result.out
    assert FAULTY not in result.out


def test_bash_completes_a_name_with_spaces(trioder: Trioder, tmp_path: Path) -> None:
    (tmp_path / "complete.bash").write_text(trioder("completion", "bash").out)
    script = (
        "source ./complete.bash; COMP_WORDS=(trioder assets --site 'Agua\\ F'); COMP_CWORD=3; "
        '_trioder_completion trioder; printf "%s\n" "${COMPREPLY[@]}"'
    )
    # On a busy machine the headend may not answer within the time.
    eventually(lambda: trioder.shell(script, tmp_path).out == "Agua\\ Fria\n")


def test_completion_does_not_wait_for_a_headend_that_never_answers(trioder: Trioder) -> None:
    env = {"_TRIODER_COMPLETE": "bash_complete", "COMP_WORDS": "trioder asset A", "COMP_CWORD": "2"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        # The transport's own bound is a minute.
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = trioder.process(env={**env, "TRIODER_URL": url}, within_s=WITHIN_S / 2)
    assert (result.code, result.out.strip(), result.err) == (0, "", "")


def _blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", _blocks(), ids=lambda block: block.splitlines()[0][:40])
def test_the_examples_of_the_page_run(block: str, trioder: Trioder, tmp_path: Path) -> None:
    block = block.replace("http://127.0.0.1:3001", trioder.url).replace("\\\n", "")
    if block.startswith("if "):
        assert trioder.shell(block, tmp_path).out == "it cannot be held\n"
        return
    variables: dict[str, str] = {}
    for line in block.splitlines():
        if assignment := re.fullmatch(r"(\w+)=\$\((.*)\)", line):
            result = trioder.shell(assignment[2], tmp_path)
            variables[assignment[1]] = result.out.strip()
        elif ">" in line:
            result = trioder.shell(line, tmp_path)
        else:
            words = [variables.get(word.removeprefix("$"), word) for word in shlex.split(line, comments=True)]
            assert words[0] == "trioder"
            result = trioder(*words[1:])
        assert result.code == 0, f"{line}\n{result.out}\n{result.err}"


def test_the_page_has_every_command_in_an_example() -> None:
    text = "\n".join(_blocks())
    assert [name for name in COMMANDS if not re.search(rf"trioder {name}\b", text)] == []


def test_the_page_has_the_exit_codes() -> None:
    codes = set(re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE))
    assert codes == {str(code) for code in EXIT_CODES}
