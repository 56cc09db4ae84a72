"""The TLS files of agents, as the options of an agent and of the launcher name them.

In the launcher's paths `{agent}` stands for each agent's file name. What is in the files is checked by
`tls.ClientTls`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from trioder.access.private_files import warn_of_exposed
from trioder.access.tls import ClientTls, TlsConfigurationError
from trioder.process.addresses import Endpoint
from trioder.process.agent_files import file_stem

AGENT_PLACEHOLDER: Final = "{agent}"


class TlsNames(NamedTuple):
    """What the files, and the endpoint, are called in errors."""

    cert: str
    key: str
    ca: str
    headend: str


TLS_VARIABLES: Final = TlsNames("AGENT_TLS_CERT", "AGENT_TLS_KEY", "AGENT_TLS_CA", "HEADEND_GRPC")
TLS_FIELDS: Final = TlsNames("tls_cert", "tls_key", "tls_ca", "headend")


class AgentTlsError(Exception):
    """TLS files that an agent cannot use.

    Attributes:
        faults: all of them; each has the option, the value and the rule.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTlsFiles:
    """Paths of PEM files.

    Attributes:
        cert: the agent's certificate; None to present none.
        key: its private key.
        ca: the CAs of the headend's certificate; None for those that the system trusts.
    """

    cert: str | None = None
    key: str | None = None
    ca: str | None = None

    def of_agent(self, agent_id: str) -> "AgentTlsFiles":
        """Return the files of one agent: `{agent}` is replaced by its file name."""
        cert, key, ca = (
            None if path is None else path.replace(AGENT_PLACEHOLDER, file_stem(agent_id))
            for path in (self.cert, self.key, self.ca)
        )
        return AgentTlsFiles(cert=cert, key=key, ca=ca)


def check_tls_options(files: AgentTlsFiles, headend: Endpoint, names: TlsNames) -> None:
    """Check that the options agree with each other; files are not read.

    Raises:
        AgentTlsError: they do not.
    """
    paths = [
        (name, path) for name, path in zip(names, (files.cert, files.key, files.ca), strict=False) if path
    ]
    if not headend.tls:
        _raise_faults(
            f"{name} is {path!r}, but {names.headend} is {headend}, which is plain; it must be "
            f"https://{headend} for TLS, or {name} not be set"
            for name, path in paths
        )
    if bool(files.cert) != bool(files.key):
        [alone, missing] = [names.cert, names.key] if files.cert else [names.key, names.cert]
        _raise_faults(
            [f"{alone} is {files.cert or files.key!r} without {missing}; both must be set, or neither"]
        )


def open_agent_tls(files: AgentTlsFiles, headend: Endpoint, names: TlsNames) -> ClientTls | None:
    """Return the TLS of one agent's connections; None where the endpoint is plain.

    A key that others can read is logged.

    Raises:
        AgentTlsError: the options contradict each other, or files are missing or cannot be used.
    """
    check_tls_options(files, headend, names)
    if not headend.tls:
        return None
    _check_readable(files, names)
    if files.key is not None:
        warn_of_exposed([Path(files.key)])
    return _client_tls(files, names)


def check_agent_tls(files: AgentTlsFiles, headend: Endpoint, names: TlsNames) -> None:
    """Check the files as `open_agent_tls` does, but without the CAs that the system trusts.

    To load those takes 0.1 s, which is long for thousands of agents.

    Raises:
        AgentTlsError: as by `open_agent_tls`.
    """
    check_tls_options(files, headend, names)
    _check_readable(files, names)
    if files.cert or files.ca:
        _client_tls(replace(files, ca=files.ca or files.cert), names)


def _check_readable(files: AgentTlsFiles, names: TlsNames) -> None:
    _raise_faults(
        f"{name} is {path!r}; it must be a file that can be read: {reason}"
        for name, path in zip(names, (files.cert, files.key, files.ca), strict=False)
        if path and (reason := _unreadable(Path(path)))
    )


def _client_tls(files: AgentTlsFiles, names: TlsNames) -> ClientTls:
    cert, key, ca = (Path(path) if path else None for path in (files.cert, files.key, files.ca))
    try:
        return ClientTls(cert, key, ca)
    except TlsConfigurationError as error:
        raise AgentTlsError([f"{_faulty_option(cert, ca, names)}: {error}"]) from None


def _faulty_option(cert: Path | None, ca: Path | None, names: TlsNames) -> str:
    if ca is not None and ca != cert:
        try:
            ClientTls(None, None, ca)
        except TlsConfigurationError:
            return names.ca
    return f"{names.cert}, {names.key}"


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _raise_faults(faults: Iterable[str]) -> None:
    if found := tuple(faults):
        raise AgentTlsError(found)
