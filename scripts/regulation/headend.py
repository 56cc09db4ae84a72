"""The two requests that following a signal needs of the headend's REST, over one kept connection each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

# A headend that takes longer is as good as away; the steps that pass meanwhile are skipped.
_TIMEOUT_S = 5.0


class HeadendError(Exception):
    """The headend could not be asked, or refused; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """The live sums over the fleet.

    Attributes:
        assets, live_assets: how many there are, and how many the sums hold.
        current_mw: + discharges.
        both_ways_mw: what the fleet can hold for 15 minutes, charging as well as discharging.
    """

    assets: int
    live_assets: int
    current_mw: float
    both_ways_mw: float


class Headend:
    """A headend's REST.

    Args:
        client: with the headend's base URL.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def fleet(self) -> FleetState:
        """Return the fleet's live sums.

        Raises:
            HeadendError: there is no response, or none that contains them.
        """
        answer = await self._ask("GET", "/fleet")
        try:
            available = answer["available"]["15_min"]
            return FleetState(
                assets=int(answer["assets"]),
                live_assets=int(answer["live_assets"]),
                current_mw=float(answer["current_mw"]),
                both_ways_mw=min(float(available["discharge_mw"]), float(available["charge_mw"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HeadendError(f"GET /fleet: not the answer that was expected: {error!r}") from error

    async def dispatch_fleet(self, mw: float, *, duration_s: int) -> float:
        """Ask the fleet for a total, divided by headroom; return the shortfall in MW.

        Raises:
            HeadendError: there is no response, or a refusal.
        """
        body = {
            "fleet": True,
            "mw": round(mw, 6),
            "duration_s": duration_s,
            "strategy": "headroom",
            "resplit": False,
        }
        answer = await self._ask("POST", "/dispatch?allocations=false", body)
        try:
            return float(answer["shortfall_mw"])
        except (KeyError, TypeError, ValueError) as error:
            raise HeadendError(f"POST /dispatch: not the answer that was expected: {error!r}") from error

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        what = f"{method} {path.partition('?')[0]}"
        try:
            response = await self._client.request(method, path, json=body, timeout=_TIMEOUT_S)
        except httpx2.HTTPError as error:
            raise HeadendError(f"{what}: {error or type(error).__name__}") from error
        try:
            answer = response.json()
        except ValueError as error:
            raise HeadendError(f"{what}: {response.status_code}, and not JSON") from error
        if response.status_code != 200 or not isinstance(answer, dict):
            message = answer.get("message", answer) if isinstance(answer, dict) else answer
            raise HeadendError(f"{what}: {response.status_code}: {message}")
        return answer
