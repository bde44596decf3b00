"""Times of a log: numbers in a unit that their size tells, and dates in the forms that they are written in."""

from typing import get_args

import polars as pl

from sasrec.data.clock import MOST
from sasrec.data.log import TimeUnit
from sasrec.errors import DataError

# Without Unicode (?-u), as digits of other scripts are numbers to nobody else here.
_ISO = r"(?-u)^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?$"
# Dates as spreadsheets write them, once every number of one digit has been given its zero.
_YEAR_FIRST, _YEAR_LAST = r"(?-u)^(\d{4})[/.](\d\d)[/.](\d\d)\b", r"(?-u)^(\d\d)[/.-](\d\d)[/.-](\d{4})\b"
# 1e8 seconds are 1973, 1e11 seconds the year 5138: the dates of each unit end where those of the next begin.
_LEAST_TIMES: dict[TimeUnit, float] = {"ns": 1e17, "us": 1e14, "ms": 1e11, "s": 1e8}
# Bits of a float's integers: beyond 2 to their power, neighbours share one float.
BITS, MOST_BITS = {"Float16": 11, "Float32": 24}, 53


def read_times(column: pl.Series, *, unit: TimeUnit | None, where: str) -> tuple[pl.Series, TimeUnit]:
    """Times as int64 or, where they have a fraction, float64, with null where a time is missing or no number or date.

    Dates become microseconds (nanoseconds where they need them); without a zone they are taken as UTC.

    Args:
        unit: What numbers count; None tells it from their size.
        where: The file and column, for messages.
    Returns:
        The times and their unit.
    Raises:
        DataError: The column mixes numbers with dates, two forms of dates, or two units; or is of another type.
    """
    if unit is not None and unit not in get_args(TimeUnit):
        raise DataError(f"{where}: unknown time unit {unit!r}; units are {', '.join(get_args(TimeUnit))}")
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        column = _text_times(column.cast(pl.String), where)
    if column.dtype in (pl.Date, pl.Datetime):
        if unit not in (None, "us"):
            raise DataError(f"{where}: holds dates, which have no unit to choose; leave time_unit out")
        return _instants(column)
    if not column.dtype.is_numeric() and column.dtype != pl.Null:
        raise DataError(f"{where}: times must be numbers or dates, found {column.dtype}")
    times, bits = _numbers(column), BITS.get(str(column.dtype))
    if bits and (times.cast(pl.Float64).abs() >= 2.0**bits).any():
        found = f"{column.dtype} beyond 2^{bits}, where it has one number for several times"
        raise DataError(f"{where}: times are {found}; save them as integers or Float64")
    return times, unit or _guessed_unit(times, where)


def _text_times(text: pl.Series, where: str) -> pl.Series:
    integers, numbers = text.cast(pl.Int64, strict=False), text.cast(pl.Float64, strict=False)
    usable = numbers.is_finite().fill_null(False)
    if (usable & integers.is_null()).any():
        # One 12.0 or 1.2e9 must not make floats of all, which would round nanoseconds.
        whole = numbers.set(numbers != numbers.floor(), None).cast(pl.Int64, strict=False)
        integers = text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False).fill_null(whole)
    given, dates = text, text.str.contains(_ISO).fill_null(False)
    if not dates.any() and not usable.any():
        text = _as_iso(text, where)
        dates = text.str.contains(_ISO).fill_null(False)
    if not dates.any():
        if not usable.any() and given.null_count() < len(given):
            raise DataError(
                f"{where}: times such as {given.drop_nulls()[0]!r} are neither numbers nor dates like 2024-12-31, "
                "2024-12-31 23:59:59, 2024-12-31T23:59:59Z or 31/12/2024 23:59; convert them"
            )
        return integers if integers.is_not_null().sum() == usable.sum() else numbers
    if usable.any():
        raise DataError(
            f"{where}: mixes dates and numbers, e.g. {text.filter(dates)[0]!r} and {text.filter(usable)[0]!r}; "
            "save all as one or the other"
        )
    iso = text.set(~dates, None)
    clocks = iso.str.slice(len("2000-01-01")).str.replace(r"\.\d+", "").str.replace(r"(Z|[+-][\d:]+)$", "+")
    forms = clocks.str.replace_all(r"\d+", "0")
    found = forms.drop_nulls().unique(maintain_order=True)
    if len(found) > 1:
        shown = " and ".join(repr(given.filter(forms == form)[0]) for form in found.head(2))
        raise DataError(f"{where}: mixes forms of dates, e.g. {shown}; save all in one form, all with a zone or none")
    clock = found[0].replace("0:0:0", "%H:%M:%S%.f").replace("0:0", "%H:%M").replace("+", "%#z")
    moments = iso.str.strptime(pl.Datetime("us"), f"%Y-%m-%d{clock}", strict=False)
    if iso.str.contains(r"\.\d{7}").any():
        # Nanoseconds reach from 1677 to 2262; polars wraps what lies beyond.
        beyond = moments.to_physical().abs() >= 2**63 // 1000
        return iso.set(beyond, None).str.strptime(pl.Datetime("ns"), f"%Y-%m-%d{clock}", strict=False)
    return moments


