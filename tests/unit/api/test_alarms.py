"""`/alarms` and `/events`: lists with filters and pages, acknowledgement, refusals, and the metrics."""

from typing import Any

import msgspec
import pytest

from tests.unit.api.rest import START_S, Rest, open_rest, uuid_of
from tests.unit.api.tenants import asset_ids, open_tenants, secret_of, site_id
from tests.unit.headend.test_alarms_restored import AlarmStore
from trioder.domain.alarms import KINDS, Alarm, AlarmFilter, AlarmSource, EventFilter, EventRecord
from trioder.store.interface import StoreUnavailableError

START_MS = int(START_S * 1000)


def alarm_of(number: int = 0, **fields: Any) -> Alarm:
    """An alarm of one asset of the first site."""
    values = {
        "alarm_id": uuid_of(70_000 + number),
        "kind": "device_fault",
        "severity": "major",
        "source": AlarmSource("asset", uuid_of(1000), f"FAULT_{number}"),
        "tenant": "default",
        "agent_id": "agent-1",
        "asset_ids": (uuid_of(1000),),
        "site_ids": (uuid_of(0),),
        "count": 1,
        "reason": "of the device",
        "raised_ms": START_MS + number,
    }
    return Alarm(**values | fields)


def raise_alarms(rest: Rest, *alarms: Alarm) -> None:
    for alarm in alarms:
        rest.headend.alarms.register.raise_alarm(alarm)


async def acknowledge(rest: Rest, alarm_id: str, body: bytes | None = b"{}", **options: Any) -> Any:
    headers = {} if body is None else {"content-type": "application/json"}
    return await rest.ask(
        "POST", f"/alarms/{alarm_id}/acknowledge", data=body, **{"headers": headers} | options
    )


async def test_an_alarm_is_shown_with_what_it_is_of(autojump_clock: object) -> None:
    async with open_rest() as rest:
        raise_alarms(rest, alarm_of(value=1.5))
        row = {
            "alarm_id": uuid_of(70_000),
            "kind": "device_fault",
            "severity": "major",
            "state": "open",
            "source_kind": "asset",
            "source_id": uuid_of(1000),
            "detail": "FAULT_0",
            "tenant": "default",
            "agent_id": "agent-1",
            "site_id": uuid_of(0),
            "asset_id": uuid_of(1000),
            "assets": 1,
            "reason": "of the device",
            "value": 1.5,
            "raised_at": "2026-01-01T00:00:00.000Z",
            "cleared_at": None,
            "acknowledged_at": None,
            "acknowledged_by": None,
            "comment": "",
        }
        assert await rest.get("/alarms") == [row]
        whole = row | {"asset_ids": [uuid_of(1000)], "site_ids": [uuid_of(0)]}
        assert await rest.get(f"/alarms/{uuid_of(70_000)}") == whole
        assert await rest.get(f"/alarms/{uuid_of(70_000).upper()}") == whole


