"""A stand-in for a headend with a fleet that follows at first order, as an ASGI application.

Only what following a signal asks of the REST. Every battery of it does the same share of what is asked, and
is sampled every 4 s at a phase of its own, so that the sum mixes ages of 0 to 4 s.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_SAMPLE_S = 4.0


@dataclass(slots=True)
class StubFleet:
    """The fleet and its REST.

    Attributes:
        limit_mw: both ways.
        lag_s: of the first-order response; 0 follows at once.
        phases: batteries with phases of their own.
        answers_in_s: until a dispatch is answered; it is applied at once.
        refuse: a message to refuse each dispatch with.
        dispatches: the bodies taken, with the time of each.
    """

    limit_mw: float = 1000.0
    lag_s: float = 0.0
    phases: int = 40
    answers_in_s: float = 0.0
    refuse: str | None = None
    dispatches: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    # Since when which power is aimed at, and the power then.
    _aims: list[tuple[float, float, float]] = field(default_factory=lambda: [(-math.inf, 0.0, 0.0)])

    def power_mw(self, at_s: float) -> float:
        """The power that every battery's share adds up to, at one instant."""
        since_s, aim_mw, power_mw = next(aim for aim in reversed(self._aims) if aim[0] <= at_s)
        if self.lag_s == 0.0 or since_s == -math.inf:
            return aim_mw
        return aim_mw + (power_mw - aim_mw) * math.exp((since_s - at_s) / self.lag_s)

    def sampled_mw(self, now_s: float) -> float:
        """The sum of the last sample of each battery."""
        phases_s = [_SAMPLE_S * number / self.phases for number in range(self.phases)]
        samples_s = [phase_s + _SAMPLE_S * math.floor((now_s - phase_s) / _SAMPLE_S) for phase_s in phases_s]
        return math.fsum(map(self.power_mw, samples_s)) / self.phases

    def take(self, now_s: float, body: dict[str, Any]) -> dict[str, Any]:
        """Aim at what a dispatch asks for."""
        self.dispatches.append((now_s, body))
        aim_mw = min(max(body["mw"], -self.limit_mw), self.limit_mw)
        # The setpoint before this one ends in 0 MW, at its time, if nothing replaced it.
        self._aims = [aim for aim in self._aims if aim[0] <= now_s]
        self._aims.append((now_s, aim_mw, self.power_mw(now_s)))
        end_s = now_s + body["duration_s"]
        self._aims.append((end_s, 0.0, self.power_mw(end_s)))
        del self._aims[:-50]
        return {
            "status": "ok",
            "dispatch_id": str(len(self.dispatches)),
            "mw": body["mw"],
            "allocated_mw": aim_mw,
            "shortfall_mw": body["mw"] - aim_mw,
        }

    def state(self, now_s: float) -> dict[str, Any]:
        """What GET /fleet answers."""
        window = {"discharge_mw": self.limit_mw, "charge_mw": self.limit_mw}
        return {
            "assets": self.phases,
            "live_assets": self.phases,
            "current_mw": self.sampled_mw(now_s),
            "available": {"now": window, "15_min": window, "60_min": window},
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        status, answer = 404, {"error": "not_found", "message": f"{scope['path']} is not here"}
        match scope["method"], scope["path"]:
            case "GET", "/fleet":
                status, answer = 200, self.state(trio.current_time())
            case "POST", "/dispatch":
                body = json.loads(await _body(receive))
                if self.refuse is None:
                    status, answer = 200, self.take(trio.current_time(), body)
                else:
                    status, answer = 400, {"error": "bad_request", "message": self.refuse}
                await trio.sleep(self.answers_in_s)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body", False):
            return body
