"""PJM's performance score of a regulation resource, as a pure function of two series.

The formulas are those of PJM Manual 12 (Balancing Operations), section 4.5.6; `docs/regulation.md` describes
where this deviates, and from where the manual is quoted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

WINDOW_S = 300.0
LONGEST_DELAY_S = 300.0
DELAY_STEP_S = 10.0
SHORTEST_S = WINDOW_S + LONGEST_DELAY_S

# A window whose deviations stay below this share of the largest value does not vary.
_FLAT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well a response followed a signal; 1 is best, 0 worst.

    Attributes:
        accuracy: mean correlation of signal and response.
        delay: 1 without any delay, 0 for five minutes.
        precision: 1 less the mean error over the mean signal.
        total: a third of each.
        delay_s: mean delay at which the accuracy was found, in seconds.
    """

    accuracy: float
    delay: float
    precision: float
    total: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class _Window:
    """Five minutes of a series, less their mean, and the length of that as a vector (0 if flat)."""

    deviations: tuple[float, ...]
    norm: float


def performance_score(asked: Sequence[float], delivered: Sequence[float], step_s: float) -> Score:
    """Return PJM's performance score.

    Args:
        asked: the regulation signal, in any unit.
        delivered: the response at the same instants, in the same unit.
        step_s: seconds from one value to the next.

    Raises:
        ValueError: the series differ in length, have values that are not finite, are shorter than ten
            minutes (a window of five and a delay of five), or the signal never varies.
    """
    _check(asked, delivered, step_s)
    largest = max(map(abs, (*asked, *delivered)))
    window = max(2, round(WINDOW_S / step_s))
    shifts = sorted({round(count * DELAY_STEP_S / step_s) for count in range(31)})
    starts = range(len(asked) - window - shifts[-1] + 1)
    responses = [
        _window(delivered[start : start + window], largest) for start in range(len(delivered) - window + 1)
    ]
    found: list[tuple[float, float]] = []
    for start in starts:
        signal = _window(asked[start : start + window], largest)
        if signal.norm == 0.0:
            continue
        found.append(
            max(
                ((_correlation(signal, responses[start + shift]), shift * step_s) for shift in shifts),
                key=lambda pair: pair[0] + _delay_score(pair[1]),
            )
        )
    if not found:
        raise ValueError(
            "the signal does not vary within any five minutes, so that nothing can be correlated"
        )
    accuracies = [_clamped(correlation) for correlation, _delay_s in found]
    # Where nothing is correlated no response was seen, and none can have come in time.
    delays = [_delay_score(delay_s) if correlation > 0.0 else 0.0 for correlation, delay_s in found]
    accuracy, delay = math.fsum(accuracies) / len(found), math.fsum(delays) / len(found)
    precision = _precision(asked, delivered)
    return Score(
        accuracy=accuracy,
        delay=delay,
        precision=precision,
        total=(accuracy + delay + precision) / 3.0,
        delay_s=math.fsum(delay_s for _correlation, delay_s in found) / len(found),
    )


def _check(asked: Sequence[float], delivered: Sequence[float], step_s: float) -> None:
    if not 0.0 < step_s <= DELAY_STEP_S:
        raise ValueError(f"the step is {step_s:g} s; it must be above 0 and at most {DELAY_STEP_S:g} s")
    if len(asked) != len(delivered):
        raise ValueError(f"{len(asked)} values were asked, but {len(delivered)} delivered")
    if not all(map(math.isfinite, (*asked, *delivered))):
        raise ValueError("there are values that are not finite numbers")
    if len(asked) * step_s < SHORTEST_S:
        raise ValueError(
            f"a score needs {SHORTEST_S / 60.0:g} minutes; there are {len(asked) * step_s / 60.0:.1f}"
        )


def _window(values: Sequence[float], largest: float) -> _Window:
    mean = math.fsum(values) / len(values)
    deviations = tuple(value - mean for value in values)
    if max(map(abs, deviations)) <= _FLAT * largest:
        return _Window(deviations, 0.0)
    return _Window(deviations, math.sqrt(sum(map(mul, deviations, deviations))))


def _correlation(signal: _Window, response: _Window) -> float:
    """Return Pearson's coefficient; 0 for a response that is flat."""
    if response.norm == 0.0:
        return 0.0
    product: float = sum(map(mul, signal.deviations, response.deviations))
    return product / (signal.norm * response.norm)


def _delay_score(delay_s: float) -> float:
    return abs((delay_s - LONGEST_DELAY_S) / LONGEST_DELAY_S)


def _precision(asked: Sequence[float], delivered: Sequence[float]) -> float:
    error = math.fsum(abs(got - wanted) for wanted, got in zip(asked, delivered, strict=True))
    return _clamped(1.0 - error / math.fsum(map(abs, asked)))


def _clamped(share: float) -> float:
    return min(1.0, max(0.0, share))
