"""The console's ASGI application: which part responds to a path, and who may ask at all."""

import re
from typing import Final

import structlog

from trioder.api.http.access_log import AccessLog
from trioder.api.http.request_log import CutOffError, RequestLog
from trioder.api.http.serving import EdgeOptions
from trioder.console.exchange import Exchange, ExchangeError, Receive, Scope, Send
from trioder.console.headend import HeadendClient
from trioder.console.origins import check_origin
from trioder.console.proxy import Proxy
from trioder.console.security_headers import SECURITY_HEADERS
from trioder.console.sessions import Sessions
from trioder.console.static_files import INDEX, StaticFiles
from trioder.domain.text import preview

log = structlog.stdlib.get_logger(__name__)

_STATIC: Final = "/static/"
_API: Final = b"/api/"
_SESSION: Final = "/session"
_PAGES: Final = re.compile(
    r"/|/(?:agents|alarms|assets|audit|dispatch|docs|events|login|schedules)"
    r"|/(?:alarms|assets|dispatch|schedules|sites)/[^/]+"
)

EDGE: Final = EdgeOptions(headers=SECURITY_HEADERS, hosts_variable="CONSOLE_HTTP_HOSTS", program="console")


class ConsoleApp:
    """The ASGI application; it needs no closing.

    Args:
        headend: to which requests are passed on.
        files: of the page; by default those of the package.
        access_log: gets every request; by default each is logged at once.
    """

    def __init__(
        self,
        headend: HeadendClient,
        *,
        files: StaticFiles | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self._files = files or StaticFiles()
        self._sessions = Sessions(headend)
        self._proxy = Proxy(headend, self._sessions)
        self._logged = RequestLog(self._respond, _observe, access_log=access_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request; called by the server."""
        await self._logged(scope, receive, send)

    def end_feeds(self) -> None:
        """End the feeds that are passed on, and let no further one begin; call it when the console stops."""
        self._proxy.end_feeds()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            await self._serve(exchange)
        except ExchangeError as error:
            await _respond_error(exchange, error)
        except CutOffError as error:
            log.info("the headend broke off amid a response", path=exchange.path, reason=str(error))
            broken_off = ExchangeError(502, "the headend broke off amid its response", code="unavailable")
            await _respond_error(exchange, broken_off)
        except Exception:
            log.exception("request crashed", method=exchange.method, path=exchange.path)
            crashed = ExchangeError(500, "the console failed to answer this request; its log says why")
            await _respond_error(exchange, crashed)

    async def _serve(self, exchange: Exchange) -> None:
        path = exchange.path
        # The headend gets the path as it was sent: what only decodes to /api/ is not for it.
        is_api = exchange.raw_path.startswith(_API)
        check_origin(exchange, is_page=not is_api and path != _SESSION)
        if is_api:
            await self._proxy.serve(exchange)
        elif path == _SESSION:
            await self._sessions.serve(exchange)
        elif path.startswith(_STATIC):
            await self._files.serve(exchange, path.removeprefix(_STATIC))
        elif _PAGES.fullmatch(path):
            await self._files.serve(exchange, INDEX)
        elif exchange.method in {"GET", "HEAD"} and b"text/html" in (exchange.value(b"accept") or b""):
            # Somebody's browser: the page says that there is no such page, and shows the way on.
            await self._files.serve(exchange, INDEX, status=404)
        else:
            raise ExchangeError(404, f"there is nothing at {preview(path)}")


def _observe(*, method: str, route: str, status: int, duration_s: float) -> None:
    """The console has no metrics."""


async def _respond_error(exchange: Exchange, error: ExchangeError) -> None:
    if exchange.status:
        # The head is out: all that is left is to end the connection.
        raise CutOffError(error.message)
    await exchange.respond_error(error)