def _as_iso(text: pl.Series, where: str) -> pl.Series:
    """Text in which dates such as 31/12/2024 8:05, 12/31/2024 and 2024/12/31 are ISO dates.

    Day and month are told apart by the numbers above 12, which stand in one of the two places alone.

    Raises:
        DataError: They stand in neither place or in both.
    """
    # The 5 of 23:59:59.5 is no number of its own; spreadsheets write no such.
    padded = text.set(text.str.contains(r"(?-u):\d+\."), None).str.replace_all(r"(?-u)\b(\d)\b", "0$1")
    padded = padded.str.replace(_YEAR_FIRST, "$1-$2-$3")
    days, months = (text.filter(padded.str.extract(_YEAR_LAST, place).cast(pl.Int8) > 12) for place in (1, 2))
    if len(days) and len(months):
        raise DataError(
            f"{where}: {days[0]!r} begins with the day and {months[0]!r} with the month; save all as year-month-day"
        )
    unclear = text.filter(padded.str.contains(_YEAR_LAST)) if days.is_empty() and months.is_empty() else days.clear()
    if len(unclear):
        raise DataError(
            f"{where}: dates such as {unclear[0]!r} may begin with the day or with the month, as neither is ever above "
            "12; save them as year-month-day"
        )
    return padded.str.replace(_YEAR_LAST, "$3-$2-$1" if len(days) else "$3-$1-$2")


def _instants(column: pl.Series) -> tuple[pl.Series, TimeUnit]:
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_unit == "ns":
        nanoseconds = column.to_physical()
        # Rounding would make ties of events that have an order.
        if (nanoseconds % 1000 != 0).any():
            return _within(nanoseconds), "ns"
    # A date that no calendar has would make polars panic.
    return _within(column.cast(pl.Datetime("us"), strict=False).to_physical()), "us"


def _numbers(column: pl.Series) -> pl.Series:
    """Int64 where that loses nothing, Float64 elsewhere; null for what is not finite, or too large to reckon with."""
    if column.dtype.is_integer():
        return _within(column.cast(pl.Int64, strict=False))
    numbers = column.cast(pl.Float64)
    numbers = _within(numbers.set(~numbers.is_finite(), None))
    whole = ((numbers == numbers.floor()) & (numbers.abs() < 2.0**MOST_BITS)).all()
    return numbers.cast(pl.Int64) if whole else numbers


def _within(times: pl.Series) -> pl.Series:
    # As floats, among which those that round up to the bound count, and the least integer has an absolute value.
    return times.set(times.cast(pl.Float64).abs() >= MOST, None)


def _guessed_unit(times: pl.Series, where: str) -> TimeUnit:
    known = times.drop_nulls()
    if known.is_empty():
        return "steps"
    low, high = known.to_numpy().min(), known.to_numpy().max()
    least, most = _unit_of(low), _unit_of(high)
    if least != most:
        raise DataError(
            f"{where}: the smallest time, {low}, looks like {least} and the largest, {high}, like {most}; "
            f'if all are in one unit, pass e.g. time_unit="{most}", otherwise mend the times'
        )
    return most


def _unit_of(time: float) -> TimeUnit:
    return next((unit for unit, least in _LEAST_TIMES.items() if time >= least), "steps")
