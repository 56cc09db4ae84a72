"""Lists in parts: which page follows, and rows from lines that are cut anywhere."""

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import httpx2
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trioder.client import AsyncHeadendClient, HeadendClient, HeadendUnavailable, UnexpectedResponse, reads
from trioder.client.lists import PAGE_ROWS, LineDecoder, LineList, PageCursor
from trioder.schemas.access import AuditRow
from trioder.schemas.resources import HistoryRow

AUDIT = [
    AuditRow(
        number=number,
        time="2026-01-01T00:00:00.000Z",
        principal="a",
        kind="token",
        tenant="*",
        peer="",
        action="stop",
        target="",
        outcome="ok",
        reason="",
        request_id="",
    )
    for number in range(2 * PAGE_ROWS, 0, -1)
]
SAMPLE = HistoryRow(
    asset_id="a",
    site_id="s",
    timestamp="2026-01-01T00:00:00.000Z",
    soc_mwhr=1.0,
    soc_pct=50.0,
    capacity_mwhr=2.0,
    current_mw=None,
    setpoint_mw=0.0,
    max_mw=1.0,
    min_mw=-1.0,
    status="idle",
    source="agent",
    quality="good",
)


class Audit:
    """Answers `/audit` with the oldest rows."""

    def __init__(self, rows: int) -> None:
        self.rows = AUDIT[-rows:] if rows else []
        self.asked: list[tuple[str | None, int]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        before, limit = request.url.params.get("before"), int(request.url.params["limit"])
        self.asked.append((before, limit))
        page = [row for row in self.rows if before is None or row.number < int(before)][:limit]
        return httpx2.Response(200, content=msgspec.json.encode(page))


@pytest.mark.parametrize(
    ("rows", "limit", "asked"),
    [
        (0, None, [(None, 1000)]),
        (3, None, [(None, 1000)]),
        (1000, None, [(None, 1000), ("1", 1000)]),
        (1500, None, [(None, 1000), ("501", 1000)]),
        (2000, None, [(None, 1000), ("1001", 1000), ("1", 1000)]),
        (1500, 1200, [(None, 1000), ("501", 200)]),
        (1500, 1000, [(None, 1000)]),
        (1500, 7, [(None, 7)]),
        (3, 7, [(None, 7)]),
        (3, 0, []),
    ],
)
async def test_pages_follow_each_other_to_the_end_or_the_limit(
    rows: int, limit: int | None, asked: list[tuple[str | None, int]]
) -> None:
    audit = Audit(rows)
    expected = audit.rows if limit is None else audit.rows[:limit]
    transport = httpx2.MockTransport(audit)
    with HeadendClient("http://headend", transport=transport) as client:
        assert list(client.audit(limit=limit)) == expected
    assert audit.asked == asked
    async with AsyncHeadendClient("http://headend", transport=transport) as client:
        assert [row async for row in client.audit(limit=limit)] == expected
    assert audit.asked == asked * 2


def test_pages_of_dispatches_with_allocations_are_as_long_as_the_headend_permits() -> None:
    page = PageCursor(reads.dispatches(allocations=True)).next_page()
    assert page is not None
    assert ("limit", "20") in page.query


def test_a_page_is_not_read_before_it_is_needed() -> None:
    audit = Audit(2000)
    with HeadendClient("http://headend", transport=httpx2.MockTransport(audit)) as client:
        rows = client.audit()
        assert audit.asked == []
        for _ in range(1000):
            next(rows)
        assert len(audit.asked) == 1


@given(
    numbers=st.lists(st.integers(0, 10**6), max_size=20),
    cuts=st.lists(st.integers(0, 200), max_size=20),
    ends_with_newline=st.booleans(),
)
def test_lines_are_decoded_wherever_they_are_cut(
    numbers: list[int], cuts: list[int], ends_with_newline: bool
) -> None:
    text = b"\n".join(b"%d" % number for number in numbers)
    if ends_with_newline and numbers:
        text += b"\n"
    decoder = LineDecoder[int](
        LineList(operation=reads.history("a").operation, decoder=msgspec.json.Decoder(int))
    )
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    decoded = [row for start, end in pairwise(places) for row in decoder.decode(text[start:end])]
    assert decoded + decoder.end() == numbers


class Parts(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in parts, and may fail."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts = parts
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            await trio.lowlevel.checkpoint()
            if isinstance(part, Exception):
                raise part
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


LINE = msgspec.json.encode(SAMPLE) + b"\n"


def transport_of(parts: Parts) -> httpx2.MockTransport:
    return httpx2.MockTransport(lambda _request: httpx2.Response(200, stream=parts))


async def test_rows_come_while_the_response_does() -> None:
    parts = Parts(LINE[:10], LINE[10:] + LINE * 2, RuntimeError("not read yet"))
    with (
        HeadendClient("http://headend", transport=transport_of(parts)) as client,
        client.history("a") as rows,
    ):
        assert [next(rows) for _ in range(3)] == [SAMPLE] * 3
    assert parts.closed
    parts.closed = False
    other = AsyncHeadendClient("http://headend", transport=transport_of(parts))
    async with other, other.history("a") as later:
        assert [await anext(later) for _ in range(3)] == [SAMPLE] * 3
    assert parts.closed


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (httpx2.RemoteProtocolError("cut off"), HeadendUnavailable),
        (b'{"asset_id": "a"}', UnexpectedResponse),
        (LINE[:20], UnexpectedResponse),
    ],
)
async def test_a_response_that_is_not_complete_is_an_error_after_its_rows(
    last: bytes | Exception, kind: type[Exception]
) -> None:
    parts = Parts(LINE * 2, last)
    with HeadendClient("http://headend", transport=transport_of(parts)) as client:
        rows = client.history("a")
        assert [next(rows), next(rows)] == [SAMPLE] * 2
        with pytest.raises(kind):
            next(rows)
    assert parts.closed
    parts.closed = False
    async with AsyncHeadendClient("http://headend", transport=transport_of(parts)) as client:
        others = client.history("a")
        assert [await anext(others), await anext(others)] == [SAMPLE] * 2
        with pytest.raises(kind):
            await anext(others)
        with pytest.raises(StopAsyncIteration):
            await anext(others)
    assert parts.closed


async def test_a_list_whose_read_was_cancelled_does_not_seem_complete() -> None:
    parts = Parts(LINE, LINE)
    async with (
        AsyncHeadendClient("http://headend", transport=transport_of(parts)) as client,
        client.history("a") as rows,
    ):
        assert await anext(rows) == SAMPLE
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(rows)
        with pytest.raises(HeadendUnavailable, match="a read was cancelled"):
            await anext(rows)


class SamePage:
    """Answers each request for a page with the same rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(self, _request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=msgspec.json.encode(AUDIT[: self.rows]))


@pytest.mark.parametrize("rows", [PAGE_ROWS, PAGE_ROWS + 1])
def test_a_server_that_ignores_the_page_that_was_requested_ends_the_list(rows: int) -> None:
    transport = httpx2.MockTransport(SamePage(rows))
    client = HeadendClient("http://localhost", token="", transport=transport)
    with client, pytest.raises(UnexpectedResponse):
        list(client.audit())


def test_a_line_without_an_end_is_not_collected() -> None:
    decoder = LineDecoder(LineList.of(HistoryRow, reads.history("a").operation))
    decoder.decode(b"x" * 900_000)
    with pytest.raises(msgspec.DecodeError, match="longer than"):
        decoder.decode(b"x" * 200_000)