async def test_alarms_are_listed_newest_first_by_state_kind_severity_site_asset_and_agent(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest:
        away = AlarmSource("agent", "agent-2")
        raise_alarms(
            rest,
            alarm_of(0),
            alarm_of(1, severity="minor"),
            alarm_of(
                2,
                kind="away",
                source=away,
                agent_id="agent-2",
                asset_ids=(uuid_of(1002), uuid_of(1003)),
                site_ids=(uuid_of(1),),
                count=2,
            ),
        )
        register = rest.headend.alarms.register
        register.clear(register.find(uuid_of(70_001)))

        async def numbers(query: str) -> list[int]:
            found = await rest.get(f"/alarms?{query}")
            return [int(row["alarm_id"][-8:], 16) - 0xABCD0000 - 70_000 for row in found]

        assert await numbers("") == [2, 0]
        assert await numbers("state=all") == [2, 1, 0]
        assert await numbers("state=cleared") == [1]
        assert await numbers("kind=away") == [2]
        assert await numbers("state=all&severity=minor") == [1]
        assert await numbers(f"state=all&site_id={uuid_of(0)}") == [1, 0]
        assert await numbers(f"asset_id={uuid_of(1003)}") == [2]
        assert await numbers("agent_id=agent-1") == [0]
        assert await numbers("state=all&limit=2") == [2, 1]
        assert await numbers(f"state=all&limit=2&before={uuid_of(70_001)}") == [0]
        assert await numbers(f"state=all&before={uuid_of(70_000)}") == []


async def test_acknowledging_is_repeatable_and_audited(autojump_clock: object) -> None:
    async with open_rest() as rest:
        raise_alarms(rest, alarm_of())
        status, body = await acknowledge(rest, uuid_of(70_000), b'{"comment": "on my way"}')
        assert (status, body["acknowledged_by"], body["comment"]) == (200, "anonymous", "on my way")
        assert body["acknowledged_at"] == "2026-01-01T00:00:00.000Z"
        assert await acknowledge(rest, uuid_of(70_000)) == (200, body)
        assert await acknowledge(rest, uuid_of(70_000), None) == (200, body)
        status, body = await acknowledge(rest, uuid_of(70_000), b'{"comment": ""}')
        assert (status, body["comment"]) == (200, "")
        audit = await rest.get("/audit")
        assert {(row["action"], row["target"]) for row in audit} == {("alarm.acknowledge", uuid_of(70_000))}
        assert len(audit) == 4
        events = await rest.get("/events")
        assert [row["event_type"] for row in events] == ["ALARM_ACKNOWLEDGED"] * 2 + ["ALARM_RAISED"]
        assert {row["alarm_id"] for row in events} == {uuid_of(70_000)}


async def test_an_alarm_that_only_the_database_has_is_acknowledged_there(autojump_clock: object) -> None:
    class Store(AlarmStore):
        async def find_alarm(self, alarm_id: str, **_query: object) -> Alarm | None:
            return self.by_id.get(alarm_id)

    store = Store()
    store.by_id[uuid_of(70_009)] = alarm_of(9, cleared_ms=START_MS + 20)
    async with open_rest(store=store) as rest:
        status, body = await acknowledge(rest, uuid_of(70_009), b'{"comment": "late"}')
        assert (status, body["state"], body["comment"]) == (200, "cleared", "late")
        assert store.by_id[uuid_of(70_009)].comment == "late"
        found = await rest.get("/alarms?state=cleared")
        assert [row["comment"] for row in found] == ["late"]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/alarms?state=closed", 400, "state is 'closed'; it must be open or cleared or all"),
        ("/alarms?state=open&state=all", 400, "state is given 2 times"),
        ("/alarms?kind=Away", 400, "kind is 'Away'; it must be away or stale"),
        ("/alarms?severity=fatal", 400, "severity is 'fatal'"),
        ("/alarms?limit=0", 400, "limit is '0'"),
        ("/alarms?limit=10001", 400, "limit is '10001'"),
        ("/alarms?before=7", 400, "alarm_id is '7'|before is '7'"),
        (f"/alarms?before={uuid_of(5)}", 404, "there is no alarm"),
        ("/alarms?asset_id=x", 400, "asset_id is 'x'"),
        (f"/alarms?asset_id={uuid_of(5)}", 404, "there is no asset"),
        (f"/alarms?site_id={uuid_of(5)}", 404, "there is no site"),
        ("/alarms?agent_id=", 400, "agent_id is empty"),
        ("/alarms?agent_id=%00", 400, "agent_id is"),
        ("/alarms?who=me", 400, "there is no query parameter 'who' here"),
        ("/alarms/open", 400, "alarm_id is 'open'; it must be a UUID"),
        (f"/alarms/{uuid_of(5)}", 404, "there is no alarm"),
        (f"/alarms/{uuid_of(70_000)}?x=1", 400, "it takes none"),
        ("/alarms/%F0%9F%94%A5", 400, "alarm_id is"),
        ("/events?before=0", 400, "before is '0'"),
        ("/events?before=99999999999999999999", 400, "before is"),
        ("/events?origin=me", 400, "origin is 'me'"),
        (f"/events?asset_id={uuid_of(5)}", 404, "there is no asset"),
        (f"/events?event_type={'x' * 300}", 400, "event_type is"),
        ("/events?site_id=1", 400, "site_id is '1'; it must be a UUID"),
        (f"/events?site_id={uuid_of(5)}", 404, "there is no site"),
    ],
)
async def test_a_query_that_breaks_a_rule_is_refused(
    autojump_clock: object, path: str, status: int, says: str
) -> None:
    async with open_rest() as rest:
        raise_alarms(rest, alarm_of())
        found, body = await rest.ask("GET", path)
        assert found == status, body
        assert any(one in body["message"] for one in says.split("|")), body


