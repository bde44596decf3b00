"""`sasrec recommend` and `sasrec similar`."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
from cyclopts import Group, Parameter

from sasrec.commands.output import Shape, in_bytes, say
from sasrec.commands.reading import ModelFolder
from sasrec.data.vocab import Id, Vocabulary
from sasrec.errors import ConfigError
from sasrec.files import check_free
from sasrec.locking import check_kept
from sasrec.retrieval.answers import Unknown
from sasrec.words import counted

if TYPE_CHECKING:
    from sasrec.retrieval.recommender import Recommender

_WHO = Group("Whom to recommend to (one of these)", sort_key=1)
_OUTPUT = Group("Output", sort_key=3)
_SEVERAL = Parameter(consume_multiple=True)


@dataclass(frozen=True, kw_only=True)
class Whom:
    """Whom to recommend to, and when.

    Attributes:
        user: Known users.
        history: Items that somebody had, oldest first; the user need not be known.
        everybody: Every known user, streamed to the file of --out.
        times: For a model that looks at times, that of each item of --history: as the log counts it, or a date.
        at: For a model that looks at times, when the recommendation is asked for, as --times; else now.
    """

    user: Annotated[tuple[str, ...], _SEVERAL] = ()
    history: Annotated[tuple[str, ...], _SEVERAL] = ()
    everybody: Annotated[bool, Parameter(name="--all")] = False
    times: Annotated[tuple[str, ...], _SEVERAL] = ()
    at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What may be recommended.

    Attributes:
        k: Items for each user.
        exclude_seen: Leave out, or keep, what the user had; else as chosen in training.
        allow: Only these items.
        deny: None of these items.
        unknown: What to do about users, or items of a history, that the model does not know: refuse, leave them out
            with a warning or without one, or give the popular items instead, marked so. Such items of
            --allow and --deny are refused, too, or else left out.
    """

    k: Annotated[int, Parameter(alias="-k")] = 10
    exclude_seen: Annotated[bool | None, Parameter(negative="--no-exclude-seen")] = None
    allow: Annotated[tuple[str, ...], _SEVERAL] = ()
    deny: Annotated[tuple[str, ...], _SEVERAL] = ()
    unknown: Unknown = "raise"


def recommend(
    model: ModelFolder,
    /,
    *,
    whom: Annotated[Whom, Parameter(name="*", group=_WHO)] = Whom(),
    rules: Annotated[Rules, Parameter(name="*", group=Group("What to recommend", sort_key=2))] = Rules(),
    shape: Annotated[Shape, Parameter(name="*", group=_OUTPUT)] = Shape(),
    out: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    replace: Annotated[bool, Parameter(group=_OUTPUT)] = False,
) -> None:
    """Recommend items to known users, after a history, or to everybody.

    Args:
        out: File for --all, with columns user_id, item_id, score and rank: CSV if its name ends in .csv, Parquet if it
            ends in .parquet or has no suffix.
        replace: Take the place of a file that is there already.
    """
    if bool(whom.user) + bool(whom.history) + whom.everybody != 1:
        raise ConfigError("name whom to recommend to: either --user ID ..., --history ITEM ... or --all")
    if whom.everybody != (out is not None):
        raise ConfigError(
            "--all writes to a file and needs --out FILE.parquet or FILE.csv; --out goes with --all alone, and what is "
            "printed for others can be kept too: --format csv > FILE.csv"
        )
    if whom.times and not whom.history:
        raise ConfigError("--times goes with --history alone; of known users the model knows the times")
    from sasrec.retrieval.loading import load
    from sasrec.retrieval.stream import check_format

    if out is not None:
        if shape != Shape():
            raise ConfigError("--all writes plain columns to its file; --titles and --format go with named users alone")
        check_free(out, replace=replace)
        check_kept(out, read=[model])
        check_format(out)
        made = load(model)
        rows = made.recommend_all(out, replace=replace, at=whom.at, **_told(rules, made))
        wrote = f"wrote {counted(rows, 'recommendation')} for {counted(len(made.users), 'user')}"
        say(f"{wrote} to {out} ({in_bytes(out)})")
    else:
        made = load(model)
        answer = _answer(made, whom, rules)
        _warn_of_none(answer, made, whom.user)
        shape.show(answer, made.items)


def similar(
    model: ModelFolder,
    item: str,
    /,
    *,
    k: Annotated[int, Parameter(alias="-k")] = 10,
    shape: Annotated[Shape, Parameter(name="*", group=_OUTPUT)] = Shape(),
) -> None:
    """List the items most like one item.

    The score is the cosine between what the model knows of the two items.

    Args:
        item: The item.
        k: Items to list.
    """
    from sasrec.retrieval.loading import load

    made = load(model)
    shape.show(made.similar(made.items.parse(item), k=k), made.items)


def _answer(model: "Recommender", whom: Whom, rules: Rules) -> pl.DataFrame:
    if whom.user:
        ask: Callable[..., Any] = partial(model.recommend, _parsed(whom.user, model.users))
    else:
        ask = partial(model.continue_from, _parsed(whom.history, model.items), times=whom.times or None)
    answer: pl.DataFrame = ask(at=whom.at, **_told(rules, model))
    return answer


def _told(rules: Rules, model: "Recommender") -> dict[str, Any]:
    """The rules as a model takes them, with ids as it has them."""
    lists = {"allow": rules.allow, "deny": rules.deny}
    given = {name: _parsed(ids, model.items) or None for name, ids in lists.items()}
    return {"k": rules.k, "exclude_seen": rules.exclude_seen, "unknown": rules.unknown, **given}


def _warn_of_none(answer: pl.DataFrame, model: "Recommender", user: tuple[str, ...]) -> None:
    """Say who gets nothing, as a line that is missing says nothing."""
    answered = set(answer["user_id"].cast(pl.String)) if user else set()
    without = [one for one in user if one not in answered and model.users.rows([model.users.parse(one)])[0] >= 0]
    if without or (not user and answer.is_empty()):
        whom = f" to {', '.join(without[:5])}{', ...' if len(without) > 5 else ''}" if user else ""
        warnings.warn(f"nothing is left to recommend{whom}; see --no-exclude-seen, --allow and --deny", stacklevel=2)


def _parsed(typed: tuple[str, ...], ids: Vocabulary) -> list[Id]:
    return [ids.parse(one) for one in typed]
