"""`python -m trioder.agent --scenario` as a process, over sockets."""

from pathlib import Path

import pytest

from tests.integration.agent.test_executable import ONE_ASSET, environment, run
from tests.integration.agent.test_tls import running, until
from tests.integration.agent.tls_headend import serving
from tests.unit.access.certificates import Authority
from trioder.access.tls import ServerTls


def write(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


async def test_a_slow_and_lossy_link_under_tls_is_connected_again_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    client = authority.issue("agent", file="agent")
    scenario = write(
        tmp_path,
        """\
actions:
  - {do: link_slow, delay_s: 0.01, at_s: 0, assets: all}
  - {do: link_lossy, cut_every_s: 1, at_s: 0, assets: all}
""",
    )
    monkeypatch.setenv("SCENARIO", str(scenario))
    async with (
        serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", client, authority.file),
    ):
        await until(lambda: len(headend.registrations) >= 3)
        reached = headend.committed_seq
        await until(lambda: headend.committed_seq > reached)
        sequence = sorted({each.batch_seq for each in headend.batches if not each.live_only})
        assert sequence == list(range(1, sequence[-1] + 1))


def test_errors_of_a_scenario_end_the_agent_with_exit_code_2(tmp_path: Path) -> None:
    path = write(tmp_path, "actions:\n  - {do: trap, at_s: -1, assets: all}\n")
    ended = run("--scenario", str(path), env=environment(**ONE_ASSET))
    assert ended.returncode == 2
    errors = ended.stderr.decode()
    assert f"SCENARIO {path}:2: actions[0].do: is 'trap'; it must be one of trip, " in errors
    assert f"SCENARIO {path}:2: actions[0].at_s: is -1; it must be" in errors
