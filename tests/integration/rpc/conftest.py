"""Our server and grpcio's, on real sockets; certificates for them."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
import structlog
import trio

from tests.integration.rpc.tls_rig import Files
from tests.unit.access.certificates import Authority
from tests.unit.rpc.probe import DEFAULTS, Probe
from trioder.access.tls import ClientTls, ServerTls
from trioder.rpc import ConnectionOptions, Services, serve_rpc

PEER = Path(__file__).with_name("grpcio_peer.py")


class Running:
    """Our server, serving a probe."""

    def __init__(self, port: int, probe: Probe, drain: trio.Event, nursery: trio.Nursery) -> None:
        self.port = port
        self.probe = probe
        self.drain = drain
        self.nursery = nursery
        self.ended = trio.Event()


class Serve(Protocol):
    def __call__(
        self, *, options: ConnectionOptions = ..., services: Services | None = ...
    ) -> AbstractAsyncContextManager[Running]: ...


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def running(
        *, options: ConnectionOptions = DEFAULTS, services: Services | None = None
    ) -> AsyncIterator[Running]:
        probe = Probe()
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            server = Running(port, probe, trio.Event(), nursery)

            async def run(task_status: trio.TaskStatus[None]) -> None:
                serve = partial(
                    serve_rpc, listeners, services or probe.services, drain=server.drain, options=options
                )
                async with trio.open_nursery() as serving:
                    await serving.start(serve)
                    task_status.started()
                server.ended.set()

            await nursery.start(run)
            with trio.fail_after(30):
                yield server
            nursery.cancel_scope.cancel()

    return running


class GrpcioServer:
    """A grpcio server in its own process."""

    def __init__(self, *tls: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), "serve", *map(str, tls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop_gracefully(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def shared_grpcio_server() -> Iterator[GrpcioServer]:
    server = GrpcioServer()
    yield server
    server.close()


@pytest.fixture
def grpcio_server() -> Iterator[GrpcioServer]:
    server = GrpcioServer()
    yield server
    server.close()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = Authority(tmp_path)
    return Files(
        authority,
        authority.issue("localhost", "127.0.0.1", file="server"),
        authority.issue("agent-7.example", file="agent"),
    )


@pytest.fixture
def server_tls(files: Files) -> ServerTls:
    return ServerTls(*files.server, files.authority.file)


@pytest.fixture
def client_tls(files: Files) -> ClientTls:
    return ClientTls(*files.agent, files.authority.file)


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries  # type: ignore[misc]
