"""The TLS files in an agent's and a recovery's configuration are checked like all of it."""

import json
from pathlib import Path

import pytest

from tests.unit.access.certificates import Authority
from tests.unit.agent.test_config import VARIABLES, shard
from trioder.access.agent_tls import AgentTlsFiles
from trioder.agent.config import ConfigError, config_of_one_asset, config_of_recovery, config_of_shard
from trioder.process.addresses import Endpoint

HTTPS = {"HEADEND_GRPC": "https://headend:1"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    authority = Authority(tmp_path)
    pair = authority.issue("agent", file="agent")
    return {"cert": str(pair.cert), "key": str(pair.key), "ca": str(authority.file)}


def test_a_plain_headend_has_no_tls() -> None:
    config = config_of_one_asset(VARIABLES)
    assert (config.headend.tls, config.tls) == (False, None)


def test_one_asset_has_its_files_from_variables(files: dict[str, str]) -> None:
    variables = {f"AGENT_TLS_{name.upper()}": path for name, path in files.items()}
    config = config_of_one_asset(VARIABLES | HTTPS | variables)
    assert config.headend == Endpoint("headend", 1, tls=True)
    assert config.tls is not None


def test_a_shard_has_its_files_from_its_document(files: dict[str, str]) -> None:
    fields = {f"tls_{name}": path for name, path in files.items()}
    config = config_of_shard(shard(headend="https://headend:1", **fields))
    assert config.tls is not None
    assert len(config.tls.context.get_ca_certs()) == 1


def test_faults_of_files_are_reported_with_all_others(files: dict[str, str]) -> None:
    variables = {"AGENT_TLS_CERT": "no.crt", "AGENT_TLS_KEY": files["key"], "TICK_S": "0"}
    with pytest.raises(ConfigError) as caught:
        config_of_one_asset(VARIABLES | HTTPS | variables)
    assert [fault.split(" is ")[0] for fault in caught.value.faults] == ["TICK_S", "AGENT_TLS_CERT"]


def test_faults_of_a_shards_files_are_reported_by_field(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_shard(shard(headend="https://headend:1", tls_ca="no.crt", tls_cert=7))
    assert [fault.split(" is ")[0] for fault in caught.value.faults] == ["tls_cert", "tls_ca"]


def test_files_for_a_plain_headend_are_a_fault(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="HEADEND_GRPC is headend:50051, which is plain"):
        config_of_one_asset(VARIABLES | {"AGENT_TLS_CA": files["ca"]})


def test_a_recovery_has_the_paths_of_all_agents_and_reads_none() -> None:
    document = {"headend": "https://h:1", "files": [], "tls_cert": "{agent}.crt", "tls_key": "{agent}.key"}
    config = config_of_recovery(json.dumps(document).encode())
    assert config.headend == Endpoint("h", 1, tls=True)
    assert config.tls == AgentTlsFiles(cert="{agent}.crt", key="{agent}.key")


def test_a_recovery_with_a_certificate_without_its_key_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="tls_cert is 'a' without tls_key"):
        config_of_recovery(b'{"headend": "https://h:1", "files": [], "tls_cert": "a"}')
