"""What the command line makes of responses: exit codes, hostile texts, and the token that nothing shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.headends import WITHIN_S, Trioder
from tests.integration.cli.stub_headend import StubHeadend, open_stub
from trioder.cli import completing
from trioder.schemas.dispatch import DispatchResponse

SECRET = "s3cr3t-0123456789abcdef"
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp\u2066\n\r\x9b" + "x" * 5000
ASSET_ID = "ce004c89-74dc-590e-b279-cce2c6364bc3"
DISPATCH_ID = "de7f9c04-525b-4ee5-885e-26ad87bd682f"


@pytest.fixture
def stub() -> Iterator[StubHeadend]:
    with open_stub() as stub:
        yield stub


@pytest.fixture
def trioder(stub: StubHeadend, tmp_path: Path) -> Trioder:
    return Trioder(url=stub.url, home=tmp_path)


def asset(**values: Any) -> dict[str, Any]:
    row = {
        "id": ASSET_ID,
        "site_id": ASSET_ID,
        "site_name": "Site",
        "name": "Asset",
        "location": "Somewhere",
        "capacity_mwhr": 100.0,
        "max_mw": 25.0,
        "min_mw": -25.0,
        "efficiency": 0.9,
        "ramp_rate_mw_per_min": 900.0,
        "charge_efficiency": 0.9,
        "discharge_efficiency": 0.9,
        "min_soc_pct": 0.0,
        "max_soc_pct": 100.0,
        "aux_load_mw": 0.0,
        "self_discharge_pct_per_day": 0.0,
    }
    return {**row, **values}


def dispatched(**values: Any) -> dict[str, Any]:
    row = {
        **dict.fromkeys(DispatchResponse.__struct_fields__),
        "by_code": {},
        "dispatch_id": DISPATCH_ID,
        "target": {"kind": "asset", "id": ASSET_ID},
        "mw": 5.0,
        "allocated_mw": 5.0,
        "shortfall_mw": 0.0,
        "duration_s": 60,
        "valid_until": None,
        "reversion_mw": 0.0,
        "expires_in_s": 60.0,
        "strategy": None,
        "resplit": True,
        "dispatched_at": "2026-01-02T03:04:05.000Z",
        "ends_at": "2026-01-02T03:05:05.000Z",
        "state": "sent",
        "members": 1,
        "left_out": 0,
        "by_state": {"sent": 1},
        "resplits": [],
        "tenant": "default",
        "requested_by": "somebody",
        "priority": "operator",
        "allocations": [],
        "status": "ok",
        "asset_id": ASSET_ID,
        "delivery": "sent",
        "dry_run": False,
    }
    return {**row, **values}


def allocation(state: str, reason: str) -> dict[str, Any]:
    return {"asset_id": ASSET_ID, "mw": 5.0, "code": "", "allocation": "", "state": state, "reason": reason}


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 1), (401, 4), (403, 4), (404, 5), (409, 1), (429, 1), (500, 1), (503, 3), (200, 1)],
)
def test_exit_codes_of_responses(status: int, code: int, stub: StubHeadend, trioder: Trioder) -> None:
    # A command that is not repeated: the test does not wait for the retries of others.
    path = f"/alarms/{DISPATCH_ID}/acknowledge"
    stub.responses[path] = (status, {"error": "some_code", "message": "the reason is 42"})
    result = trioder("alarms", "--ack", DISPATCH_ID)
    assert result.code == code
    assert result.out == ""
    assert result.err.startswith("Error: ")


def test_a_stop_is_sent_again_while_the_headend_does_not_answer(stub: StubHeadend, trioder: Trioder) -> None:
    away = (503, {"error": "unavailable", "message": "it starts"})
    stub.responses["/stop"] = [away, (200, {"stops": [], "assets": 0})]
    assert trioder("stop", "fleet", "--yes").code == 0


def test_a_page_of_another_server_is_an_error_on_one_line(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/stop"] = (200, b"<html>\x1b[2J" + b"x" * 100_000)
    result = trioder("stop", "fleet", "--yes")
    assert result.code == 1
    assert "\x1b" not in result.err
    assert len(result.err) < 2000


def test_unauthorized_says_where_a_token_is_set(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/whoami"] = (401, {"error": "unauthorized", "message": "a token is needed"})
    assert "set TRIODER_TOKEN, --token-file or a profile" in trioder("whoami").err


@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_the_token_is_sent_and_never_shown(status: int, stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/whoami"] = (status, {"error": "x", "message": "y"})
    for arguments in (["whoami"], ["whoami", "--json"], ["whoami", "--help"], ["--help"], ["dispatch"]):
        result = trioder(*arguments, env={"TRIODER_TOKEN": SECRET})
        assert SECRET not in result.out + result.err
    assert set(stub.authorizations) == {f"Bearer {SECRET}"}


def test_a_token_from_a_profile_is_sent(stub: StubHeadend, tmp_path: Path) -> None:
    config = tmp_path / ".config" / "trioder" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[profiles.plant]\nurl = "{stub.url}"\ntoken = "{SECRET}"\n')
    config.chmod(0o600)
    trioder = Trioder(url="", home=tmp_path)
    trioder("whoami", "--profile", "plant")
    trioder("--profile", "plant", "whoami")
    assert stub.authorizations == [f"Bearer {SECRET}"] * 2
    config.chmod(0o644)
    result = trioder("whoami", "--profile", "plant")
    assert (result.code, len(stub.authorizations)) == (2, 2)
    assert SECRET not in result.err


def test_hostile_names_are_harmless(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/assets"] = (200, [asset(name=HOSTILE, site_name=HOSTILE, location=HOSTILE)])
    stub.responses[f"/assets/{ASSET_ID}"] = (200, asset(name=HOSTILE, site_name=HOSTILE, location=HOSTILE))
    stub.responses["/telemetry"] = stub.responses["/alarms"] = (200, [])
    for arguments in (["assets"], ["asset", ASSET_ID], ["asset", HOSTILE], ["assets", "--json"]):
        result = trioder(*arguments)
        assert result.code == 0
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", result.out)
    table = trioder("assets").out
    assert r"\x1b[2J\x1b]0;owned\x07\u202egnp\u2066\n\r\x9b" in table
    assert max(map(len, table.splitlines())) < 300


def test_json_has_the_whole_name(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/assets"], stub.responses["/telemetry"] = (200, [asset(name=HOSTILE)]), (200, [])
    result = trioder("assets", "--json")
    assert json.loads(result.out)[0]["name"] == HOSTILE


def test_hostile_errors_are_harmless(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/stop"] = (400, {"error": "bad_request", "message": HOSTILE})
    result = trioder("stop", "fleet", "--yes")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", result.err)
    assert len(result.err) < 1200


def test_hostile_names_are_not_completed(
    stub: StubHeadend, trioder: Trioder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "WITHIN_S", WITHIN_S)
    stub.responses["/assets"] = (200, [asset(name="A\x1b[2J"), asset(name="Ace"), asset(name="A" * 5000)])
    env = {"_TRIODER_COMPLETE": "zsh_complete", "COMP_WORDS": "trioder asset A", "COMP_CWORD": "2"}
    assert trioder(env=env).out.split("\n")[:2] == ["plain", "Ace"]


def test_a_name_that_several_have_is_refused_with_their_ids(stub: StubHeadend, trioder: Trioder) -> None:
    other = ASSET_ID.replace("ce004c89", "ce004c80")
    stub.responses["/assets"] = (200, [asset(), asset(id=other)])
    result = trioder("asset", "Asset")
    assert result.code == 2
    assert ASSET_ID in result.err
    assert other in result.err


@pytest.mark.parametrize(
    ("goal", "state"),
    [("end", "not_tracked"), ("end", "failed"), ("ack", "rejected"), ("end", "superseded")],
)
def test_a_dispatch_that_is_not_fulfilled_is_6(
    goal: str, state: str, stub: StubHeadend, trioder: Trioder
) -> None:
    stub.responses[f"/assets/{ASSET_ID}"] = (200, asset())
    stub.responses["/dispatch"] = (200, dispatched())
    record = dispatched(
        state=state, by_state={state: 1}, allocations=[allocation(state, "its fuse is blown")]
    )
    stub.responses[f"/dispatch/{DISPATCH_ID}"] = (200, record)
    result = trioder("dispatch", "asset", ASSET_ID, "5", "--for", "1m", "--wait", goal)
    assert result.code == 6
    assert f"Asset {state.replace('_', ' ')}: its fuse is blown" in result.err


def test_a_dispatch_without_a_response_says_how_to_repeat_it(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses[f"/assets/{ASSET_ID}"] = (200, asset())
    stub.responses["/dispatch"] = (503, {"error": "unavailable", "message": "the database is away"})
    result = trioder("dispatch", "asset", ASSET_ID, "5")
    assert result.code == 3
    key = re.search(r"with --idempotency-key (\S+) dispatches it if it was not", result.err)
    assert key is not None
    assert set(stub.keys) == {None, key[1]}


def test_an_asset_whose_share_others_do_is_no_shortcoming(stub: StubHeadend, trioder: Trioder) -> None:
    resplit = {
        "at": "2026-01-02T03:04:06.000Z",
        "dropped": [{"asset_id": ASSET_ID, "reason": "it failed"}],
        "adjusted": [],
        "joined": [],
        "changed": 1,
        "shortfall_mw": 0.0,
    }
    record = dispatched(
        by_state={"failed": 1, "completed": 1},
        allocations=[allocation("failed", ""), {**allocation("completed", ""), "asset_id": DISPATCH_ID}],
        resplits=[resplit],
    )
    stub.responses["/assets"], stub.responses["/dispatch"] = (200, [asset()]), (200, dispatched())
    stub.responses[f"/dispatch/{DISPATCH_ID}"] = (200, record)
    assert trioder("dispatch", "fleet", "5", "--for", "1m", "--wait", "end").code == 0


def test_a_degraded_headend_is_1_with_its_state(stub: StubHeadend, trioder: Trioder) -> None:
    stub.responses["/health"] = (503, {"status": "degraded", "db": "error", "db_reason": "away"})
    result = trioder("health")
    assert result.code == 1
    assert re.search(r"^database +error: away$", result.out, re.MULTILINE)
