"""What the columns of a log mean: which is the user, and how ids, times and weights are read from them."""

import difflib
import re
from typing import get_args

import polars as pl

from sasrec.data.clock import MOST
from sasrec.data.formats import Table, row_list
from sasrec.data.log import Columns, TimeUnit
from sasrec.data.vocab import INTEGER
from sasrec.errors import DataError

# Names in the first group that matches win; two matches in one group are ambiguous.
# Case, spaces, dots, hyphens and underscores are left out of the comparison.
_USUAL_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("userid", "user", "uid"),
        ("customerid", "customer", "visitorid", "reviewerid", "memberid", "accountid", "clientid", "username"),
        ("sessionid", "session"),
    ),
    "item": (
        ("itemid", "item", "iid"),
        (
            *("movieid", "movie", "productid", "product", "articleid", "trackid", "songid", "videoid", "bookid"),
            *("gameid", "newsid", "businessid", "stockcode", "sku", "asin", "aid"),
        ),
        ("parentasin",),
    ),
    "time": (
        (
            *("timestamp", "datetime", "time", "date", "ts", "unixreviewtime", "unixtime", "createdat"),
            *("eventtime", "eventtimestamp", "eventdate", "invoicedate"),
        ),
        ("order",),
    ),
    "weight": (("weight",), ("rating", "ratings", "stars", "overall", "score")),
    "title": (("title",), ("name", "itemtitle", "movietitle", "producttitle", "productname"), ("description",)),
}

# Paths and addresses fit; what is longer is most often a piece of the file behind a stray quotation mark.
LONGEST_ID_BYTES = 4096
# Without Unicode (?-u), as digits of other scripts are numbers to nobody else here.
_ISO = r"(?-u)^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?$"
# Dates as spreadsheets write them, once every number of one digit has been given its zero.
_YEAR_FIRST, _YEAR_LAST = r"(?-u)^(\d{4})[/.](\d\d)[/.](\d\d)\b", r"(?-u)^(\d\d)[/.-](\d\d)[/.-](\d{4})\b"
# 1e8 seconds are 1973, 1e11 seconds the year 5138: the dates of each unit end where those of the next begin.
_LEAST_TIMES: dict[TimeUnit, float] = {"ns": 1e17, "us": 1e14, "ms": 1e11, "s": 1e8}
# Bits of a float's integers: beyond 2 to their power, neighbours share one float.
_BITS, _MOST_BITS = {"Float16": 11, "Float32": 24}, 53


def choose_columns(
    table: Table, *, user: str | None, item: str | None, time: str | None, weight: str | None
) -> Columns:
    """The columns as named, or else as usually named.

    Args:
        user: Name of the column; None looks for a usual name.
        item: As `user`.
        time: As `user`; "" takes none, and the order of the rows is the order of events.
        weight: As `user`; "" takes none, and all events weigh the same.
    Raises:
        DataError: A column is missing, could be either of two, or would play two parts.
    """
    chosen = Columns(
        _required(table, "user", user),
        _required(table, "item", item),
        None if time == "" else find_column(table, "time", time),
        None if weight == "" else find_column(table, "weight", weight),
    )
    role_of: dict[str, str] = {}
    for role, name in chosen.by_role().items():
        if name in role_of:
            raise DataError(
                f"{table.name}: column {name!r} cannot be both {role_of[name]} and {role}; name another one"
            )
        role_of[name] = role
    return chosen


def _required(table: Table, role: str, name: str | None) -> str:
    found = find_column(table, role, name)
    if found is None:
        # A first line of data taken for a header has numbers as names.
        bare = any(re.fullmatch(r"-?\d+(\.\d+)?", one) for one in table.columns)
        hint = "; the first line looks like data: add a header line" if bare else ""
        raise DataError(
            f"{table.name}: no column has a usual name of a {role}; columns are {listed(table.columns)}; "
            f'pass {role}="..."{hint}'
        )
    return found