@pytest.mark.parametrize(
    ("body", "content_type", "status", "says"),
    [
        (b"", "application/json", 400, "the body is empty"),
        (b"[]", "application/json", 400, "the body does not fit"),
        (b"null", "application/json", 400, "the body does not fit"),
        (b'{"comment": 7}', "application/json", 400, "Expected `str | null`, got `int`"),
        (b'{"coment": "x"}', "application/json", 400, "unknown field `coment`"),
        (b'{"comment": "a", "comment": "b"}', "application/json", 400, "more than once"),
        (b'{"comment": "two\\nlines"}', "application/json", 400, "it must be printable, on one line"),
        (b'{"comment": "\\u0000"}', "application/json", 400, "it must be printable"),
        (msgspec.json.encode({"comment": "x" * 501}), "application/json", 400, "length <= 500"),
        (b'{"comment": "\xff"}', "application/json", 400, "the body is not JSON"),
        (b"comment=x", "application/x-www-form-urlencoded", 415, "content-type is"),
        (b'{"comment": "x"}', "text/plain", 415, "content-type is"),
        (b'{"comment": "' + b"x" * 1_100_000 + b'"}', "application/json", 413, "larger than"),
        (b"[" * 100_000, "application/json", 400, "the body"),
    ],
)
async def test_an_acknowledgement_that_breaks_a_rule_is_refused_and_changes_nothing(
    autojump_clock: object, body: bytes, content_type: str, status: int, says: str
) -> None:
    async with open_rest() as rest:
        raise_alarms(rest, alarm_of())
        found, answer = await acknowledge(rest, uuid_of(70_000), body, headers={"content-type": content_type})
        assert (found, says in answer["message"]) == (status, True), answer
        [row] = await rest.get("/alarms")
        assert row["acknowledged_at"] is None


@pytest.mark.parametrize("alarm_id", [uuid_of(5), "1", "x" * 5_000, "..", "%00"])
async def test_what_is_no_alarm_cannot_be_acknowledged(autojump_clock: object, alarm_id: str) -> None:
    async with open_rest() as rest:
        status, _ = await acknowledge(rest, alarm_id)
        assert status in {400, 404}
        status, _ = await rest.ask("GET", f"/alarms/{uuid_of(5)}/acknowledge")
        assert status == 405


async def test_while_the_database_is_away_open_alarms_are_listed_and_cleared_ones_answer_503(
    autojump_clock: object,
) -> None:
    class Away(AlarmStore):
        async def alarms(self, *_which: object, **_query: object) -> list[Alarm]:
            raise StoreUnavailableError("gone")

        find_alarm = events = alarms  # type: ignore[assignment]  # all raise

    async with open_rest(store=Away()) as rest:
        raise_alarms(rest, alarm_of())
        assert len(await rest.get("/alarms")) == 1
        assert (await rest.get(f"/alarms/{uuid_of(70_000)}"))["state"] == "open"
        for path in ("/alarms?state=all", "/alarms?state=cleared", f"/alarms/{uuid_of(5)}", "/events"):
            status, body = await rest.ask("GET", path)
            assert (status, body["error"]) == (503, "unavailable")


