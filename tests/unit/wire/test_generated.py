"""The committed messages are what proto/ generates."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("generated")
    subprocess.run(
        [ROOT / "scripts" / "regenerate-protos", "--into", into],
        check=True,
        env={**os.environ, "PYTHON": sys.executable},
        timeout=60,
    )
    return into


@pytest.mark.parametrize(
    "name", ["wire/agent_link_pb2.py", "wire/agent_link_pb2.pyi", "rpc/health_pb2.py", "rpc/health_pb2.pyi"]
)
def test_generated_code_is_up_to_date(regenerated: Path, name: str) -> None:
    assert (ROOT / "trioder" / name).read_text() == (regenerated / name).read_text()
