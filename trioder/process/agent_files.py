"""Paths of agents' files, as used by the launcher and the agents."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_SUFFIX = ".sqlite"
_MAX_STEM = 120


def file_stem(name: str) -> str:
    """Return a file name, without suffix, for an agent or a host; different names have different ones."""
    stem = quote(name, safe=" ")
    if len(stem) > _MAX_STEM:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        stem = f"{stem[:40]}...{digest[:32]}"
    return stem


def agent_file(state_dir: Path, agent_id: str) -> Path:
    """Return the file of an agent; different ids have different files."""
    return state_dir / "agents" / (file_stem(agent_id) + _SUFFIX)


def gathered_states_file(state_dir: Path) -> Path:
    """Return the file with the battery states of former agents, until the present ones have read it."""
    return state_dir / "agents" / "former-states.db"


def retired_files(state_dir: Path, agent_ids: Iterable[str]) -> tuple[Path, ...]:
    """Return the files that belong to none of these agents, sorted by name.

    Raises:
        OSError: the folder exists and cannot be read.
    """
    owned = {agent_file(state_dir, agent_id) for agent_id in agent_ids}
    return tuple(sorted(path for path in (state_dir / "agents").glob("*" + _SUFFIX) if path not in owned))
