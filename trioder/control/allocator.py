"""Deals a group's total to its assets, by what the headend knows of each now.

The arithmetic is in `split`, what counts for each asset in `candidates`.
"""

from collections.abc import Collection, Sequence

from trioder.control.allocation import Split, split_steps
from trioder.control.candidates import Candidate, Known, candidates_of, horizon_s
from trioder.control.explain import explain
from trioder.control.limits import NameplateLimits
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.requests import DispatchRefusedError
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, parts_of, run_at_once
from trioder.process.wall_time import WallClock

# What looking at an asset takes, and what making it a member does.
_CANDIDATE_US = 4.0
_MEMBER_US = 4.0


class Dealt:
    """What each candidate of a command is to have: a column each, in the candidates' order."""

    def __init__(self, candidates: Sequence[Candidate], shares: Split, hold_s: float) -> None:
        self.candidates = candidates
        self.shares = shares
        self._hold_s = hold_s

    def allocation(self, position: int) -> tuple[str, str]:
        """Why the candidate has what it has: for programs, and for people."""
        told = explain(self.shares, position, self.candidates[position], hold_s=self._hold_s)
        return self.shares.reasons[position], told


class Allocator:
    """Splits totals over the assets as they are."""

    def __init__(
        self,
        *,
        limits: NameplateLimits,
        sessions: SessionRegistry,
        latest: LatestState,
        wall: WallClock,
    ) -> None:
        self._limits = limits
        self._sessions = sessions
        self._latest = latest
        self._wall = wall

    def deal(self, command: Dispatch) -> None:
        """Give a new command its members, and its reversion to those.

        Raises:
            DispatchRefusedError: the members cannot hold the reversion.
        """
        run_at_once(self.deal_steps(command))

    def deal_steps(self, command: Dispatch) -> Steps[None]:
        """Do what `deal` does, in steps; nobody but the caller may know of the command yet."""
        dealt = yield from self.share_steps(command, command.mw, elsewhere=())
        command.shortfall_mw = dealt.shares.shortfall_mw
        for part in parts_of(range(len(dealt.candidates))):
            self._add_members(command, dealt, part)
            yield _MEMBER_US * len(part)
        if command.reversion_mw:
            yield from self._reversion_steps(command)

    def _add_members(self, command: Dispatch, dealt: Dealt, positions: Sequence[int]) -> None:
        for position in positions:
            key, mw = dealt.candidates[position].asset_key, dealt.shares.allocated_mw[position]
            code, allocation = dealt.allocation(position)
            if mw is None:
                command.left_out[key] = (code, allocation)
                continue
            command.add(
                AssetSetpoint(
                    command=command,
                    key=key,
                    mw=mw,
                    reversion_mw=0.0,
                    wire_id=command.dispatch_id,
                    code=code,
                    allocation=allocation,
                    ends_ms=command.ends_ms,
                    queue_until_ms=command.queue_until_ms,
                )
            )

    def reaches(self, key: int) -> bool:
        """Whether an asset can be given a share now: it is connected, and how it stands is known."""
        reported = self._latest.reported(key, self._wall.now_ms())
        connected = self._sessions.session_of(key) is not None
        return connected and reported is not None and reported.age_s <= self._latest.stale_after_s

    def check_single(self, command: Dispatch, member: AssetSetpoint) -> None:
        """Compare what one asset is asked for with what a group of it alone would be given.

        The asset is sent what was asked, for the user named it; what it cannot hold is the command's
        shortfall. Of an asset of which nothing is known now, nothing is said.
        """
        dealt = self.shares_of(command, command.mw, elsewhere=())
        if dealt.candidates[0].excluded is None and dealt.shares.shortfall_mw:
            command.shortfall_mw = dealt.shares.shortfall_mw
            member.code, member.allocation = dealt.allocation(0)

    def shares_of(self, command: Dispatch, total_mw: float, *, elsewhere: Collection[int]) -> Dealt:
        """Split a total over the command's candidates, to be held for as long as it still lasts.

        Args:
            command: whose.
            total_mw: of the setpoints.
            elsewhere: the assets that another command has by now.
        """
        return run_at_once(self.share_steps(command, total_mw, elsewhere=elsewhere))

    def share_steps(self, command: Dispatch, total_mw: float, *, elsewhere: Collection[int]) -> Steps[Dealt]:
        """Do what `shares_of` does, in steps: each asset counts as it is when its step comes."""
        now_ms = self._wall.now_ms()
        lasts_s = None if command.ends_ms is None else max(1.0, (command.ends_ms - now_ms) / 1000)
        hold_s = horizon_s(lasts_s)
        candidates: list[Candidate] = []
        for keys in parts_of(command.candidate_keys):
            candidates += candidates_of(
                (self._known(command, key, now_ms, key in elsewhere) for key in keys),
                charging=total_mw < 0.0,
                hold_s=hold_s,
                stale_after_s=self._latest.stale_after_s,
            )
            yield _CANDIDATE_US * len(keys)
        shares = yield from split_steps(total_mw, candidates, command.strategy or "headroom")
        return Dealt(candidates, shares, hold_s)

    def _reversion_steps(self, command: Dispatch) -> Steps[None]:
        left_out = frozenset(command.left_out)
        dealt = yield from self.share_steps(command, command.reversion_mw, elsewhere=left_out)
        if dealt.shares.shortfall_mw:
            can_mw = command.reversion_mw - dealt.shares.shortfall_mw
            raise DispatchRefusedError(
                "out_of_bounds",
                f"reversion_mw is {command.reversion_mw}; the assets of the group can hold {can_mw:g} MW",
            )
        for candidate, mw in zip(dealt.candidates, dealt.shares.allocated_mw, strict=True):
            if mw is not None:
                command.members[candidate.asset_key].reversion_mw = mw

    def _known(self, command: Dispatch, key: int, now_ms: int, commanded_otherwise: bool) -> Known:
        session = self._sessions.session_of(key)
        asset = self._limits.asset(key)
        reported = self._latest.reported(key, now_ms)
        if session is None or reported is None:
            suspect = self._latest.is_suspect(key)
            return Known(
                key, asset, 0.0, 0.0, None, session is not None, commanded_otherwise, suspect=suspect
            )
        soc_mwhr, current_mw, _, available_discharge_mw, available_charge_mw, age_s = reported
        return Known(
            key,
            asset,
            soc_mwhr,
            current_mw,
            age_s,
            True,
            commanded_otherwise,
            not session.supports_reversions and bool(command.reversion_mw),
            False,
            available_discharge_mw,
            available_charge_mw,
            command.delivered_mw.get(key),
        )
