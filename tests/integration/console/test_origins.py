"""Requests that another site lets a browser make."""

import pytest

from tests.integration.console.rig import answering, open_console, open_scripted


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"sec_fetch_site": "", "origin": "http://127.0.0.1:{port}"}, 200),
        # A proxy in front ends TLS.
        ({"sec_fetch_site": "", "origin": "https://127.0.0.1:{port}"}, 200),
        ({"sec_fetch_site": "", "origin": "http://127.0.0.1"}, 403),
        ({"sec_fetch_site": "", "origin": "http://127.0.0.1:1"}, 403),
        ({"sec_fetch_site": "", "origin": "http://evil.example"}, 403),
        ({"sec_fetch_site": "", "origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"sec_fetch_site": "", "origin": "null"}, 403),
        ({"sec_fetch_site": ""}, 403),
        # A header that pages cannot set decides.
        ({"sec_fetch_site": "cross-site", "origin": "http://127.0.0.1:{port}"}, 403),
    ],
)
async def test_only_the_own_page_may_command(method: str, headers: dict[str, str], status: int) -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        given = {name: value.format(port=console.port) for name, value in headers.items()}
        response = await console.ask(method, "/api/stop", **given)
        assert response.status == status
        assert len(headend.requests) == (1 if status == 200 else 0)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_cannot_open_feeds_or_read_the_session(site: str) -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        for path in ("/api/stream", "/session"):
            response = await console.ask("GET", path, sec_fetch_site=site)
            assert (response.status, response.json["error"]) == (403, "forbidden")
        assert headend.requests == []


@pytest.mark.parametrize("site", ["cross-site", "none", ""])
async def test_a_link_on_another_site_leads_to_a_page(site: str) -> None:
    async with open_console(1) as console:
        assert (await console.ask("GET", "/alarms", sec_fetch_site=site)).status == 200


async def test_somebody_who_types_an_address_of_the_api_sees_it() -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        assert (await console.ask("GET", "/api/fleet", sec_fetch_site="none")).status == 200
