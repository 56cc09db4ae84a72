"""`python -m scripts.benchmarks.http_load`: the clients of `rest`, with little work for each response.

Reads one JSON object from standard input: `host`, `port`, `seconds`, and `requests`, a list for each
connection, which sends them in turn, the next one once the response is complete. Writes what it has counted.
"""

import json
import selectors
import socket
import sys
import time

_READ_BYTES = 1024 * 1024
_END_OF_HEAD, _END_OF_CHUNKS = b"\r\n\r\n", b"\r\n0\r\n\r\n"


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int], requests: list[bytes]) -> None:
        self._address = address
        self._requests = requests
        self._next = 0
        self.dial()

    def dial(self) -> None:
        """Connect, and send the next request."""
        self.socket = socket.create_connection(self._address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        self.head, self.missing, self.tail = b"", -1, b""
        self.socket.sendall(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)

    def received(self, data: bytes) -> bool:
        """Whether this completes the response."""
        if not data:
            raise SystemExit(f"a connection was closed within a response: {self.head!r}")
        if not self.head:
            head, found, body = (self.tail + data).partition(_END_OF_HEAD)
            if not found:
                self.tail = head
                return False
            self.head = head.lower()
            if self.head[9:12] not in {b"200", b"304"}:
                raise SystemExit(f"{self.head!r} {body!r}")
            _, found, rest = self.head.partition(b"\r\ncontent-length: ")
            if found or self.head[9:12] == b"304":
                self.missing = int(rest.partition(b"\r\n")[0] or 0)
            data = body
        if self.missing < 0:
            self.tail = (self.tail + data)[-len(_END_OF_CHUNKS) :]
            return self.tail == _END_OF_CHUNKS
        self.missing -= len(data)
        return not self.missing


def main() -> None:
    """Run the clients for the time."""
    task = json.load(sys.stdin)
    responses = received_bytes = 0
    selector = selectors.DefaultSelector()
    for requests in task["requests"]:
        client = Client((task["host"], task["port"]), [request.encode() for request in requests])
        selector.register(client.socket, selectors.EVENT_READ, client)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() - began_s < task["seconds"]:
        for key, _ in selector.select(1.0):
            client = key.data
            data = client.socket.recv(_READ_BYTES)
            received_bytes += len(data)
            if not client.received(data):
                continue
            responses += 1
            if b"\r\nconnection: close" not in client.head:
                client.ask()
                continue
            # As after a thousand responses.
            selector.unregister(client.socket)
            client.socket.close()
            client.dial()
            selector.register(client.socket, selectors.EVENT_READ, client)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    counted = {"responses": responses, "bytes": received_bytes, "took_s": took_s, "cpu_s": used_s}
    print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    main()
