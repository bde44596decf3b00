"""`sasrec explain`."""

import json
from dataclasses import dataclass
from typing import Annotated

import polars as pl
from cyclopts import Group, Parameter

from sasrec.commands.output import Shape, hand_over, in_columns, say, titled
from sasrec.commands.reading import ModelFolder
from sasrec.data.titles import read_titles
from sasrec.data.vocab import Vocabulary
from sasrec.errors import ConfigError
from sasrec.retrieval.answers import Unknown
from sasrec.retrieval.explaining import Explanation

_WHAT = Group("What to explain", sort_key=1)
_WHOSE = Group("After which history (a user's, the items of one, or these after the user's)", sort_key=2)
_OUTPUT = Group("Output", sort_key=3)
_SEVERAL = Parameter(consume_multiple=True)


@dataclass(frozen=True, kw_only=True)
class Whose:
    """The history, and when what follows it is asked for.

    Attributes:
        user: A known user.
        history: Items that somebody had, oldest first; with --user those after all that the model knows of that user.
        times: For a model that looks at times, that of each item of --history: as the log counts it, or a date.
        at: For a model that looks at times, when the recommendation is asked for, as --times; else now.
        unknown: What to do about a user, or items of --history, that the model does not know: refuse, leave them out
            with a warning or without one, or, where nothing else is known, tell the place among the popular items.
    """

    user: str | None = None
    history: Annotated[tuple[str, ...], _SEVERAL] = ()
    times: Annotated[tuple[str, ...], _SEVERAL] = ()
    at: str | None = None
    unknown: Unknown = "raise"


def explain(
    model: ModelFolder,
    /,
    *,
    item: Annotated[str, Parameter(group=_WHAT)],
    events: Annotated[int, Parameter(group=_WHAT)] = 20,
    exclude_seen: Annotated[bool | None, Parameter(negative="--no-exclude-seen", group=_WHAT)] = None,
    whose: Annotated[Whose, Parameter(name="*", group=_WHOSE)] = Whose(),
    shape: Annotated[Shape, Parameter(name="*", group=_OUTPUT)] = Shape(),
) -> None:
    """Say which events of a history carry an item.

    For each of the latest events: the score and the rank that the item would have if the event had not been, and the
    share of attention that the network gives to the event, whatever the item.

    Args:
        item: The item, whether it would be recommended or not.
        events: The latest so many events are explained; each costs as much as a recommendation.
        exclude_seen: Rank the item among what the user has not had, or among everything; else as chosen in training.
    """
    if whose.user is None and not whose.history:
        raise ConfigError("name the history: --user ID, --history ITEM ... or both")
    if whose.times and not whose.history:
        raise ConfigError("--times goes with --history alone; of a known user the model knows the times")
    from sasrec.retrieval.loading import load

    made = load(model)
    found = made.explain(
        [made.items.parse(one) for one in whose.history],
        made.items.parse(item),
        user=None if whose.user is None else made.users.parse(whose.user),
        exclude_seen=exclude_seen,
        events=events,
        unknown=whose.unknown,
        times=whose.times or None,
        at=whose.at,
    )
    _show(found, made.items, shape)


def _show(found: Explanation, items: Vocabulary, shape: Shape) -> None:
    numbers = {"attention": pl.Float64(), "score_without": pl.Float64(), "rank_without": pl.Int64()}
    listed = pl.DataFrame(found.events, schema=pl.Schema({"event": pl.Int64(), "item_id": items.ids.dtype, **numbers}))
    about = pl.DataFrame({"item_id": [found.item_id]}, schema={"item_id": items.ids.dtype})
    if shape.titles is not None:
        titles = read_titles(shape.titles, items)
        listed, about = titled(listed, titles), titled(about, titles)
    if shape.format == "json":
        plain = about.to_dicts()[0] | found.to_dict() | {"events": listed.to_dicts()}
        hand_over(json.dumps(plain, indent=1, ensure_ascii=False))
    elif shape.format == "csv":
        empty = pl.DataFrame({name: [None] for name in listed.columns}, schema=listed.schema)
        placed = (empty if listed.is_empty() else listed).with_columns(
            score=pl.lit(found.score), rank=pl.lit(found.rank)
        )
        hand_over(placed.write_csv().rstrip("\n"))
    else:
        named = "  ".join(str(one) for one in about.row(0) if one is not None)
        say(f"{named}: {found.summary()}", *([] if listed.is_empty() else [in_columns(listed)]))
