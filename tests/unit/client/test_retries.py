"""What is sent again, when, and how often: by a client without a network, in virtual time."""

import random
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from trioder.client import (
    AsyncHeadendClient,
    HeadendClient,
    HeadendError,
    HeadendUnavailable,
    NotFound,
    TooManyRequests,
    UnexpectedResponse,
    reads,
)
from trioder.client import sync_client as sync_module
from trioder.client.retries import Attempts

WHOAMI = {"name": "a", "kind": "token", "role": "viewer", "tenant": "*", "sites": None, "expires_at": None}
Answer = httpx2.Response | httpx2.TransportError


def ok(body: object = WHOAMI) -> httpx2.Response:
    return httpx2.Response(200, json=body)


def refusal(status: int, **headers: str) -> httpx2.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"error": "code", "message": "why"}, headers=headers)


class Network:
    """Answers one request after the other, and records them."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.at_s: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if len(self.answers) > 1:
            answer = self.answers.pop(0)
        else:
            [answer] = self.answers
        if isinstance(answer, httpx2.TransportError):
            raise answer
        # A response is read once.
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    async def asynchronous(self, request: httpx2.Request) -> httpx2.Response:
        self.at_s.append(trio.current_time())
        return self(request)


def client_of(network: Network, **options: Any) -> AsyncHeadendClient:
    return AsyncHeadendClient(
        "http://headend", token="", transport=httpx2.MockTransport(network.asynchronous), **options
    )


COMMANDS: list[Callable[[AsyncHeadendClient], Any]] = [
    lambda client: client.stop(fleet=True),
    lambda client: client.resume(fleet=True),
    lambda client: client.cancel_dispatch("d"),
    lambda client: client.cancel_schedule("s"),
    lambda client: client.skip_occurrence("s", start="2026-01-01T00:00:00Z"),
    lambda client: client.acknowledge_alarm("a"),
    lambda client: client.set_site_limits("s", export_limit_mw=1.0),
    lambda client: client.remove_site_limits("s"),
    lambda client: client.reload_fleet(),
]


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadError("reset"),
        httpx2.ReadTimeout("silent"),
        httpx2.RemoteProtocolError("cut off"),
        refusal(503),
        refusal(502),
        refusal(429),
        refusal(408),
    ],
    ids=repr,
)
async def test_a_read_is_sent_again_until_there_is_an_answer(autojump_clock: object, answer: Answer) -> None:
    network = Network(answer, answer, ok())
    async with client_of(network) as client:
        assert (await client.whoami()).name == "a"
    assert [request.url.path for request in network.requests] == ["/whoami"] * 3


async def test_retries_are_bounded_in_number_and_time(autojump_clock: object) -> None:
    network = Network(httpx2.ConnectError("refused"))
    async with client_of(network) as client:
        with pytest.raises(HeadendUnavailable, match=r"^GET http://headend/whoami: ConnectError: refused$"):
            await client.whoami()
    assert len(network.requests) == 5
    assert network.at_s[-1] - network.at_s[0] <= 0.25 + 0.5 + 1.0 + 2.0


async def test_no_retries_can_be_asked_for(autojump_clock: object) -> None:
    network = Network(refusal(503))
    async with client_of(network, retries=0) as client:
        with pytest.raises(HeadendUnavailable):
            await client.whoami()
    assert len(network.requests) == 1


async def test_a_retry_waits_for_retry_after(autojump_clock: object) -> None:
    network = Network(refusal(429, retry_after="7"), refusal(503, retry_after="30"), ok())
    async with client_of(network) as client:
        await client.whoami()
    assert [round(at_s - network.at_s[0]) for at_s in network.at_s] == [0, 7, 37]


async def test_a_headend_that_needs_more_than_a_minute_is_left_to_the_caller(autojump_clock: object) -> None:
    network = Network(refusal(429, retry_after="61"))
    async with client_of(network) as client:
        with pytest.raises(TooManyRequests) as raised:
            await client.whoami()
    assert raised.value.retry_after_s == 61.0
    assert len(network.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (500, UnexpectedResponse)])
async def test_what_would_fail_again_is_not_sent_again(
    autojump_clock: object, status: int, kind: type[HeadendError]
) -> None:
    network = Network(refusal(status))
    async with client_of(network) as client:
        with pytest.raises(kind):
            await client.whoami()
    assert len(network.requests) == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("answer", [httpx2.ReadError("reset"), refusal(503, retry_after="1")], ids=repr)
async def test_a_command_without_a_key_is_never_sent_again(
    autojump_clock: object, command: Callable[[AsyncHeadendClient], Any], answer: Answer
) -> None:
    network = Network(answer)
    async with client_of(network) as client:
        with pytest.raises(HeadendUnavailable):
            await command(client)
    assert len(network.requests) == 1


async def test_a_dispatch_is_sent_again_with_the_same_key_and_body(autojump_clock: object) -> None:
    network = Network(httpx2.ReadError("reset"), refusal(503, retry_after="5"), refusal(404))
    async with client_of(network) as client:
        with pytest.raises(NotFound):
            await client.dispatch(fleet=True, mw=1.0)
        network.answers = [refusal(404)]
        with pytest.raises(NotFound):
            await client.dispatch(fleet=True, mw=1.0)
    keys = [request.headers["idempotency-key"] for request in network.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len({request.content for request in network.requests}) == 1


async def test_a_key_of_the_caller_is_used(autojump_clock: object) -> None:
    network = Network(refusal(404))
    async with client_of(network) as client:
        with pytest.raises(NotFound):
            await client.create_schedule(
                fleet=True, mw=1.0, duration_s=60, start="2026-01-01T00:00:00Z", idempotency_key="mine"
            )
    assert network.requests[0].headers["idempotency-key"] == "mine"


def test_delays_are_random_and_double() -> None:
    failure = HeadendUnavailable("away")
    firsts = {Attempts(reads.fleet(), retries=1, rng=random.Random(n)).delay_s(failure) for n in range(50)}
    assert len(firsts) == 50
    assert max(firsts) <= 0.25
    attempts = Attempts(reads.fleet(), retries=9, rng=random.Random(1))
    delays_s = [attempts.delay_s(failure) for _ in range(9)]
    assert all(delay_s <= min(5.0, 0.25 * 2**n) for n, delay_s in enumerate(delays_s))
    with pytest.raises(HeadendUnavailable):
        attempts.delay_s(failure)


def test_the_client_for_threads_has_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(sync_module.time, "sleep", slept_s.append)
    network = Network(httpx2.ConnectError("refused"), refusal(429, retry_after="7"), ok())
    with HeadendClient("http://headend", token="", transport=httpx2.MockTransport(network)) as client:
        assert client.whoami().name == "a"
        assert slept_s[1] == 7.0
        network.answers = [refusal(503)]
        before = len(network.requests)
        with pytest.raises(HeadendUnavailable):
            client.stop(fleet=True)
        assert len(network.requests) == before + 1
        with pytest.raises(HeadendUnavailable):
            list(client.history("a"))
        assert len(network.requests) == before + 1 + 5


async def test_a_response_that_is_not_json_is_named(autojump_clock: object) -> None:
    network = Network(httpx2.Response(200, content=msgspec.json.encode([1])))
    async with client_of(network) as client:
        with pytest.raises(UnexpectedResponse, match="the response to GET /whoami is 200: Expected `object`"):
            await client.whoami()
