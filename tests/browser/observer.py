"""What pages and workers do that a user would not see: requests, console lines, and problems.

Problems are errors on the console, uncaught exceptions, violations of the Content-Security-Policy, dialogs of
the browser, crashes, and requests to another origin. Each fails the test, unless the test expects it.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.browser.devtools import DevToolsConnection, DevToolsError, EventHandler

_DOMAINS = ("Runtime", "Network", "Log", "Audits", "Inspector")
_INTERNAL = {"about", "blob", "data"}
_LINE_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that a page or a worker made; `source` says which."""

    source: str
    method: str
    url: str
    kind: str
    body: str

    @property
    def origin(self) -> str:
        """Its scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def path(self) -> str:
        """Its path with the query."""
        parts = urlsplit(self.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")


class Observer:
    """Requests, console lines and problems of all pages and workers of one browser context."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.requests: list[Request] = []
        self.console: list[str] = []
        self._problems: list[str] = []
        self._expected: list[re.Pattern[str]] = []

    def expect(self, pattern: str) -> None:
        """Let problems that match this regular expression pass, those before as well."""
        self._expected.append(re.compile(pattern))

    @property
    def problems(self) -> list[str]:
        """What no test expects, one line each."""
        return [
            line for line in self._problems if not any(pattern.search(line) for pattern in self._expected)
        ]

    async def follow(self, connection: DevToolsConnection, session: str, source: str) -> None:
        """Record what happens in a page or a worker from now on."""
        recorder = _Recorder(self, source)
        for event, handler in recorder.handlers().items():
            connection.on(event, handler, session=session)
        for domain in _DOMAINS:
            try:
                await connection.send(f"{domain}.enable", session=session)
            except DevToolsError:
                # Workers have some of the domains.
                if source.startswith("page"):
                    raise

    def add(self, source: str, text: str, *, problem: bool) -> None:
        """Record a line, shortened to 500 characters."""
        line = f"{source}: {text}"[:_LINE_LENGTH]
        self.console.append(line)
        if problem:
            self._problems.append(line)

    def requested(self, path: str) -> list[Request]:
        """Return the requests whose path contains this, in their order."""
        return [request for request in self.requests if path in request.path]


class _Recorder:
    """Records the events of one page or worker."""

    def __init__(self, observer: Observer, source: str) -> None:
        self._observer = observer
        self._source = source

    def handlers(self) -> dict[str, EventHandler]:
        return {
            "Runtime.consoleAPICalled": self._on_console,
            "Runtime.exceptionThrown": self._on_exception,
            "Log.entryAdded": self._on_log,
            "Audits.issueAdded": self._on_issue,
            "Network.requestWillBeSent": self._on_request,
            "Inspector.targetCrashed": self._on_crash,
        }

    def _add(self, text: str, *, problem: bool = True) -> None:
        self._observer.add(self._source, text, problem=problem)

    def _on_console(self, event: dict[str, Any]) -> None:
        text = " ".join(map(_as_text, event["args"]))
        self._add(f"console.{event['type']}: {text}", problem=event["type"] in {"error", "assert"})

    def _on_exception(self, event: dict[str, Any]) -> None:
        self._add(f"uncaught: {exception_text(event['exceptionDetails'])}")

    def _on_log(self, event: dict[str, Any]) -> None:
        entry = event["entry"]
        text = f"{entry['source']} {entry['level']}: {entry['text']} {entry.get('url', '')}"
        self._add(text, problem=entry["level"] == "error")

    def _on_issue(self, event: dict[str, Any]) -> None:
        details = event["issue"]["details"].get("contentSecurityPolicyIssueDetails")
        if details is not None:
            kind, directive = details["contentSecurityPolicyViolationType"], details["violatedDirective"]
            self._add(f"CSP: {kind} {directive} {details.get('blockedURL', '')}")

    def _on_crash(self, _: dict[str, Any]) -> None:
        # A worker's end is reported so, too.
        self._add("crashed", problem=self._source.startswith("page"))

    def _on_request(self, event: dict[str, Any]) -> None:
        details = event["request"]
        request = Request(
            source=self._source,
            method=details["method"],
            url=details["url"],
            kind=event.get("type", "Other"),
            body=details.get("postData", ""),
        )
        self._observer.requests.append(request)
        if urlsplit(request.url).scheme not in _INTERNAL and request.origin != self._observer.origin:
            self._add(f"a request to another origin: {request.url}")


def exception_text(details: dict[str, Any]) -> str:
    """Return what DevTools says of an exception, with its stack where it has one."""
    exception = details.get("exception", {})
    text = exception.get("description") or str(exception.get("value", ""))
    return f"{details['text']} {text}".strip()


def _as_text(argument: dict[str, Any]) -> str:
    if "value" in argument:
        return str(argument["value"])
    return str(argument.get("description") or argument.get("unserializableValue") or argument["type"])
