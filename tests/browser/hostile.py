"""A proxy between a console and its headend that makes each text hostile that people or devices choose.

Fleet files, agents and users are checked by the headend; the page must not depend on that.
"""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}&quot;'\""
RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}"
# Longer than what anything shows; without a space at which a line could break.
LENGTH = 5000
# What people and devices choose. Not the kinds and states of the protocol, and not ids that are in links.
_KEYS = frozenset(
    {
        *("acknowledged_by", "asset_name", "comment", "detail", "location", "message", "name", "principal"),
        *("reason", "requested_by", "site_name", "user", "version"),
    }
)
# The headend's own text.
_DESCRIPTION = "/openapi.json"
_REQUEST_HEADERS = ("accept", "content-type", "content-length", "idempotency-key", "last-event-id")
_RESPONSE_HEADERS = ("content-type", "location", "retry-after", "link", "cache-control")


def hostile(text: str) -> str:
    """Return a hostile text of 5,000 characters; of another text another one."""
    return f"{MARKUP}{RIGHT_TO_LEFT}{text}".ljust(LENGTH, "W")


def poison(value: Any, key: str = "") -> Any:
    """Return a JSON value with hostile texts."""
    if isinstance(value, dict):
        return {name: poison(member, name) for name, member in value.items()}
    if isinstance(value, list):
        return [poison(member, key) for member in value]
    return hostile(value) if isinstance(value, str) and value and key in _KEYS else value


class _Server(ThreadingHTTPServer):
    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self._connections: list[http.client.HTTPConnection] = []

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        self._connections.append(connection)
        return connection

    def end_streams(self) -> None:
        for connection in self._connections:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        connection = self.server.connect()
        # The browser leaves, or the test ends.
        with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            self._exchange(connection)
        connection.close()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _exchange(self, connection: http.client.HTTPConnection) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: self.headers[name] for name in _REQUEST_HEADERS if name in self.headers}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        kind = response.getheader("content-type", "")
        self.send_response(response.status)
        for name in _RESPONSE_HEADERS:
            if value := response.getheader(name):
                self.send_header(name, value)
        if kind.startswith("text/event-stream"):
            self.end_headers()
            for line in response:
                self.wfile.write(_poisoned_line(line))
            return
        answer = response.read()
        if kind.startswith("application/json") and self.path != _DESCRIPTION:
            answer = json.dumps(poison(json.loads(answer))).encode()
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


@contextmanager
def open_hostile_proxy(upstream: str) -> Iterator[str]:
    """Pass requests on to the REST at host:port; yields the host:port of the proxy."""
    with _Server(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.end_streams()
            thread.join()


def _poisoned_line(line: bytes) -> bytes:
    if not line.startswith(b"data:"):
        return line
    return b"data: " + json.dumps(poison(json.loads(line[5:]))).encode() + b"\n"
