"""`POST /dispatch` to one asset: what is accepted, and the errors of everything else."""

import json

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.api.rest import open_rest, uuid_of

ASSET = uuid_of(1000)


def body(**fields: object) -> bytes:
    return json.dumps({"asset_id": ASSET, "mw": 5.0, **fields}).encode()


async def test_a_dispatch_to_a_connected_asset_is_sent(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1)
        status, response = await rest.post(body(duration_s=60))
        assert status == 200
        dispatch_id = response["dispatch_id"]
        accepted = {
            name: response[name] for name in ("status", "asset_id", "mw", "duration_s", "delivery", "state")
        }
        assert accepted == {
            "status": "ok",
            "asset_id": ASSET,
            "mw": 5.0,
            "duration_s": 60,
            "delivery": "sent",
            "state": "sent",
        }
        [setpoint] = (await session.mailbox.take()).dispatches
        assert (setpoint.dispatch_id, setpoint.mw, setpoint.duration_s) == (dispatch_id, 5.0, 60)


async def test_the_shortfall_of_one_asset_is_reported_like_that_of_a_group(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        rest.report(0, current_mw=0.0, soc_mwhr=0.0, available_mw=(0.0, 8.0))
        group = json.dumps({"asset_ids": [ASSET], "mw": 5.0, "duration_s": 3600, "dry_run": True}).encode()
        _, many = await rest.post(group)
        _, one = await rest.post(body(duration_s=3600))
        for name in ("status", "mw", "allocated_mw", "shortfall_mw"):
            assert one[name] == many[name]
        assert (one["status"], one["shortfall_mw"], one["allocations"][0]["mw"]) == ("shortfall", 5.0, 5.0)
        [setpoint] = (await session.mailbox.take()).dispatches
        assert setpoint.mw == 5.0


async def test_a_dispatch_to_a_disconnected_asset_is_queued(autojump_clock: object) -> None:
    async with open_rest() as rest:
        status, response = await rest.post(body(asset_id=ASSET.upper()))
        assert (status, response["asset_id"]) == (200, ASSET)
        assert (response["delivery"], response["duration_s"]) == ("queued", None)


@pytest.mark.parametrize("mw", [10.0, -8.0, 0, 10])
async def test_the_limits_themselves_are_within_bounds(autojump_clock: object, mw: float) -> None:
    async with open_rest() as rest:
        assert (await rest.post(body(mw=mw)))[0] == 200


@pytest.mark.parametrize("mw", [10.001, -8.001, 1e300, -1e300])
async def test_out_of_bounds_is_refused_with_the_numbers(autojump_clock: object, mw: float) -> None:
    async with open_rest() as rest:
        status, response = await rest.post(body(mw=mw))
        assert (status, response["error"]) == (400, "out_of_bounds")
        for number in (mw, -8.0, 10.0):
            assert str(number) in response["message"]


async def test_an_unknown_asset_is_not_found(autojump_clock: object) -> None:
    async with open_rest() as rest:
        status, response = await rest.post(body(asset_id=uuid_of(7)))
        assert (status, response["error"]) == (404, "not_found")
        assert uuid_of(7) in response["message"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"mw=5", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'\xef\xbb\xbf{"mw": 1}', "not JSON"),
        (body() + b"x", "not JSON"),
        (b"null", "`object`"),
        (b"[]", "`object`"),
        (b"[" * 100_000, "`object`"),
        (b'{"a":' * 100_000, "unknown field `a`"),
        (b"{}", "`mw`"),
        (b'{"mw": 1}', "`asset_id`"),
        (b'{"asset_id": "%s"}' % ASSET.encode(), "`mw`"),
        (body(mw="5"), "$.mw"),
        (body(mw=None), "$.mw"),
        (body(mw=True), "$.mw"),
        (body(mw=[5]), "$.mw"),
        (body(mw=float("nan")), "not JSON"),
        (body(mw=float("inf")), "not JSON"),
        (body().replace(b"5.0", b"1e400"), "$.mw"),
        (body().replace(b"5.0", b"9" * 5000), "$.mw"),
        (body(mwh=5), "`mwh`"),
        (body(**{"x\n\x1b[31m": 5}), "unknown field"),
        (body(asset_id=5), "$.asset_id"),
        (body(asset_id=""), "UUID"),
        (body(asset_id="nope"), "'nope'"),
        (body(asset_id=ASSET + "\0"), "\\x00"),
        (body(asset_id=ASSET.replace("-", "")), "UUID"),
        (body(asset_id="{" + ASSET + "}"), "UUID"),
        (b'{"asset_id": "\xff", "mw": 1}', "not JSON"),
        (b'{"asset_id": "\\ud800", "mw": 1}', "not JSON"),
        (body(duration_s=0), "duration_s is 0"),
        (body(duration_s=-3), "duration_s is -3"),
        (body(duration_s=10**12), "duration_s is 1000000000000"),
        (body(duration_s=2**64), "duration_s"),
        (body().replace(b"}", b', "duration_s": ' + b"9" * 5000 + b"}"), "$.duration_s"),
        (body(duration_s=1.5), "$.duration_s"),
        (body(duration_s="60"), "$.duration_s"),
        (body(duration_s=True), "$.duration_s"),
        (body().replace(b"}", b', "mw": -5}'), "'mw' more than once"),
    ],
)
async def test_a_bad_body_is_refused_with_the_reason(
    autojump_clock: object, sent: bytes, reason: str
) -> None:
    async with open_rest() as rest:
        status, response = await rest.post(sent)
        assert (status, response["error"]) == (400, "bad_request"), response
        assert reason in response["message"]
        assert response["message"].isprintable()
        assert len(response["message"]) < 300
        assert rest.headend.counters.dispatches_sent + rest.headend.counters.dispatches_queued == 0


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
async def test_a_body_of_another_type_is_refused(autojump_clock: object, content_type: str) -> None:
    async with open_rest() as rest:
        status, response = await rest.post(body(), content_type)
        assert (status, response["error"]) == (415, "unsupported_media_type")
        assert "application/json" in response["message"]


async def test_a_utf_8_charset_is_accepted(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert (await rest.post(body(), "Application/JSON; charset=UTF-8"))[0] == 200


async def test_a_body_that_is_too_large_is_refused(autojump_clock: object) -> None:
    async with open_rest() as rest:
        status, response = await rest.post(body() + b" " * 1_000_000)
        assert (status, response["error"]) == (413, "payload_too_large")
        assert "1000000" in response["message"]


async def test_parameters_in_the_query_are_refused(autojump_clock: object) -> None:
    async with open_rest() as rest:
        status, response = await rest.ask("POST", f"/dispatch?mw=5&asset_id={ASSET}")
        assert (status, response["error"]) == (400, "bad_request")
        assert "'mw'" in response["message"]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_bodies = st.binary() | st.builds(
    lambda value: json.dumps(value).encode(),
    _values
    | st.dictionaries(st.sampled_from(["asset_id", "mw", "duration_s", "x"]), _values | st.just(ASSET)),
)


def test_any_body_gets_a_well_formed_response() -> None:
    @settings(max_examples=150, deadline=None)
    @given(sent=_bodies)
    def check(sent: bytes) -> None:
        async def post() -> None:
            async with open_rest() as rest:
                status, response = await rest.post(sent)
                assert status in {200, 400, 404}
                assert set(response) >= ({"dispatch_id"} if status == 200 else {"error", "message"})

        trio.run(post, clock=trio.testing.MockClock(autojump_threshold=0))

    check()
