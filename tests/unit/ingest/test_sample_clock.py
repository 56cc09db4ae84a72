"""When samples were made by the headend's clock, whatever the agents' clocks say."""

import pytest

from trioder.ingest.sample_clock import FIRST_POSSIBLE_MS, SampleClock, is_wrong_time

NOW = 1_800_000_000_000
DAY = 86_400_000
YEAR = 365 * DAY


class Sender:
    """Sends samples that are made when they are sent, unless given another time; a test sets the clocks."""

    def __init__(self, *, ahead_ms: int = 0, skew_s: float | None = None, in_sequence: bool = True) -> None:
        self.clock = SampleClock()
        self.ahead_ms = ahead_ms
        self.skew_s = skew_s
        self.in_sequence = in_sequence

    def age_ms(self, at_ms: int, *, late_ms: int = 0, newest: bool = True) -> int:
        received_ms = NOW + at_ms
        made_ms = self.clock.made_ms(
            received_ms - late_ms + self.ahead_ms,
            received_ms=received_ms,
            skew_s=self.skew_s,
            newest=newest,
            in_sequence=self.in_sequence,
        )
        assert made_ms <= received_ms
        return received_ms - made_ms


@pytest.mark.parametrize("ahead_ms", [0, 2000, -2000, 3_600_000, -3_600_000, YEAR, -YEAR])
def test_a_measured_skew_is_no_age(ahead_ms: int) -> None:
    sender = Sender(ahead_ms=ahead_ms, skew_s=ahead_ms / 1000)
    assert [sender.age_ms(4000 * pulse) for pulse in range(3)] == [0, 0, 0]
    assert sender.age_ms(12_000, late_ms=600_000, newest=False) == 600_000


def test_without_a_measurement_a_clock_that_is_ahead_is_noticed_at_once() -> None:
    sender = Sender(ahead_ms=30_000)
    assert sender.age_ms(0) == 0
    assert sender.age_ms(4000, late_ms=5000, newest=False) == 5000


def test_without_a_measurement_a_clock_that_is_behind_is_noticed_once_samples_arrive_steadily() -> None:
    sender = Sender(ahead_ms=-DAY)
    assert [sender.age_ms(4000 * pulse) for pulse in range(4)] == [DAY, DAY, 0, 0]


def test_a_backlog_is_old_however_fast_it_arrives() -> None:
    sender = Sender()
    # An hour in a minute.
    ages = [sender.age_ms(at_ms, late_ms=3_600_000 - 59 * at_ms) for at_ms in range(0, 60_000, 1000)]
    assert ages == [3_600_000 - 59 * at_ms for at_ms in range(0, 60_000, 1000)]


def test_a_backlog_behind_live_samples_yields_no_skew() -> None:
    sender = Sender()
    for pulse in range(10):
        assert sender.age_ms(4000 * pulse) == 0
        assert sender.age_ms(4000 * pulse, late_ms=600_000, newest=False) == 600_000


@pytest.mark.parametrize("skew_s", [None, 0.0])
def test_a_clock_that_is_set_back_makes_nothing_old(skew_s: float | None) -> None:
    sender = Sender(skew_s=skew_s)
    sender.age_ms(0)
    sender.ahead_ms = -3_600_000
    assert [sender.age_ms(4000 * pulse) for pulse in range(1, 4)] == [0, 0, 0]


@pytest.mark.parametrize("skew_s", [None, -3600.0])
def test_a_clock_that_is_set_right_makes_nothing_new_that_is_old(skew_s: float | None) -> None:
    sender = Sender(ahead_ms=-3_600_000, skew_s=skew_s)
    for pulse in range(4):
        sender.age_ms(4000 * pulse)
    sender.ahead_ms = 0
    assert sender.age_ms(16_000) == 0
    assert sender.age_ms(16_000, late_ms=60_000, newest=False) == 60_000


def test_an_older_sample_without_a_sequence_is_backfill() -> None:
    sender = Sender(in_sequence=False)
    assert sender.age_ms(0) == 0
    assert sender.age_ms(1000, late_ms=600_000) == 600_000
    assert sender.age_ms(2000) == 0


def test_a_later_measurement_replaces_the_one_before() -> None:
    sender = Sender(ahead_ms=50_000)
    assert sender.age_ms(0) == 0
    sender.skew_s = 40.0
    sender.ahead_ms = 40_000
    assert sender.age_ms(4000, late_ms=1000) == 1000


def test_a_step_of_the_headends_own_clock_makes_nothing_older() -> None:
    sender = Sender()
    assert sender.age_ms(0) == 0
    sender.clock.clock_stepped(3_600_000)
    sender.ahead_ms = -3_600_000
    assert sender.age_ms(3_604_000, late_ms=100) == 100


def test_when_both_clocks_are_set_the_measured_skew_counts_though_it_is_the_same_number() -> None:
    sender = Sender(skew_s=0.0)
    assert sender.age_ms(0) == 0
    sender.clock.clock_stepped(-2_000)
    assert sender.age_ms(2_000, late_ms=500) == 500


@pytest.mark.parametrize(
    ("ts_ms", "skew_s", "wrong"),
    [
        (NOW, None, False),
        (NOW + 60_000, None, False),
        (NOW + 60_001, None, True),
        (NOW + DAY, 86_400.0, False),
        (NOW + DAY, 86_300.0, True),
        (NOW + DAY, 0.0, True),
        # It was behind when that was measured, and is right by now.
        (NOW, -86_400.0, False),
        (946_684_800_000, None, False),
        (946_684_799_999, None, True),
        (946_684_799_999, -1e9, True),
        (0, None, True),
        (253_402_300_799_999, None, True),
    ],
)
def test_times_that_cannot_be(ts_ms: int, skew_s: float | None, wrong: bool) -> None:
    assert is_wrong_time(ts_ms, received_ms=NOW, skew_s=skew_s) == wrong


def test_both_clocks_are_set_alike_between_two_samples() -> None:
    clock = SampleClock()

    def made_ms(ts_unix_ms: int) -> int:
        return clock.made_ms(
            ts_unix_ms, received_ms=ts_unix_ms + 5, skew_s=0.001, newest=True, in_sequence=True
        )

    first_ms = FIRST_POSSIBLE_MS + 1_000_000
    assert made_ms(first_ms) == first_ms - 1
    clock.clock_stepped(-2_000)
    # The skew that is measured is the same as before.
    assert made_ms(first_ms + 2_000) == first_ms + 1_999