async def test_only_operators_acknowledge_and_only_what_is_theirs(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        own, other = tenants.alarm_ids["alpha"], tenants.alarm_ids["beta"]

        async def acknowledged(alarm_id: str, role: str) -> int:
            status, _ = await tenants.ask(
                "POST", f"/alarms/{alarm_id}/acknowledge", secret=secret_of(role, "alpha")
            )
            return status

        assert await acknowledged(own, "viewer") == 403
        assert await acknowledged(other, "admin") == 404
        assert await acknowledged(own, "operator") == 200
        audit = await tenants.get("/audit", secret=secret_of("admin", "alpha"))
        assert [row["outcome"] for row in audit if row["target"].startswith(own)] == ["ok"]


async def test_a_caller_of_one_site_sees_what_concerns_that_site_only(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        register = tenants.rest.headend.alarms.register
        sites = (site_id("alpha"), site_id("alpha", 1))
        register.raise_alarm(alarm_of(1, tenant="alpha", site_ids=sites, asset_ids=None, count=5_000))
        register.raise_alarm(alarm_of(2, tenant="alpha", site_ids=None, asset_ids=None, count=50_000))
        register.raise_alarm(alarm_of(3, tenant="*", site_ids=(), asset_ids=(), count=0))
        at_site = await tenants.get("/alarms", secret=secret_of("site", "alpha"))
        assert [row["alarm_id"] for row in at_site] == [tenants.alarm_ids["alpha"]]
        assert len(await tenants.get("/alarms", secret=secret_of("viewer", "alpha"))) == 3
        assert len(await tenants.get("/alarms", secret=secret_of("admin", "*"))) == 5
        events = await tenants.get("/events", secret=secret_of("site", "alpha"))
        assert [row["asset_id"] for row in events] == [asset_ids("alpha")[0]]


async def test_the_metrics_count_what_is_open_within_the_scope(autojump_clock: object) -> None:
    async with open_tenants() as tenants:

        async def lines(role: str, tenant: str) -> set[str]:
            response = await tenants.raw("GET", "/metrics", secret=secret_of(role, tenant))
            text = (await response.get_data()).decode()
            return {line for line in text.splitlines() if "alarms_open" in line and not line.startswith("#")}

        own = await lines("viewer", "alpha")
        assert 'trioder_alarms_open{kind="dispatch_rejected",severity="major"} 1.0' in own
        assert 'trioder_alarms_open{kind="database_away",severity="critical"} 0.0' in own
        assert 'trioder_tenant_alarms_open{tenant="alpha"} 1.0' in own
        assert len([line for line in own if line.startswith("trioder_alarms_open")]) == len(KINDS)
        assert 'trioder_alarms_open{kind="dispatch_rejected",severity="major"} 2.0' in await lines(
            "admin", "*"
        )


async def test_without_a_database_the_newest_ten_thousand_are_kept(autojump_clock: object) -> None:
    async with open_rest() as rest:
        register = rest.headend.alarms.register
        for number in range(10_050):
            alarm = alarm_of(number)
            register.raise_alarm(alarm)
            register.clear(alarm)
        kept = register.newest(AlarmFilter(state="cleared"), limit=20_000)
        assert (len(kept), kept[-1].source.detail) == (10_000, "FAULT_50")
        found = await rest.get("/alarms?state=cleared&limit=300")
        assert (len(found), found[0]["detail"]) == (300, "FAULT_10049")
        assert await rest.get("/alarms") == []
        events = await rest.headend.store.events(EventFilter(), limit=20_000)
        assert len(events) == 10_000


async def test_an_agents_event_is_listed(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.headend.store.record_event(
            EventRecord(
                at_ms=START_MS,
                origin="agent",
                agent_id="agent-1",
                asset_id=uuid_of(1000),
                tenant="default",
                site_ids=(uuid_of(0),),
                event_type="DOOR_OPEN",
                severity="info",
                message="the door is open",
            )
        )
        expected = {
            "number": 1,
            "time": "2026-01-01T00:00:00.000Z",
            "origin": "agent",
            "agent_id": "agent-1",
            "asset_id": uuid_of(1000),
            "event_type": "DOOR_OPEN",
            "severity": "info",
            "message": "the door is open",
            "tenant": "default",
            "alarm_id": None,
        }
        assert await rest.get("/events") == [expected]
        assert await rest.get(f"/events?asset_id={uuid_of(1000)}&event_type=DOOR_OPEN&origin=agent") == [
            expected
        ]
        assert await rest.get("/events?before=1") == []
        assert await rest.get("/events?agent_id=other") == []


async def test_the_index_links_both(autojump_clock: object) -> None:
    async with open_rest() as rest:
        links = (await rest.get("/"))["links"]
        assert (links["alarms"], links["events"]) == ("/alarms", "/events")
