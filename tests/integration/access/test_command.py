"""`python -m trioder.access` as real processes: output, exit codes, concurrent and killed runs."""

import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.access.documents import ASSET, OTHER_SITE, SITE
from tests.unit.access.fleets import UNKNOWN, two_tenants
from trioder.access.ca import certificate_serial
from trioder.access.document import AccessDocument, read_document
from trioder.fleet import dump_fleet

ROOT = Path(__file__).parents[3]
KILLED = str(Path(__file__).with_name("killed.py"))
VARIABLES = ("ACCESS_DIR", "STATE_DIR", "ASSETS_PATH")


class Command:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access = folder / "var" / "access"
        self.env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self.env["PYTHONPATH"] = str(ROOT)

    def start(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "trioder.access")
    ) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], given: str = "") -> tuple[int, str, str]:
        out, err = process.communicate(given, timeout=60)
        return process.returncode, out, err

    def run(self, *arguments: str, given: str = "") -> str:
        code, out, err = self.finish(self.start(*arguments), given)
        assert code == 0, err
        return out

    def refused(self, *arguments: str, given: str = "") -> str:
        code, out, err = self.finish(self.start(*arguments), given)
        assert (code, out) == (2, ""), err
        return err

    @property
    def document(self) -> AccessDocument:
        return read_document(self.access / "access.json")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def ready(command: Command) -> Command:
    command.run("init", "--trust-domain", "example.org")
    return command


def test_a_certificate_and_a_token_are_made_and_listed(ready: Command) -> None:
    assert ready.run("issue-server", "localhost", "127.0.0.1") == "var/access/server/localhost.crt\n"
    assert ready.run("issue-agent", "a1", "--site", SITE) == "var/access/agents/a1.crt\n"
    secret = ready.run(
        "token", "create", "console", "--role", "operator", "--tenant", "*", "--expires-days", "9"
    )
    listed = json.loads(ready.run("list", "--json"))
    (token,) = json.loads(ready.run("token", "list", "--json"))
    assert secret.startswith("trd_")
    assert secret.count("\n") == 1
    assert [(entry["kind"], entry["name"], entry["state"]) for entry in listed["certificates"]] == [
        ("server", "localhost", "valid"),
        ("agent", "a1", "valid"),
    ]
    assert [entry["site_ids"] for entry in listed["agents"]] == [[SITE]]
    assert (token["name"], token["role"], token["tenant"], token["state"]) == (
        "console",
        "operator",
        "*",
        "valid",
    )
    assert "sha256" not in token
    assert "a1" in ready.run("list")
    assert "console" in ready.run("token", "list")


def test_what_was_issued_is_revoked(ready: Command) -> None:
    ready.run("issue-agent", "a1", "--site", SITE)
    ready.run("token", "create", "console", "--role", "viewer", "--tenant", "alpha")
    assert ready.run("revoke", "a1").startswith("revoked agent a1 ")
    assert ready.run("token", "revoke", "console") == "revoked console\n"
    assert [entry["state"] for entry in json.loads(ready.run("list", "--json"))["certificates"]] == [
        "revoked"
    ]
    assert [entry["state"] for entry in json.loads(ready.run("token", "list", "--json"))] == ["revoked"]


def test_a_shard_for_each_line_has_its_certificate(ready: Command) -> None:
    lines = [json.dumps({"agent": f"shard-{n}of3", "asset_ids": [ASSET]}) for n in (1, 2, 3)]
    out = ready.run("issue-agents", given="\n".join(lines) + "\n")
    assert out.splitlines() == [f"var/access/agents/shard-{n}of3.crt" for n in (1, 2, 3)]
    for path in out.splitlines():
        # Raises where the key is not the certificate's.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            ready.folder / path, (ready.folder / path).with_suffix(".key")
        )


def test_all_agents_of_a_launcher_have_their_certificates_in_one_command(ready: Command) -> None:
    (ready.folder / "assets.yaml").write_text(dump_fleet(two_tenants(), form="yaml"))
    code, shards, err = ready.finish(ready.start("--print-shards", program=("-m", "trioder.launcher")))
    assert (code, err) == (0, "")
    out = ready.run("issue-agents", given=shards)
    assert len(out.splitlines()) == len(shards.splitlines()) == len(ready.document.agents)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "standard input has no agent"),
        ('{"agent": "a1"}\n{"agent": 2}', r"standard input, line 2: Expected `str`, got `int`"),
        ('{"agent": "a1", "sites": []}', "line 1: Object contains unknown field `sites`"),
    ],
)
def test_a_line_that_is_no_agent_is_refused_with_its_number(ready: Command, given: str, message: str) -> None:
    assert message in ready.refused("issue-agents", given=given)
    assert ready.document.certificates == ()


