"""Certificates of a benchmark's headend and of the generator's agents, made as by `python -m trioder.access`.

But nothing waits for the disk: thousands of files would take a minute.
"""

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from trioder.access.ca import CA_CERTIFICATE
from trioder.access.directory import AccessDirectory
from trioder.access.document import DEFAULT_TRUST_DOMAIN
from trioder.access.grants import AgentRequest
from trioder.access.tls import ClientTls
from trioder.domain.assets import Asset


def agent_name(number: int) -> str:
    """Return the agent_id of the generator's agent with this number, from 1 on."""
    return f"bench-{number}"


def make_access(folder: Path, host: str, shards: Sequence[Sequence[Asset]]) -> None:
    """Make an access directory: an authority, the server's certificate, one per agent, and their grants."""
    directory = AccessDirectory(folder, user="bench")
    requests = [
        AgentRequest(agent=agent_name(number), asset_ids=tuple(asset.id for asset in assets))
        for number, assets in enumerate(shards, 1)
    ]
    with mock.patch("os.fsync"):
        directory.initialise(DEFAULT_TRUST_DOMAIN)
        directory.issue_server([host])
        directory.issue_agents(requests)


def server_environment(folder: Path, host: str) -> dict[str, str]:
    """Return the variables of a headend whose agents need a certificate."""
    files = {"CERT": f"server/{host}.crt", "KEY": f"server/{host}.key", "CLIENT_CA": CA_CERTIFICATE}
    return {f"HEADEND_TLS_{name}": str(folder / file) for name, file in files.items()}


def client_tls(folder: Path, number: int) -> ClientTls:
    """Return the TLS of one agent's connections."""
    stem = folder / "agents" / agent_name(number)
    return ClientTls(stem.with_suffix(".crt"), stem.with_suffix(".key"), folder / CA_CERTIFICATE)
