"""A few users in person: what they did, and what each would be recommended."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from sasrec.data.log import Log
from sasrec.data.splits import Holdout
from sasrec.data.titles import read_titles
from sasrec.data.vocab import Id
from sasrec.errors import DataError
from sasrec.evaluation.ranking import rank_targets
from sasrec.model.inspection import attention_of
from sasrec.report.charts import Caption, heat_map
from sasrec.report.elements import Content, section, tag
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.topk import best, hide

_USERS = 10
_LOOKED_AT = 20  # events of a map of attention
_SHOWN = 10  # events of a history, and recommendations


class Names:
    """Users and items as people read them: an item by its title where there is one."""

    def __init__(self, log: Log, titles: str | Path | None) -> None:
        """Args: titles: A file of items and titles, see `sasrec.data.titles`; None has none."""
        found = None if titles is None else read_titles(titles, log.items)
        self._users, self._items = log.users.ids, log.items.ids
        self._titles = {} if found is None else dict(found.drop_nulls("title").iter_rows())

    def item(self, row: int) -> str:
        """The title of an item, or its id."""
        return self._titles.get(self._items[row]) or str(self._items[row])

    def item_element(self, row: int) -> Element:
        """The title with the id beside it, or the id alone. A title may run from right to left."""
        shown, raw = self.item(row), str(self._items[row])
        if shown == raw:
            return tag("bdi", raw)
        return tag("span", tag("bdi", shown), " ", tag("small", tag("bdi", raw)))

    def user_element(self, row: int) -> Element:
        """The id of a user."""
        return tag("bdi", str(self._users[row]))


def drawn(holdout: Holdout, log: Log, first: Id | None) -> Holdout:
    """Ten users of the holdout, drawn by chance but the same in every run.

    Args:
        first: Raw id of one who comes before the others; None leaves all to chance.

    Raises:
        UnknownIdError: The log has no user `first`.
        DataError: Nothing of theirs is held out.
    """
    places = np.random.default_rng(0).permutation(len(holdout))[:_USERS]
    if first is not None:
        own = np.flatnonzero(holdout.users == log.users.known_rows([first])[0])
        if not len(own):
            raise DataError(
                f"user {first!r}: nothing of theirs was predicted, so there is nothing to show; name another"
            )
        places = np.concatenate([own, places[places != own[0]]])[:_USERS]
    return holdout.take(places)


def examples(model: Recommender, few: Holdout, names: Names, *, exclude_seen: bool) -> Element:
    """Histories beside recommendations, the held-out item marked where it is among them.

    Args:
        few: The users to show.
    """
    ranks = rank_targets(model.scorer, few, exclude_seen=exclude_seen).ranks
    scores = model.scorer.scores(few.histories)
    if exclude_seen:
        hide(scores, few.histories)
    values, items = best(scores, _SHOWN)
    ranked = [len(model.items) - (len(np.unique(few.histories[at])) if exclude_seen else 0) for at in range(len(few))]
    cards = []
    for at, target in enumerate(few.targets.tolist()):
        given = items[at][values[at] > -np.inf].tolist()
        pair = tag("div.pair", _history(few.histories[at], names), _recommended(given, target, names))
        user = tag("h3", "User ", names.user_element(int(few.users[at])))
        cards.append(tag("div.card", user, _held_out(target, float(ranks[at]), names, items=ranked[at]), pair))
    said = "A few users, drawn by chance unless named. The model sees what precedes the held-out event, and no more."
    return section("Users", tag("p", said), *cards)


def attention_maps(scorer: Neural, few: Holdout, names: Names) -> list[Element]:
    """What the blocks look at when they predict for the first of a few users; none where there is no attention."""
    history = few.histories.take(np.array([0]))
    seen = attention_of(scorer.network, *scorer.given(history))
    recent = history.items[-min(_LOOKED_AT, scorer.length) :]
    return [
        heat_map(
            Caption(
                title=f"Block {block}",
                x="looked at",
                y="share",
                note="Each line: how an event divides its attention, as a mean over heads. What a line lacks to 1 went "
                "to events before these.",
                digits=2,
            ),
            [names.item(int(row)) for row in recent],
            weights.mean(dim=0)[-len(recent) :, -len(recent) :].numpy(),
        )
        for block, weights in enumerate(seen, start=1)
    ]


def _held_out(target: int, rank: float, names: Names, *, items: int) -> Element:
    place = "cannot be recommended, as the user had it before"
    if np.isfinite(rank):
        place = f"rank {f'{rank + 1:,.1f}'.removesuffix('.0')} of {items:,}"
    return tag("p", "Held out: ", names.item_element(target), f", {place}.")


def _history(rows: Sequence[int] | np.ndarray, names: Names) -> Element:
    """The latest events, numbered from the first of all."""
    earlier = max(len(rows) - _SHOWN, 0)
    lines = [tag("li", names.item_element(int(row))) for row in rows[earlier:]]
    title = "History" if not earlier else f"History, last {_SHOWN} of {len(rows):,}"
    return tag("div", tag("h4", title), tag("ol", {"start": earlier + 1}, *lines))


def _recommended(rows: Sequence[int], target: int, names: Names) -> Element:
    lines = []
    for row in rows:
        hit: list[Content] = [" ", tag("b", "✓ held out")] if row == target else []
        lines.append(tag("li.hit" if hit else "li", names.item_element(row), *hit))
    return tag("div", tag("h4", "Recommended"), tag("ol", *lines))