def test_the_fleet_file_is_checked_where_it_is(ready: Command) -> None:
    (ready.folder / "assets.yaml").write_text(dump_fleet(two_tenants(), form="yaml"))
    assert f"Error: the site is '{UNKNOWN}'; no site" in ready.refused("issue-agent", "a1", "--site", UNKNOWN)
    create = ("token", "create", "x", "--role", "viewer", "--tenant", "alpha")
    assert f"the site is '{UNKNOWN}'" in ready.refused(*create, "--site", UNKNOWN)


def test_a_fleet_file_with_errors_and_one_that_is_named_and_missing_are_refused(ready: Command) -> None:
    (ready.folder / "assets.yaml").write_text("sites: 1")
    assert "assets.yaml" in ready.refused("issue-agent", "a1", "--site", SITE)
    assert "nowhere" in ready.refused("issue-agent", "a1", "--site", SITE, "--assets-path", "nowhere")


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("token", "list"),
        ("revoke", "a1"),
        ("issue-server", "localhost"),
        ("issue-agent", "a1", "--site", OTHER_SITE),
        ("token", "create", "x", "--role", "viewer", "--tenant", "*"),
    ],
)
def test_without_init_one_sentence_says_so(command: Command, arguments: tuple[str, ...]) -> None:
    last = command.refused(*arguments).splitlines()[-1]
    assert last.startswith("Error: var/access")
    assert "run python -m trioder.access init" in last


def test_a_second_init_changes_nothing(ready: Command) -> None:
    before = (ready.access / "ca.key").read_bytes()
    assert "var/access has a CA already" in ready.refused("init")
    assert (ready.access / "ca.key").read_bytes() == before


def test_an_authority_that_expires_soon_is_announced(command: Command) -> None:
    command.run("init", "--days", "10")
    code, _, err = command.finish(command.start("issue-server", "localhost"))
    assert code == 0
    assert "Warning: the CA expires at" in err


def test_two_runs_of_init_at_the_same_time_make_one_authority(command: Command) -> None:
    runs = [command.start("init") for _ in range(4)]
    codes = sorted(command.finish(run)[0] for run in runs)
    assert codes == [0, 2, 2, 2]
    command.run("issue-server", "localhost")


CREATE_TEN = """
import sys
from pathlib import Path
from trioder.access.directory import AccessDirectory
from trioder.access.grants import AgentRequest
directory = AccessDirectory(Path("var/access"), user=sys.argv[1])
for number in range(10):
    name = f"{sys.argv[1]}-{number}"
    directory.create_token(name, role="viewer", tenant="*")
    directory.issue_agents([AgentRequest(agent=name, site_ids=(sys.argv[2],))])
"""


def test_runs_at_the_same_time_lose_nothing(ready: Command) -> None:
    users = ("ann", "bob", "cid", "dee")
    runs = [ready.start(user, SITE, program=("-c", CREATE_TEN)) for user in users]
    results = [ready.finish(run) for run in runs]
    assert [(code, err) for code, _, err in results] == [(0, "")] * len(users)
    names = {f"{user}-{number}" for user in users for number in range(10)}
    assert {entry.name for entry in ready.document.tokens} == names
    assert {entry.agent for entry in ready.document.agents} == names
    assert {entry.name for entry in ready.document.certificates} == names


def test_a_token_that_cannot_be_printed_is_to_be_revoked(ready: Command) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "trioder.access",
                "token",
                "create",
                "lost",
                "--role",
                "viewer",
                "--tenant",
                "alpha",
                "--access-dir",
                str(ready.access),
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr.startswith("Error: the token lost was made, and cannot be printed: No space left")
    assert done.returncode == 1


@pytest.mark.parametrize("files", range(3))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_init_does_not_block_the_next(command: Command, files: int, moment: str) -> None:
    killed = command.finish(command.start(str(files), moment, "init", program=(KILLED,)))
    assert killed[0] == -signal.SIGKILL
    if (files, moment) == (2, "after"):
        # All of it was made.
        assert "has a CA already" in command.refused("init")
    else:
        command.run("init")
    command.run("issue-server", "localhost")


@pytest.mark.parametrize("files", range(3))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_issue_leaves_no_certificate_that_is_not_on_file_and_does_not_block_the_next(
    ready: Command, files: int, moment: str
) -> None:
    ready.run("issue-agent", "a1", "--site", SITE)
    command = ("issue-agent", "a1", "--site", OTHER_SITE)
    assert ready.finish(ready.start(str(files), moment, *command, program=(KILLED,)))[0] == -signal.SIGKILL
    known = {entry.serial for entry in ready.document.certificates}
    certificate, key = ready.access / "agents" / "a1.crt", ready.access / "agents" / "a1.key"
    assert certificate_serial(certificate) in known
    ready.run(*command, "--if-needed")
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
    assert [entry.site_ids for entry in ready.document.agents] == [(OTHER_SITE,)]
