"""What is logged of agents' answers to dispatches: of each session only so many lines in ten seconds."""

import structlog

from trioder.events.counters import Counters
from trioder.gateway.sessions import Session
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)


class AnswerLog:
    """Logs the answers that change nothing, and the ends that are later than was dispatched."""

    def __init__(self, *, counters: Counters, wall: WallClock) -> None:
        self._counters = counters
        self._wall = wall

    def taken(self, answer: Acknowledgement, session: Session) -> None:
        """The answer has moved its dispatch on."""
        details = self._details("taken", answer, session)
        if details is not None:
            log.info(
                "dispatch answered",
                **details,
                status=answer.status,
                reason=answer.reason,
                agent_time=format_ms(answer.ts_unix_ms),
            )

    def pass_over(self, answer: Acknowledgement, session: Session, why: str) -> None:
        """The answer changes nothing."""
        details = self._details("answer", answer, session)
        if details is not None:
            log.info("answer to a dispatch passed over", **details, status=answer.status, reason=why)

    def end_bounded(self, answer: Acknowledgement, session: Session, *, bound_s: float) -> None:
        """The agent reports a later end than what was dispatched allows; `bound_s` from now rules."""
        self._counters.leases_bounded += 1
        details = self._details("end", answer, session)
        if details is not None:
            log.warning(
                "agent reports that a setpoint lasts longer than was dispatched",
                **details,
                remaining_s=answer.remaining_s,
                bounded_to_s=round(max(0.0, bound_s), 3),
            )

    def _details(self, kind: str, answer: Acknowledgement, session: Session) -> dict[str, object] | None:
        """What every line names; None when there is to be none."""
        suppressed = session.log_limit.suppressed_before(kind, self._wall.now_ms())
        if suppressed is None:
            self._counters.log_lines_suppressed += 1
            return None
        details: dict[str, object] = {
            "dispatch_id": answer.dispatch_id,
            "asset_id": answer.asset_id,
            "agent_id": session.agent_id,
        }
        return details | ({"suppressed_before": suppressed} if suppressed else {})
