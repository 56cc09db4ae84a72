"""The threat model in docs/security.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_test_that_the_threat_model_names_exists_once() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    sources = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    defined = re.findall(r"^(?:async )?def (test_\w+)\(", sources, re.MULTILINE)
    assert len(named) > 20
    assert {name: defined.count(name) for name in named} == dict.fromkeys(named, 1)
