"""Where the headend is and with which token: from options, the environment and the configuration file."""

import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trioder.cli.exit_codes import ConfigurationError
from trioder.cli.printable import line_of

DEFAULT_URL = "http://127.0.0.1:3001"
URL_VARIABLE, TOKEN_VARIABLE, CA_VARIABLE = "TRIODER_URL", "TRIODER_TOKEN", "TRIODER_CA"
PROFILE_VARIABLE = "TRIODER_PROFILE"

_PROFILE_KEYS = ("url", "token", "ca")
_MAX_TOKEN_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What options say; None is what is not given.

    Attributes:
        token_file: a file with the token; ``-`` is standard input.
    """

    url: str | None = None
    token_file: str | None = None
    ca: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the headend is reached.

    Attributes:
        token: None for a headend without access control.
        ca: PEM file of the CA of its certificate; None for those that the system trusts.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None


def load_settings(options: Options, environ: Mapping[str, str]) -> Settings:
    """Return the settings: an option comes before a variable, that before the configuration file.

    Raises:
        ConfigurationError: one of them cannot be used; the message never has a token.
    """
    profile = _read_profile(options, environ)
    # An empty variable is as good as none.
    explicit_url = options.url or environ.get(URL_VARIABLE) or None
    url = explicit_url or profile.url or DEFAULT_URL
    if not url.startswith(("http://", "https://")) or not url.isprintable():
        raise ConfigurationError(
            f"the address of the headend is {line_of(url)!r}; it must begin with http:// or https://"
        )
    # A profile's token and CA are for its own headend: no other one may see the token.
    belongs = explicit_url is None or explicit_url.rstrip("/") == (profile.url or "").rstrip("/")
    ca = options.ca or environ.get(CA_VARIABLE)
    return Settings(
        url=url,
        token=_token_of(options, environ) or (profile.token if belongs else None),
        ca=Path(ca).expanduser() if ca else profile.ca if belongs else None,
    )


def config_path(environ: Mapping[str, str]) -> Path:
    """Return where the configuration file is, by the XDG Base Directory Specification."""
    folder = environ.get("XDG_CONFIG_HOME", "")
    # The specification: paths that are not absolute are ignored.
    base = Path(folder) if folder.startswith("/") else Path(environ.get("HOME") or "/", ".config")
    return base / "trioder" / "config.toml"


def _token_of(options: Options, environ: Mapping[str, str]) -> str | None:
    if options.token_file is not None:
        return _checked_token(_read_token_file(options.token_file), f"the token in {options.token_file}")
    token = environ.get(TOKEN_VARIABLE)
    return _checked_token(token, TOKEN_VARIABLE) if token else None


def _read_token_file(name: str) -> str:
    if name == "-":
        return sys.stdin.readline()
    path = Path(name).expanduser()
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            _check_private(path, status)
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_TOKEN_BYTES)
    except OSError as error:
        raise ConfigurationError(f"the token file {path} cannot be read: {error.strerror}") from None


def _checked_token(token: str, name: str) -> str:
    token = token.strip()
    if not token:
        raise ConfigurationError(f"{name} is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(f"{name} must be one line of printable ASCII without spaces; it is not")
    return token


def _read_profile(options: Options, environ: Mapping[str, str]) -> _Profile:
    path = config_path(environ)
    name = options.profile or environ.get(PROFILE_VARIABLE)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            document = tomllib.load(file)
    except FileNotFoundError:
        if name is not None:
            raise ConfigurationError(
                f"there is no profile {line_of(name)!r}: {path} does not exist"
            ) from None
        return _Profile()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from None
    profiles = _profiles_of(document, path)
    if any("token" in values for values in profiles.values()):
        _check_private(path, status)
    name = name or document.get("profile")
    if name is None:
        return _Profile()
    if name not in profiles:
        known = ", ".join(map(line_of, profiles)) or "none"
        raise ConfigurationError(f"{path} has no profile {line_of(str(name))!r}; it has: {known}")
    values = profiles[name]
    token = values.get("token")
    return _Profile(
        url=values.get("url"),
        token=None
        if token is None
        else _checked_token(token, f"{path}: the token of profile {line_of(name)}"),
        # Beside the file, unless it is absolute.
        ca=path.parent / Path(values["ca"]).expanduser() if "ca" in values else None,
    )


def _profiles_of(document: dict[str, Any], path: Path) -> dict[str, dict[str, str]]:
    for key in document:
        if key not in ("profile", "profiles"):
            raise ConfigurationError(
                f"{path}: {line_of(key)!r} is not known; there may be `profile` and [profiles.NAME]"
            )
    profiles = document.get("profiles", {})
    if not isinstance(profiles, dict):
        raise ConfigurationError(f"{path}: profiles must be tables, [profiles.NAME]")
    for name, values in profiles.items():
        if not isinstance(values, dict):
            raise ConfigurationError(f"{path}: profile {line_of(name)!r} must be a table, [profiles.NAME]")
        for key, value in values.items():
            if key not in _PROFILE_KEYS:
                known = ", ".join(_PROFILE_KEYS)
                raise ConfigurationError(
                    f"{path}: {line_of(key)!r} of profile {line_of(name)!r} is not known; there are {known}"
                )
            if not isinstance(value, str):
                raise ConfigurationError(f"{path}: {key} of profile {line_of(name)!r} must be a string")
    if not isinstance(document.get("profile", ""), str):
        raise ConfigurationError(f"{path}: profile must be a string, the name of one of the profiles")
    return profiles


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{path} has a token and belongs to another user (uid {status.st_uid}); it must be your own"
        )
    if mode & 0o077:
        raise ConfigurationError(
            f"{path} has a token and its mode is {mode:04o}; only its owner may read it: chmod 600 {path}"
        )
