"""Times of a log: numbers in a unit that their size tells, and dates in the forms that they are written in."""

from typing import get_args

import polars as pl

from sasrec.data.clock import MOST
from sasrec.data.log import DateOrder, TimeUnit
from sasrec.errors import DataError

# Without Unicode (?-u), as digits of other scripts are numbers to nobody else here.
_ISO = r"(?-u)^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?$"
# Dates as spreadsheets write them, once every number of one digit has been given its zero.
_YEAR_FIRST, _YEAR_LAST = r"(?-u)^(\d{4})[/.](\d\d)[/.](\d\d)\b", r"(?-u)^(\d\d)[/.-](\d\d)[/.-](\d{4})\b"
# A half of the day behind a clock of twelve hours, likewise with two digits each.
_HALF = r"(?i-u)^([\d/.-]+),? (\d\d)((?::\d\d){1,2}) ?([ap])m$"
# 1e8 seconds are 1973, 1e11 seconds the year 5138: the dates of each unit end where those of the next begin.
_LEAST_TIMES: dict[TimeUnit, float] = {"ns": 1e17, "us": 1e14, "ms": 1e11, "s": 1e8}
# Bits of a float's integers: beyond 2 to their power, neighbours share one float.
BITS, MOST_BITS = {"Float16": 11, "Float32": 24}, 53


def read_times(column: pl.Series, *, unit: TimeUnit | DateOrder | None, where: str) -> tuple[pl.Series, TimeUnit]:
    """Times as int64 or, where they have a fraction, float64, with null where a time is missing or no number or date.

    Dates become microseconds (nanoseconds where they need them); without a zone they are taken as UTC.

    Args:
        unit: What numbers count, or what dates such as 03/04/2024 begin with; None tells it from the values.
        where: The file and column, for messages.
    Returns:
        The times and their unit.
    Raises:
        DataError: The column mixes numbers with dates, two forms of dates, or two units; or is of another type.
    """
    if unit is not None and unit not in (*get_args(TimeUnit), *get_args(DateOrder)):
        units, orders = ", ".join(get_args(TimeUnit)), " and ".join(get_args(DateOrder))
        raise DataError(f"{where}: unknown time unit {unit!r}; units are {units}, and of dates {orders}")
    order: DateOrder | None = unit if unit in ("day-first", "month-first") else None
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        column = _text_times(column.cast(pl.String), where, order)
    if column.dtype in (pl.Date, pl.Datetime):
        if unit not in (None, "us", order):
            raise DataError(f"{where}: holds dates, which have no unit to choose; leave time_unit out")
        return _instants(column)
    if not column.dtype.is_numeric() and column.dtype != pl.Null:
        raise DataError(f"{where}: times must be numbers or dates, found {column.dtype}")
    if unit == "day-first" or unit == "month-first":  # noqa: PLR1714  # which mypy alone understands
        if column.null_count() < len(column):
            raise DataError(f"{where}: holds numbers, which begin with no day or month; leave time_unit={unit!r} out")
        unit = None
    times, bits = _numbers(column), BITS.get(str(column.dtype))
    if bits and (times.cast(pl.Float64).abs() >= 2.0**bits).any():
        found = f"{column.dtype} beyond 2^{bits}, where it has one number for several times"
        raise DataError(f"{where}: times are {found}; save them as integers or Float64")
    return times, unit or _guessed_unit(times, where)


def _text_times(text: pl.Series, where: str, order: DateOrder | None) -> pl.Series:
    integers, numbers = text.cast(pl.Int64, strict=False), text.cast(pl.Float64, strict=False)
    usable = numbers.is_finite().fill_null(False)
    if (usable & integers.is_null()).any():
        # One 12.0 or 1.2e9 must not make floats of all, which would round nanoseconds.
        whole = numbers.set(numbers != numbers.floor(), None).cast(pl.Int64, strict=False)
        integers = text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False).fill_null(whole)
    given = text
    if text.str.ends_with(" UTC").any():  # as BigQuery writes them
        text = text.str.replace(r"(?-u)^([\d/.T :-]*:\d\d(?:\.\d+)?) UTC$", "${1}Z")
    dates = text.str.contains(_ISO).fill_null(False)
    if not dates.any() and not usable.any():
        text = _as_iso(text, where, order)
        dates = text.str.contains(_ISO).fill_null(False)
    if not dates.any():
        if not usable.any() and given.null_count() < len(given):
            raise DataError(
                f"{where}: times such as {given.drop_nulls()[0]!r} are neither numbers nor dates like 2024-12-31, "
                "2024-12-31 23:59:59, 2024-12-31T23:59:59Z, 31/12/2024 23:59 or 12/31/2024 11:59 PM; convert them"
            )
        return integers if integers.is_not_null().sum() == usable.sum() else numbers
    if usable.any():
        raise DataError(
            f"{where}: mixes dates and numbers, e.g. {given.filter(dates)[0]!r} and {given.filter(usable)[0]!r}; "
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


def _as_iso(text: pl.Series, where: str, order: DateOrder | None) -> pl.Series:
    """Text in which dates such as 31/12/2024 8:05, 12/31/2024 and 2024/12/31 are ISO dates.

    Day and month are told apart by the numbers above 12, which stand in one of the two places alone, or by the order.

    Raises:
        DataError: They stand in both places, in the one against the order, or in neither and there is no order.
    """
    # The 5 of 23:59:59.5 is no number of its own; spreadsheets write no such.
    padded = text.set(text.str.contains(r"(?-u):\d+\."), None).str.replace_all(r"(?-u)\b(\d)\b", "0$1")
    padded = _on_24_hours(padded).str.replace(_YEAR_FIRST, "$1-$2-$3")
    days, months = (text.filter(padded.str.extract(_YEAR_LAST, place).cast(pl.Int8) > 12) for place in (1, 2))
    if len(days) and len(months):
        raise DataError(
            f"{where}: {days[0]!r} begins with the day and {months[0]!r} with the month; save all as year-month-day"
        )
    for one, dates in (("day-first", days), ("month-first", months)):
        if len(dates) and order not in (None, one):
            raise DataError(f"{where}: {dates[0]!r} is {one}, not {order}; leave time_unit={order!r} out")
    unclear = text.filter(padded.str.contains(_YEAR_LAST))
    if len(unclear) and days.is_empty() and months.is_empty() and order is None:
        raise DataError(
            f"{where}: dates such as {unclear[0]!r} may begin with the day or with the month, as neither is ever above "
            '12; pass time_unit="day-first" or time_unit="month-first"'
        )
    return padded.str.replace(_YEAR_LAST, "$3-$2-$1" if len(days) or order == "day-first" else "$3-$1-$2")


def _on_24_hours(padded: pl.Series) -> pl.Series:
    """Dates with times such as 01:05 PM as with 13:05; beside such a time one without its half of the day is none."""
    parts = padded.str.extract_groups(_HALF).struct.unnest()
    day, hour, rest, half = (parts[name] for name in parts.columns)
    if half.null_count() == len(half):
        return padded
    hours = hour.set(~hour.is_between(pl.lit("01"), pl.lit("12")), None).cast(pl.Int64) % 12
    hours += (half.str.to_lowercase() == "p").cast(pl.Int64) * 12
    return day + " " + hours.cast(pl.String).str.zfill(2) + rest


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
