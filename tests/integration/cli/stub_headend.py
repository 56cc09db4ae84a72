"""A server with canned responses, for what a real headend does not do on request."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True, kw_only=True)
class StubHeadend:
    """The responses by paths, and headers of the requests that were received.

    Attributes:
        responses: of each path without its query, a status and a body: JSON, or bytes as they are. Of a list
            each is sent once, the last one for ever.
    """

    url: str
    responses: dict[str, Any] = field(default_factory=dict)
    authorizations: list[str | None] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def open_stub() -> Iterator[StubHeadend]:
    """Yield a server on a port of its own."""
    stub = StubHeadend(url="")

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            stub.authorizations.append(self.headers.get("Authorization"))
            stub.keys.append(self.headers.get("Idempotency-Key"))
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            unknown = (404, {"error": "not_found", "message": "there is no such thing"})
            response = stub.responses.get(self.path.partition("?")[0], unknown)
            if isinstance(response, list):
                response = response.pop(0) if len(response) > 1 else response[0]
            status, body = response
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _respond  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
