"""Who may import whom: the contracts in pyproject.toml hold."""

from pathlib import Path

from importlinter.cli import lint_imports

PROJECT = Path(__file__).parents[2]


def test_no_module_imports_upward_and_there_is_no_circle(tmp_path: Path) -> None:
    # What is broken is printed.
    assert lint_imports(config_filename=str(PROJECT / "pyproject.toml"), cache_dir=str(tmp_path)) == 0
