"""A dispatcher over sessions and samples that a test makes itself, on a clock that stands still."""

from collections.abc import Sequence
from dataclasses import replace

from tests.unit.headend.parts import Parts, StillWall, asset_id, make_parts, make_samples, make_session
from trioder.control.allocation import Candidate, Split, split_steps
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.dispatch import DispatchRequest, DispatchTarget, GroupRequest, Setpoint, Strategy
from trioder.gateway.sessions import Session
from trioder.process.slices import run_at_once
from trioder.store.interface import Store
from trioder.wire.records import Acknowledgement


def still_parts(
    *, assets: int = 2, store: Store | None = None, ramp_rate_mw_per_min: float = 6000.0
) -> Parts:
    return make_parts(assets=assets, store=store, wall=StillWall(), ramp_rate_mw_per_min=ramp_rate_mw_per_min)


def advance(parts: Parts, seconds: float) -> None:
    assert isinstance(parts.wall, StillWall)
    parts.wall.passed_s += seconds
    parts.dispatcher.maintain()


def step(parts: Parts, by_s: float) -> None:
    """The headend's clock is set by so much."""
    parts.wall.adjust(by_s)
    parts.latest.clock_stepped(round(by_s * 1000))
    parts.dispatcher.clock_stepped(round(by_s * 1000))


def dispatch_one(parts: Parts, mw: float, *, key: int = 0, **asked: float | None) -> Dispatch:
    return parts.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(key), mw=mw, **asked))  # type: ignore[arg-type]  # a test's shorthand


def dispatch_group(parts: Parts, mw: float, *, dry_run: bool = False, **asked: object) -> Dispatch:
    keys = range(len(parts.fleet.assets))
    request = GroupRequest(target=DispatchTarget(kind="fleet"), keys=keys, mw=mw, **asked)  # type: ignore[arg-type]  # a test's shorthand
    return parts.dispatcher.dispatch_group(request, dry_run=dry_run)


def connect(parts: Parts, *keys: int, agent_id: str = "a", protocol: int = 1, number: int = 0) -> Session:
    """A session that drives these assets, of which no sample was received yet."""
    session_id = f"session-{agent_id}-{number}"
    return parts.connect(make_session(agent_id, *keys, session_id=session_id, protocol=protocol))


def report_sample(
    parts: Parts,
    *keys: int,
    soc: float = 20.0,
    mw: float = 0.0,
    setpoint: float = 0.0,
    available_mw: float = 10.0,
    quality: int = 0,
    ts_ms: int | None = None,
) -> None:
    """A sample of each of these assets, as of now unless its agent's clock differs."""
    now_ms = parts.wall.now_ms()
    samples = replace(
        make_samples(*keys, ts_ms=now_ms if ts_ms is None else ts_ms, soc=soc, mw=mw, setpoint=setpoint),
        available_discharge_mw=[available_mw] * len(keys),
        available_charge_mw=[available_mw] * len(keys),
        quality=bytes([quality] * len(keys)) if quality else b"",
    )
    parts.latest.apply_agent(samples, received_ms=now_ms, made_ms=now_ms)
    parts.dispatcher.measured(samples)


def take_setpoints(session: Session) -> tuple[Setpoint, ...]:
    return session.downlink._take_nowait().setpoints


def acknowledge(
    parts: Parts,
    session: Session,
    setpoint: AssetSetpoint,
    status: str,
    *,
    reason: str | None = None,
    setpoint_mw: float | None = None,
    remaining_s: float | None = None,
) -> None:
    reported = Acknowledgement(
        dispatch_id=setpoint.wire_id,
        asset_id=asset_id(setpoint.key),
        status=status,
        ts_unix_ms=parts.wall.now_ms(),
        reason=reason,
        setpoint_mw=setpoint_mw,
        remaining_s=remaining_s,
    )
    parts.dispatcher.acknowledged(reported, session=session)


def only(dispatch: Dispatch) -> AssetSetpoint:
    [setpoint] = dispatch.setpoints.values()
    return setpoint


def split(total_mw: float, candidates: Sequence[Candidate], strategy: Strategy = "headroom") -> Split:
    return run_at_once(split_steps(total_mw, candidates, strategy, hold_s=900.0))
