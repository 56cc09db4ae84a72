"""`python -m scripts.benchmarks.http_load`: the clients of `rest`, with little work for each response.

Reads one JSON object from standard input: `host`, `port`, `seconds`, and `requests`, a list for each
connection, which sends them in turn, the next one once the response is complete. Writes what it has counted.
"""

import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable
from itertools import cycle
from selectors import EVENT_READ, DefaultSelector

_READ_BYTES = 1024 * 1024
_END_OF_CHUNKS = b"\r\n0\r\n\r\n"


def client(
    address: tuple[str, int], requests: Iterable[bytes], counted: Counter[str]
) -> Generator[socket.socket, bytes, None]:
    """Yield the connection to be read from, and get what was read; connects again where it is closed."""
    connection = None
    for request in cycle(requests):
        connection = connection or socket.create_connection(address)
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += yield connection
        head, _, body = received.partition(b"\r\n\r\n")
        if head[9:12] not in {b"200", b"304"}:
            raise SystemExit(f"{request!r}: {received!r}")
        if b"\r\nTransfer-Encoding" in head:
            while body[-len(_END_OF_CHUNKS) :] != _END_OF_CHUNKS:
                body = body[-len(_END_OF_CHUNKS) :] + (yield connection)
        else:
            missing = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0) - len(body)
            while missing:
                missing -= len((yield connection))
        counted["responses"] += 1
        if b"\r\nconnection: close" in head:
            connection = None


def main() -> None:
    """Run the clients for the time."""
    task, counted, selector = json.load(sys.stdin), Counter[str](), DefaultSelector()
    for requests in task["requests"]:
        running = client((task["host"], task["port"]), [request.encode() for request in requests], counted)
        selector.register(next(running), EVENT_READ, running)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() - began_s < task["seconds"]:
        for key, _ in selector.select(1.0):
            data = key.fileobj.recv(_READ_BYTES)  # type: ignore[union-attr]  # it is a socket
            if not data:
                raise SystemExit("a connection was closed within a response")
            counted["bytes"] += len(data)
            if (connection := key.data.send(data)) is not key.fileobj:
                selector.unregister(key.fileobj)
                selector.register(connection, EVENT_READ, key.data)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    print(json.dumps({**counted, "took_s": took_s, "cpu_s": used_s}), flush=True)


if __name__ == "__main__":
    main()
