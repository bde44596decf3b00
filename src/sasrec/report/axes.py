"""Axes of charts: where a value lies on the drawing, and which round values are named."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One direction of a drawing.

    Attributes:
        low, high: The values at its ends; `low < high`.
        start, stop: Where these ends lie, in units of the drawing.
        ticks: Round values within the ends, ascending.
        logarithmic: Equal factors, not equal steps, are equally far apart.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies, in units of the drawing."""
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        place = (math.log(value) if self.logarithmic else value) - low
        return self.start + place / (high - low) * (self.stop - self.start)

    @property
    def labels(self) -> tuple[str, ...]:
        """The ticks in words, all with as many decimals as the finest of them needs."""
        decimals = max((_decimals(tick) for tick in self.ticks), default=0)
        return tuple(f"{tick:,.{decimals}f}" for tick in self.ticks)


def linear_axis(
    values: Iterable[float], start: float, stop: float, *, from_zero: bool = False, whole: bool = False
) -> Axis:
    """An axis of equal steps around all finite values, its ends at ticks.

    Args:
        from_zero: The axis holds 0 too, as bars need it.
        whole: Only whole numbers are named, and the ends are the values' own.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low, low + 1) if from_zero or whole else (low - abs(low) / 2 - 0.5, low + abs(low) / 2 + 0.5)
    step = _round_step((high - low) / 6, at_least=1.0 if whole else 0.0)
    first, last = (math.ceil, math.floor) if whole else (math.floor, math.ceil)
    # A hair of tolerance, or 0.3 / 0.1 would round up to 4 steps.
    places = range(first(low / step + (-1e-9 if whole else 1e-9)), last(high / step + (1e-9 if whole else -1e-9)) + 1)
    ticks = tuple(round(place * step, 12) for place in places)
    return Axis(low if whole else ticks[0], high if whole else ticks[-1], start, stop, ticks)


def logarithmic_axis(values: Iterable[float], start: float, stop: float) -> Axis:
    """An axis of equal factors between the least and the greatest value, all above 0.

    Powers of ten are named; where there are fewer than three, twice and five times of them too.
    """
    finite = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    low, high = min(finite), max(finite)
    high = high if high > low else low * 10
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    factors = (1, 2, 5) if len(powers) < 3 else (1,)
    rounds = (10.0**power * factor for power in range(powers.start - 1, powers.stop) for factor in factors)
    ticks = tuple(tick for tick in rounds if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9))
    return Axis(low, high, start, stop, ticks, logarithmic=True)


def _round_step(step: float, *, at_least: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten; 2.5 only where steps need not be whole."""
    step = max(step, at_least)
    power = 10.0 ** math.floor(math.log10(step))
    choices = (1, 2, 5, 10) if at_least else (1, 2, 2.5, 5, 10)
    return next(power * factor for factor in choices if power * factor >= step * (1 - 1e-9))


def _decimals(tick: float) -> int:
    text = f"{tick:.10f}".rstrip("0")
    return len(text.partition(".")[2])
