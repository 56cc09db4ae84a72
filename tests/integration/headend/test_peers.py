"""A headend and peers of its gRPC port that are no agents: what they cost it, and who notices."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import trio

from tests.integration.headend.test_main import running, variables
from tests.unit.headend.driver import registration
from tests.unit.headend.parts import make_fleet
from trioder.fleet import dump_fleet
from trioder.process.addresses import Address
from trioder.rpc import Channel, RpcError, StatusCode, connect, open_channel
from trioder.wire.service import AGENT_LINK_STREAM

MEBIBYTE = 2**20


class Bytes:
    """A message as it is."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802  # as protobuf names it
        return self._data


def length(count: int) -> bytes:
    return bytes([count & 0x7F | 0x80, count >> 7 & 0x7F | 0x80, count >> 14 & 0x7F | 0x80, count >> 21])


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


async def metrics(http: str) -> dict[str, float]:
    def ask() -> str:
        with urlopen(f"http://{http}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    lines = (await trio.to_thread.run_sync(ask)).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "assets.yaml"
    path.write_text(dump_fleet(make_fleet(2), form="yaml"))
    return path


@asynccontextmanager
async def open_peer(grpc: str) -> AsyncIterator[Channel]:
    host, port = grpc.rsplit(":", 1)
    address = Address(host, int(port))
    async with open_channel(await connect(host, int(port)), authority=str(address)) as channel:
        yield channel


async def refusal(channel: Channel, message: Any) -> RpcError:
    try:
        async with channel.open_call(AGENT_LINK_STREAM) as call:
            await call.send(message)
            await call.receive()
    except RpcError as error:
        return error
    raise AssertionError("the headend answered")


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        (b"\x32\x00" * 200_000, StatusCode.INVALID_ARGUMENT, "Register has more than 1068 fields"),
        (b"\x3a\x00" * 200_000, StatusCode.INVALID_ARGUMENT, "Register has more than 1068 fields"),
        (b"\x32\x00" * 8_000_000, StatusCode.RESOURCE_EXHAUSTED, "a message of 16000005 bytes; at most"),
    ],
)
async def test_a_register_of_empty_descriptors_costs_little_and_is_reported_why(
    fields: bytes, status: StatusCode, reason: str, fleet_file: Path
) -> None:
    message = Bytes(b"\x0a" + length(len(fields)) + fields)
    async with running(variables(fleet_file)) as (process, addresses):
        before = peak_bytes(process.pid)
        for _ in range(3):
            async with open_peer(addresses["grpc"]) as channel:
                refused = await refusal(channel, message)
            assert refused.status is status
            assert reason in refused.message
        assert peak_bytes(process.pid) - before < 20 * MEBIBYTE


async def test_idle_connections_leave_descriptors_for_rest_and_agents(fleet_file: Path) -> None:
    async with (
        running(variables(fleet_file), descriptors=256) as (_, addresses),
        AsyncExitStack() as idle,
    ):
        host, port = addresses["grpc"].rsplit(":", 1)
        # More than it may open. Each 128 of them hold their places for 5 s; a peer gives up after 15 s.
        for _ in range(300):
            idle.push_async_callback((await trio.open_tcp_stream(host, int(port))).aclose)
        for _ in range(5):
            seen = await metrics(addresses["http"])
            assert seen['trioder_grpc_connections{state="unregistered"}'] <= 128
        # The silent ones make room.
        async with open_peer(addresses["grpc"]) as channel, channel.open_call(AGENT_LINK_STREAM) as call:
            await call.send(registration(0, 1))
            await call.receive()
            seen = await metrics(addresses["http"])
            assert seen['trioder_grpc_connections{state="registered"}'] == 1
            assert seen['trioder_grpc_refused_total{reason="silent"}'] > 0


async def test_metrics_show_what_peers_hold(fleet_file: Path) -> None:
    async with running(variables(fleet_file, HEADEND_PEER_MEMORY_MB="20")) as (_, addresses):
        seen = await metrics(addresses["http"])
        assert seen["trioder_grpc_peer_memory_limit_bytes"] == 20 * MEBIBYTE
        assert seen["trioder_grpc_peer_memory_bytes"] == 0
        async with open_peer(addresses["grpc"]) as channel, channel.open_call(AGENT_LINK_STREAM) as call:
            await call.send(registration(0))
            await call.receive()
            seen = await metrics(addresses["http"])
            assert seen['trioder_grpc_connections{state="registered"}'] == 1
            assert seen["trioder_grpc_peer_memory_bytes"] > 0
