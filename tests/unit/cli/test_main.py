"""`trioder` itself: help, lazy commands, usage errors, and the programs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trioder.cli import programs
from trioder.cli.commands.fleet import fleet
from trioder.cli.exit_codes import EXIT_CODES
from trioder.cli.main import COMMANDS, root, run
from trioder.cli.options import output_of, settings_of
from trioder.cli.programs import PROGRAMS

ROOT = Path(__file__).parents[3]
PRESENT = [
    name for name in COMMANDS if name not in PROGRAMS or (ROOT / "trioder" / name / "__main__.py").exists()
]
PROGRAMS_PRESENT = [name for name in PROGRAMS if name in PRESENT]
# A command that is parsed and then asks a port of loopback where nobody listens.
NOWHERE = ["--url", "http://127.0.0.1:9"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "TRIODER_URL", "TRIODER_TOKEN", "TRIODER_CA", "TRIODER_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_help_has_every_command_and_the_exit_codes() -> None:
    text = CliRunner().invoke(root, ["--help"]).output
    assert set(COMMANDS) <= set(re.findall(r"^  ([a-z]+)  ", text, re.MULTILINE))
    assert [str(code) for code in EXIT_CODES] == re.findall(r"^  (\d+) ", text, re.MULTILINE)


def test_help_and_usage_errors_import_no_client_and_no_program() -> None:
    script = (
        "import sys\nfrom trioder.cli.main import run\n"
        "run(['--help']); run(['nonsuch']); run(['--version'])\n"
        "heavy = {'httpx2', 'msgspec', 'trio', 'quart', 'anyio', 'asyncio', 'psycopg'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", PRESENT)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(root, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: trioder {name} ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsuch"],
        ["fleet", "--nonsuch"],
        ["assets", "--sort", "colour"],
        ["dispatch", "asset", "A"],
        ["dispatch", "asset", "A", "ten"],
        ["dispatch", "asset", "A", "1", "--for", "90"],
        ["dispatch", "asset", "A", "1", "--for", "1m", "--until", "2030-01-01"],
        ["dispatch", "asset", "A", "1", "--timeout", "5s"],
        ["dispatch", "asset", "A", "1", "--wait", "end"],
        ["dispatch", "asset", "A", "1", "--wait", "ack", "--dry-run"],
        ["history", "A", "--csv", "--json"],
        ["history", "A", "--from", "yesterday"],
        ["alarms", "--comment", "seen"],
        ["schedule", "create", "--start", "2030-01-01T00:00", "--mw", "1", "--for", "1h"],
        ["schedule", "create", "--fleet", "--start", "2030-01-01T00:00", "--mw", "1"],
        ["schedule", "create", "--fleet", "--start", "2030-01-01T00:00", "--step", "5"],
        ["--profile", "nonsuch", "fleet"],
        ["--url", "headend:3001", "fleet"],
        ["--json", "launcher", "--help"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_options_stand_before_the_command_or_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @click.pass_context
    def record(context: click.Context) -> None:
        seen.append((settings_of(context).url, output_of(context).as_json))

    monkeypatch.setattr(fleet, "callback", record)
    runner = CliRunner()
    runner.invoke(root, ["--url", "http://before", "--json", "fleet"], catch_exceptions=False)
    runner.invoke(root, ["fleet", "--url", "http://after", "--json"], catch_exceptions=False)
    runner.invoke(root, ["--url", "http://before", "fleet", "--url", "http://after"], catch_exceptions=False)
    assert seen == [("http://before", True), ("http://after", True), ("http://after", False)]


def test_help_never_shows_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIODER_TOKEN", "s3cr3t")
    for arguments in (["--help"], ["fleet", "--help"], ["dispatch", "fleet", "--help"]):
        assert "s3cr3t" not in CliRunner().invoke(root, arguments).output


def test_a_program_that_is_not_installed_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(_: str) -> None:
        raise ModuleNotFoundError("No module named 'quart'", name="quart")

    monkeypatch.setattr(programs, "import_module", import_module)
    result = CliRunner().invoke(root, ["headend"])
    assert result.exit_code == 1
    assert "needs the module quart" in result.stderr
    assert "pip install 'trioder[server]'" in result.stderr


@pytest.fixture(scope="module")
def help_of_modules() -> dict[str, str]:
    """Return what `python -m` writes with --help; one process imports all of them in half the time."""
    script = (
        "import contextlib, io, json, runpy, sys\ntexts = {}\n"
        "for name in sys.argv[1:]:\n"
        "    sys.argv = [name, '--help']\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):\n"
        "        runpy.run_module(f'trioder.{name}', run_name='__main__', alter_sys=True)\n"
        "    texts[name] = text.getvalue()\n"
        "print(json.dumps(texts))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *PROGRAMS_PRESENT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    texts: dict[str, str] = json.loads(ended.stdout)
    return texts


@pytest.mark.parametrize("name", PROGRAMS_PRESENT)
def test_a_program_has_the_options_of_its_module(name: str, help_of_modules: dict[str, str]) -> None:
    ours = CliRunner().invoke(root, [name, "--help"], terminal_width=100).output
    pattern = r"^  (--[a-z-]+|[a-z-]+)  "
    options = re.findall(pattern, ours, re.MULTILINE)
    assert options
    assert options == re.findall(pattern, help_of_modules[name], re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["agent", "--asset-id", "nonsuch"], 2), (["launcher", "--assets-path", "/nonexistent"], 2)],
)
def test_a_program_has_the_exit_codes_of_its_module(arguments: list[str], code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "trioder.cli", *arguments], cwd=ROOT, capture_output=True, check=False
    )
    assert ended.returncode == code


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet, "callback", interrupt)
    assert run(["fleet"]) == 130


def test_it_is_installed_as_trioder() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["trioder"] == "trioder.cli.main:main"
