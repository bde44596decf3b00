"""What the columns of a log mean: which is the user, and how ids and weights are read from them."""

import difflib
import re

import polars as pl

from sasrec.data.formats import Table, header_hint, row_list
from sasrec.data.log import Columns, DateOrder, TimeUnit
from sasrec.data.times import BITS, MOST_BITS, read_times
from sasrec.data.vocab import INTEGER
from sasrec.errors import DataError, check_kind
from sasrec.words import with_article

# Names in the first group that matches win; two matches in one group are ambiguous.
# Case, spaces, dots, hyphens and underscores are left out of the comparison.
_COUNTS_ROWS = r"^$|Unnamed: \d+$|__index_level_\d+__$"
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
        if not table.columns:
            raise DataError(f"{table.name}: has no columns; give one of users and one of items")
        raise DataError(
            f"{table.name}: no column has a usual name of {with_article(role)}; columns are {listed(table.columns)}; "
            f'pass {role}="..."{header_hint(table.columns)}'
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
        check_kind(role, name, str, called="name", advice="pass that of one column")
        if name not in table.columns:
            near = {_plain(one): one for one in reversed(table.columns)}
            close = difflib.get_close_matches(_plain(name), near, n=1)
            hint = f'; pass {role}="{near[close[0]]}"' if close else f'; pass {role}="..." with one of them'
            raise DataError(f"{table.name}: no column {name!r}; columns are {listed(table.columns)}{hint}")
        return name
    # Levels of an index come last: most are there for other reasons.
    for columns in ([one for one in table.columns if one not in table.levels], table.levels):
        for group in _USUAL_NAMES[role]:
            found = [one for one in columns if _plain(one) in group]
            if len(found) > 1:
                choice = " or ".join(f'{role}="{one}"' for one in found)
                raise DataError(f"{table.name}: {listed(found)} could each be the {role}; pass {choice}")
            if found:
                return found[0]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).lower()


def without_time(table: Table, columns: Columns) -> str:
    """That no time was found among columns that may be one, and what to do; "" where nothing may be."""
    usual = {name for groups in _USUAL_NAMES.values() for group in groups for name in group}
    idle = [one for one in table.columns if one not in columns.by_role().values() and _plain(one) not in usual]
    # Indexes and the columns that they are saved as count rows, unless they hold dates.
    left = [one for one in idle if one in table.dated or not (one in table.levels or re.match(_COUNTS_ROWS, one))]
    if not left:
        return ""
    dated = [one for one in left if one in table.dated]
    advice = f'time="{dated[0]}", which holds dates' if dated else 'time="..." with one of them'
    return (
        f"no column has a usual name of a time, so rows are taken in their order; not used are {listed(left)}; pass "
        f'{advice}, or time="" for the order of the rows'
    )


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Column names for a message, in quotation marks where they could be mistaken; the first 20."""
    shown = ", ".join(one if one.strip() == one and one and "," not in one else repr(one) for one in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def read_fields(
    rows: pl.DataFrame, columns: Columns, *, table: Table, time_unit: TimeUnit | DateOrder | None
) -> tuple[pl.DataFrame, TimeUnit | None]:
    """The columns as `user`, `item`, `time` and `weight`, with null for what cannot be used, and the unit of the times.

    Args:
        table: Where the rows come from.
        time_unit: What numbers in the time column count, or dates begin with; None tells it from the values.

    Raises:
        DataError: A whole column cannot be used.
    """
    where = {role: f"{table.name}, column {name!r}" for role, name in columns.by_role().items()}
    # By the names of their roles, as polars takes one such as ^i.*$ for a pattern.
    given = {role: rows[name].alias(role) for role, name in columns.by_role().items()}
    fields = {role: read_ids(given[role], typed=table.typed, where=where[role]) for role in ("user", "item")}
    unit: TimeUnit | None = None
    if columns.time is not None:
        if time_unit is None and _plain(columns.time) == "order":
            time_unit = "order"
        fields["time"], unit = read_times(given["time"], unit=time_unit, where=where["time"])
    elif time_unit is not None:
        raise DataError(f"{table.name}: time_unit={time_unit!r} without a time column; pass time= too")
    if columns.weight is not None:
        fields["weight"] = _weights(given["weight"], where=where["weight"])
    return pl.DataFrame(fields), unit


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
        bits, column = BITS.get(str(column.dtype), MOST_BITS), column.cast(pl.Float64).fill_nan(None)
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
