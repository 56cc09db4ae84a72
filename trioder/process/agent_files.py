"""Paths of agents' files, as used by the launcher and the agents."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_SUFFIX = ".sqlite"
_MAX_STEM = 120


def agent_file(state_dir: Path, agent_id: str) -> Path:
    """Return the file of an agent; different ids have different files."""
    stem = quote(agent_id, safe=" ")
    if len(stem) > _MAX_STEM:
        digest = hashlib.sha256(agent_id.encode("utf-8", "surrogatepass")).hexdigest()
        stem = f"{stem[:40]}...{digest[:32]}"
    return state_dir / "agents" / (stem + _SUFFIX)


def gathered_states_file(state_dir: Path) -> Path:
    """Return the file with the battery states of former agents, until the present ones have read it."""
    return state_dir / "agents" / "former-states.db"


def orphaned_files(state_dir: Path, agent_ids: Iterable[str]) -> tuple[Path, ...]:
    """Return the files that belong to none of these agents, sorted by name.

    Raises:
        OSError: the folder exists and cannot be read.
    """
    owned = {agent_file(state_dir, agent_id) for agent_id in agent_ids}
    return tuple(sorted(path for path in (state_dir / "agents").glob("*" + _SUFFIX) if path not in owned))