def find_column(table: Table, role: str, name: str | None) -> str | None:
    """The column as named, or else the one with a usual name of its role; None where there is no such.

    Args:
        role: "user", "item", "time", "weight" or "title".

    Raises:
        DataError: The named column is missing, or several have a usual name.
    """
    if name is not None:
        if name not in table.columns:
            near = {_plain(one): one for one in reversed(table.columns)}
            close = difflib.get_close_matches(_plain(name), near, n=1)
            hint = f'; pass {role}="{near[close[0]]}"' if close else f'; pass {role}="..." with one of them'
            raise DataError(f"{table.name}: no column {name!r}; columns are {listed(table.columns)}{hint}")
        return name
    for group in _USUAL_NAMES[role]:
        found = [one for one in table.columns if _plain(one) in group]
        if len(found) > 1:
            choice = " or ".join(f'{role}="{one}"' for one in found)
            raise DataError(f"{table.name}: {listed(found)} could each be the {role}; pass {choice}")
        if found:
            return found[0]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).lower()


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Column names for a message, in quotation marks where they could be mistaken; the first 20."""
    shown = ", ".join(one if one.strip() == one and one and "," not in one else repr(one) for one in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def read_fields(
    rows: pl.DataFrame, columns: Columns, *, table: Table, time_unit: TimeUnit | None
) -> tuple[pl.DataFrame, TimeUnit | None]:
    """The columns as `user`, `item`, `time` and `weight`, with null for what cannot be used, and the unit of the times.

    Args:
        table: Where the rows come from.
        time_unit: What numbers in the time column count; None tells it from their size.

    Raises:
        DataError: A whole column cannot be used.
    """
    where = {role: f"{table.name}, column {name!r}" for role, name in columns.by_role().items()}
    # By the names of their roles, as polars takes one such as ^i.*$ for a pattern.
    given = {role: rows[name].alias(role) for role, name in columns.by_role().items()}
    fields = {role: read_ids(given[role], typed=table.typed, where=where[role]) for role in ("user", "item")}
    if columns.time is not None:
        if time_unit is None and _plain(columns.time) == "order":
            time_unit = "order"
        fields["time"], time_unit = _times(given["time"], unit=time_unit, where=where["time"])
    elif time_unit is not None:
        raise DataError(f"{table.name}: time_unit={time_unit!r} without a time column; pass time= too")
    if columns.weight is not None:
        fields["weight"] = _weights(given["weight"], where=where["weight"])
    return pl.DataFrame(fields), time_unit


def read_ids(column: pl.Series, *, typed: bool, where: str) -> pl.Series:
    """Ids as text or integers, with null where the id is missing or empty.

    Text stays as it is, to the byte. Where the source has no types it becomes integers only if every value is the
    canonical text of one (`007` and `1e5` are not).

    Args:
        where: The file and column, for messages.
    Raises:
        DataError: The type names nothing (booleans, dates, fractions), or an id holds a NUL or is too long.
    """
    if column.dtype.is_integer():
        whole = _fitting(column)
        if whole is None:
            raise DataError(f"{where}: ids do not fit 64-bit integers; save them as text")
        return whole
    if column.dtype.is_float():
        bits, column = _BITS.get(str(column.dtype), _MOST_BITS), column.cast(pl.Float64).fill_nan(None)
        if not ((column == column.floor()) & (column.abs() < 2.0**bits)).all():
            raise DataError(f"{where}: ids are numbers with a fraction or beyond 2^{bits}; save integers or text")
        return column.cast(pl.Int64)
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise DataError(f"{where}: ids must be text or integers, found {column.dtype}")
    text = column.cast(pl.String)
    holds_nul = text.str.contains("\0", literal=True).fill_null(False)
    if holds_nul.any():
        which = f"{row_list(holds_nul.arg_true())}, or in JSON half of a surrogate pair, which is read as one"
        raise DataError(f"{where}: an id holds a NUL character in {which}; clean the file")
    too_long = (text.str.len_bytes() > LONGEST_ID_BYTES).fill_null(False)
    if too_long.any():
        raise DataError(
            f"{where}: an id is longer than {LONGEST_ID_BYTES:,} bytes in {row_list(too_long.arg_true())}; "
            "look for a quotation mark that swallowed other lines"
        )
    text = text.set(text == "", None)
    if not typed and text.null_count() < len(text) and text.str.contains(INTEGER).all():
        whole = _fitting(text)
        return text if whole is None else whole
    return text


def read_texts(column: pl.Series, *, where: str) -> pl.Series:
    """Values of whatever type as text.

    Args:
        where: The file and column, for messages.
    Raises:
        DataError: The type has no text, as lists in lists and Python's objects.
    """
    try:
        return (column.fill_nan(None) if column.dtype.is_float() else column).cast(pl.String)
    except pl.exceptions.PolarsError:
        raise DataError(f"{where}: {column.dtype} cannot be read as text; convert it to text or numbers") from None


def _fitting(column: pl.Series) -> pl.Series | None:
    for type_ in (pl.Int64, pl.UInt64):
        whole = column.cast(type_, strict=False)
        if whole.null_count() == column.null_count():
            return whole
    return None


def _times(column: pl.Series, *, unit: TimeUnit | None, where: str) -> tuple[pl.Series, TimeUnit]:
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
    times, bits = _numbers(column), _BITS.get(str(column.dtype))
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
    whole = ((numbers == numbers.floor()) & (numbers.abs() < 2.0**_MOST_BITS)).all()
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


def _weights(column: pl.Series, *, where: str) -> pl.Series:
    """Weights as float64, with null where a weight is missing, no number, or not finite as histories keep it.

    Raises:
        DataError: The column holds something other than numbers, or numbers with a comma.
    """
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null, pl.Boolean)):
        raise DataError(f'{where}: weights must be numbers, found {column.dtype}; pass weight="" to leave them out')
    if column.dtype == pl.String and (commas := column.str.contains(r"^[+-]?[0-9]+,[0-9]+$").fill_null(False)).any():
        shown = f"such as {column.filter(commas)[0]!r} in {row_list(commas.arg_true())}"
        raise DataError(
            f'{where}: weights with a comma, {shown}; save them with a point, or pass weight="" to leave them out'
        )
    weights = column.cast(pl.Float64, strict=False)
    return weights.set(~weights.cast(pl.Float32).is_finite(), None)
