"""The latest state: what overwrites what, and the quality of a sample."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.headend.parts import make_fleet, make_samples
from tests.unit.process.fake_clock import STEPS_S
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.ingest.latest import LatestState

NOW = 1_800_000_000_000


@pytest.fixture
def latest() -> LatestState:
    return LatestState(make_fleet(3))


def soc(latest: LatestState, key: int = 0) -> float:
    state = latest.state(key)
    assert state is not None
    return state.soc_mwhr


def test_an_asset_without_a_sample_has_no_view(latest: LatestState) -> None:
    assert latest.view(0, NOW) is None
    assert latest.state(0) is None
    assert len(latest) == 0


def test_a_sample_is_reported_in_full(latest: LatestState) -> None:
    latest.apply_agent(make_samples(1, ts_ms=NOW - 2000, soc=30.0, mw=-4.0, setpoint=-5.0), received_ms=NOW)
    view = latest.view(1, NOW)
    assert view is not None
    assert (view.source, view.quality, view.age_s) == ("agent", "good", 2.0)
    assert (view.telemetry.soc_mwhr, view.telemetry.soc_pct) == (30.0, 75.0)
    assert (view.telemetry.current_mw, view.telemetry.setpoint_mw) == (-4.0, -5.0)
    assert (view.telemetry.status, view.telemetry.site_name) == ("charging", "North")
    assert len(latest) == 1


def test_backfill_never_overwrites_a_newer_value(latest: LatestState) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW, soc=30.0), received_ms=NOW)
    latest.apply_agent(make_samples(0, ts_ms=NOW - 1, soc=10.0), received_ms=NOW + 5)
    assert soc(latest) == 30.0


def test_a_clock_that_stepped_back_between_boots_is_followed(latest: LatestState) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW, soc=30.0), received_ms=NOW)
    latest.begin_boot([0])
    latest.apply_agent(make_samples(0, ts_ms=NOW - 3_600_000, soc=10.0), received_ms=NOW)
    assert soc(latest) == 10.0


def test_an_agents_sample_replaces_a_synthesized_one_even_if_its_clock_is_behind(latest: LatestState) -> None:
    latest.apply_synthesized(make_samples(0, ts_ms=NOW, soc=10.0, source="synthesized"))
    latest.apply_agent(make_samples(0, ts_ms=NOW - 60_000, soc=30.0), received_ms=NOW)
    assert soc(latest) == 30.0


def test_a_resent_sample_of_the_agent_does_not_replace_a_synthesized_one(latest: LatestState) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW, soc=30.0), received_ms=NOW)
    latest.apply_synthesized(make_samples(0, ts_ms=NOW + 4000, soc=29.0, source="synthesized"))
    latest.apply_agent(make_samples(0, ts_ms=NOW - 4000, soc=31.0), received_ms=NOW + 5000)
    assert soc(latest) == 29.0


def test_a_synthesized_sample_is_marked_as_such(latest: LatestState) -> None:
    latest.apply_synthesized(make_samples(0, ts_ms=NOW, source="synthesized"))
    view = latest.view(0, NOW + 60_000)
    assert view is not None
    assert (view.source, view.quality) == ("synthesized", "synthesized")


@pytest.mark.parametrize(("age_ms", "quality"), [(12_000, "good"), (12_001, "stale")])
def test_a_sample_goes_stale_after_three_pulses(latest: LatestState, age_ms: int, quality: str) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW, soc=30.0), received_ms=NOW)
    view = latest.view(0, NOW + age_ms)
    assert view is not None
    assert view.quality == quality


def test_a_clock_ahead_of_ours_does_not_keep_a_sample_fresh(latest: LatestState) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW + 3_600_000), received_ms=NOW)
    fresh, old = latest.view(0, NOW), latest.view(0, NOW + 20_000)
    assert fresh is not None
    assert old is not None
    assert (fresh.age_s, fresh.quality) == (0.0, "good")
    assert (old.age_s, old.quality) == (20.0, "stale")


def test_late_backfill_is_not_fresh(latest: LatestState) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW - 600_000), received_ms=NOW)
    view = latest.view(0, NOW)
    assert view is not None
    assert (view.age_s, view.quality) == (600.0, "stale")


@pytest.mark.parametrize("by_s", [sign * size_s for size_s in STEPS_S for sign in (1, -1)])
def test_a_step_of_the_headends_clock_makes_nothing_older_or_younger(by_s: float) -> None:
    by_ms = round(by_s * 1000)
    latest = LatestState(make_fleet(2))
    # The agent's clock was right while the headend's was not.
    samples = make_samples(0, ts_ms=NOW + by_ms - 3000)
    latest.apply_agent(samples, received_ms=NOW - 3000, made_ms=NOW - 3000)
    latest.apply_synthesized(make_samples(1, ts_ms=NOW - 3000, source="synthesized"))
    latest.clock_stepped(by_ms)
    for key, quality in enumerate(("good", "synthesized")):
        view = latest.view(key, NOW + by_ms)
        assert view is not None
        assert (view.age_s, view.quality) == (3.0, quality)
        assert view.telemetry.ts_unix_ms == NOW + by_ms - 3000


def column(count: int, first: float) -> list[float]:
    return [first + row for row in range(count)]


def samples_of(keys: list[int], *, ts_ms: int) -> Samples:
    count = len(keys)
    return Samples(
        ts_unix_ms=ts_ms,
        source="agent",
        asset_keys=keys,
        soc_mwhr=column(count, 1.0),
        current_mw=column(count, 100.0),
        setpoint_mw=column(count, 200.0),
        available_discharge_mw=column(count, 300.0),
        available_charge_mw=column(count, 400.0),
    )


def row_of(samples: Samples, row: int) -> Samples:
    return Samples(
        ts_unix_ms=samples.ts_unix_ms,
        source=samples.source,
        asset_keys=[samples.asset_keys[row]],
        soc_mwhr=[samples.soc_mwhr[row]],
        current_mw=[samples.current_mw[row]],
        setpoint_mw=[samples.setpoint_mw[row]],
        available_discharge_mw=[samples.available_discharge_mw[row]],
        available_charge_mw=[samples.available_charge_mw[row]],
    )


@given(
    keys=st.one_of(
        st.builds(
            lambda first, count: list(range(first, first + count)), st.integers(0, 8), st.integers(0, 16)
        ),
        st.permutations(range(12)),
    ),
    newer_key=st.integers(0, 23),
)
def test_a_batch_leaves_what_its_samples_one_by_one_would(keys: list[int], newer_key: int) -> None:
    together, one_by_one = LatestState(make_fleet(24)), LatestState(make_fleet(24))
    samples = samples_of(keys, ts_ms=NOW - 1000)
    for latest in (together, one_by_one):
        latest.apply_agent(samples_of([newer_key], ts_ms=NOW), received_ms=NOW)
    together.apply_agent(samples, received_ms=NOW + 5)
    for row in range(len(keys)):
        one_by_one.apply_agent(row_of(samples, row), received_ms=NOW + 5)
    for latest in (together, one_by_one):
        # What is newer than this must have been noted as such.
        latest.apply_agent(samples_of(list(range(24)), ts_ms=NOW - 2000), received_ms=NOW + 6)
    assert [together.view(key, NOW) for key in range(24)] == [one_by_one.view(key, NOW) for key in range(24)]


def test_only_what_the_present_session_reported_counts_as_reported() -> None:
    latest = LatestState(make_fleet(10))
    assert latest.reported(0, NOW) is None
    keys = range(10)
    for columns in (keys, (0, 5)):
        latest.apply_agent(make_samples(*columns, ts_ms=NOW), received_ms=NOW)
        assert latest.reported(5, NOW + 500) == (20.0, 1.0, 1.0, 10.0, 10.0, 0.5)
        latest.begin_session([5])
        assert latest.reported(5, NOW) is None
        # It is still the latest.
        assert latest.state(5) is not None
        assert latest.reported(0, NOW) is not None
    latest.apply_synthesized(make_samples(0, ts_ms=NOW, source="synthesized"))
    assert latest.reported(0, NOW) is None


@pytest.mark.parametrize("keys", [range(10), (2, 0)])
def test_a_value_that_is_not_good_is_suspect_and_not_reported(keys: Sequence[int]) -> None:
    latest = LatestState(make_fleet(10))
    samples = make_samples(*keys, ts_ms=NOW)
    quality = bytes(int(key == 2) for key in keys)
    latest.apply_agent(replace(samples, quality=quality), received_ms=NOW)
    assert (latest.is_suspect(2), latest.reported(2, NOW)) == (True, None)
    assert not latest.is_suspect(0)
    assert latest.reported(0, NOW) is not None
    latest.apply_agent(make_samples(*keys, ts_ms=NOW + 1), received_ms=NOW)
    assert not latest.is_suspect(2)
    assert latest.reported(2, NOW) is not None


def test_only_the_newest_sample_of_an_agent_is_current() -> None:
    latest = LatestState(make_fleet(1), stale_after_s=12.0)
    latest.apply_agent(make_samples(0, ts_ms=NOW), received_ms=NOW)
    assert latest.is_current(0, NOW, NOW + 12_000)
    assert not latest.is_current(0, NOW, NOW + 12_001)
    assert not latest.is_current(0, NOW - 4_000, NOW)
    latest.apply_synthesized(make_samples(0, ts_ms=NOW, source="synthesized"))
    assert not latest.is_current(0, NOW, NOW)


def test_batches_go_by_their_sequence_whatever_their_times(latest: LatestState) -> None:
    for batch_seq, ts_ms, value in ((5, NOW, 5.0), (6, NOW - 3_600_000, 6.0), (4, NOW + 1000, 4.0)):
        samples = make_samples(0, ts_ms=ts_ms, soc=value)
        latest.apply_agent(samples, received_ms=NOW, made_ms=NOW, batch_seq=batch_seq)
    assert soc(latest) == 6.0
    # Another outbox starts a new order.
    latest.begin_boot([0])
    latest.apply_agent(make_samples(0, ts_ms=NOW, soc=1.0), received_ms=NOW, batch_seq=1)
    assert soc(latest) == 1.0


def test_samples_on_their_own_and_batches_do_not_hide_each_other(latest: LatestState) -> None:
    latest.apply_agent(make_samples(0, ts_ms=NOW, soc=1.0), received_ms=NOW, batch_seq=7)
    latest.apply_agent(make_samples(0, ts_ms=NOW + 1000, soc=2.0), received_ms=NOW + 1000)
    assert soc(latest) == 2.0
    latest.apply_agent(make_samples(0, ts_ms=NOW + 2000, soc=3.0), received_ms=NOW + 2000, batch_seq=8)
    assert soc(latest) == 3.0


@given(st.lists(st.tuples(st.integers(1, 9), st.sets(st.integers(0, 11))), max_size=8))
def test_each_asset_has_the_values_of_the_highest_batch_that_names_it(
    batches: list[tuple[int, set[int]]],
) -> None:
    latest = LatestState(make_fleet(12))
    newest: dict[int, int] = {}
    for batch_seq, keys in batches:
        samples = make_samples(*sorted(keys), ts_ms=NOW, soc=float(batch_seq))
        samples = replace(samples, asset_keys=sorted(keys), quality=bytes([batch_seq % 3] * len(keys)))
        latest.apply_agent(samples, received_ms=NOW, batch_seq=batch_seq)
        newest |= {key: max(batch_seq, newest.get(key, 0)) for key in keys}
    names = ["good", "suspect", "bad"]
    for key in range(12):
        view = latest.view(key, NOW)
        assert (view is None) == (key not in newest)
        if view is not None:
            assert (view.telemetry.soc_mwhr, view.quality) == (newest[key], names[newest[key] % 3])
    assert latest.count(Quality.BAD) == sum(seq % 3 == Quality.BAD for seq in newest.values())


@pytest.mark.parametrize("code", [Quality.SUSPECT, Quality.BAD])
@pytest.mark.parametrize("assets", [1, 20])
def test_what_can_be_trusted_is_remembered_until_there_is_something_newer(assets: int, code: Quality) -> None:
    latest = LatestState(make_fleet(assets))
    keys = list(range(assets))

    def report(value: float, quality: Quality) -> None:
        samples = replace(
            make_samples(*keys, ts_ms=NOW, soc=value), asset_keys=keys, quality=bytes([quality] * assets)
        )
        latest.apply_agent(samples, received_ms=NOW)

    def trusted() -> float | None:
        state = latest.trusted_state(assets - 1)
        return None if state is None else state.soc_mwhr

    report(math.nan, code)
    assert trusted() is None
    report(1.0, Quality.GOOD)
    report(math.nan, code)
    report(math.inf, code)
    assert trusted() == 1.0
    report(2.0, Quality.GOOD)
    assert trusted() == 2.0
    report(math.nan, code)
    latest.apply_synthesized(make_samples(*keys, ts_ms=NOW, soc=3.0, source="synthesized"))
    assert trusted() == 3.0
