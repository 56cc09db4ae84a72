"""What an agent says on its standard output: one JSON line for each change of its connection."""

import json
from dataclasses import dataclass
from typing import Literal, cast

_STATES = ("connected", "disconnected", "refused")
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """An agent's connection to the headend, and how many of its assets are connected."""

    state: Literal["connected", "disconnected", "refused"]
    assets: int
    reason: str = ""


def read_status(line: str) -> AgentStatus:
    """Read one line.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON: {line[:_SHOWN_CHARACTERS]!r}") from None
    if not isinstance(document, dict) or document.get("state") not in _STATES:
        raise ValueError(f"its state is none of {', '.join(_STATES)}: {line[:_SHOWN_CHARACTERS]!r}")
    assets, reason = document.get("assets"), document.get("reason", "")
    if type(assets) is not int or assets < 0:
        raise ValueError(f"its assets are not a count: {line[:_SHOWN_CHARACTERS]!r}")
    state = cast("Literal['connected', 'disconnected', 'refused']", document["state"])
    return AgentStatus(state=state, assets=assets, reason=str(reason))
