"""Blending: the weights of several models in one, found on validation alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from sasrec.data.features import Features
from sasrec.data.splits import Holdout, Split, known_split
from sasrec.errors import ConfigError, check_kind
from sasrec.evaluation.intervals import Interval, paired_interval
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.retrieval.blend import NEW, PARTS, Blend, NewItems, lent
from sasrec.retrieval.content import Content
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.retrieval.topk import best, blocks, hide
from sasrec.training.costs import Clock
from sasrec.training.counting import Countable, check_countable, count
from sasrec.training.machine import describe
from sasrec.training.parts import check_nothing_added, check_trained_on, same_features
from sasrec.training.progress import told
from sasrec.training.settling import check_fitting
from sasrec.words import with_article

_DEPTH = 50  # of each part's ranking so many items take part in the search
_USERS = 30_000  # so many validation users at most
_DOUBLINGS, _HALVINGS = 6.0, 10  # new items weigh from 1/64 to 64, found to 1 %
_PATIENCE = 8  # the search ends when so many additions brought nothing better


def blend(
    data: Split,
    models: Sequence[Recommender | Countable] = ("rules", "knn"),
    *,
    features: Features | None = None,
    progress: bool | None = None,
) -> Recommender:
    """Make one model of several, with the weights that rank the validation part best; the test is not looked at.

    Weights are found by adding one part after the other, each time the one that helps most, as often as it does
    (Caruana et al., ICML 2004). A part that does not help has weight 0 and is left out; the record says what each
    part is worth beside the others, with an interval over users.

    With content among the parts, an item that nobody had in training is scored by content alone: the others know
    nothing of it. Its weight there is the smallest with which validation targets, each taken for new in turn, rank as
    well as under content alone; the record says what that costs known items.

    Args:
        models: Networks and counted models of the training part of `data`, or names of models to count, as `count`.
        features: What is known of the items. With it content takes part, named or not.
        progress: True tells on standard error what is done, False nothing; None does so on a terminal.

    Returns:
        A recommender like any other; its `record` holds the weights.

    Raises:
        ConfigError: There are fewer than two models, one is a blend or was refit, or features are not all the same.
        DataError: A model was trained on another log or split, or features are of another catalogue.
    """
    known_split(data)
    clock, tell = Clock(), told(progress)
    made = _parts(data, models, features, progress=progress)
    exclude_seen = all(model.exclude_seen for model in made.values())
    scorers = {name: model.scorer for name, model in made.items()}
    content = next((name for name, one in scorers.items() if isinstance(one, Content)), None)
    new = None if content is None else NewItems.of(data.train, items=len(data.log.items), weight=1.0)
    search = _Search(scorers, data.valid, None if new is None else new.rows, exclude_seen=exclude_seen)
    weights, values = search.weights([*made])
    parts = [_valued(name, model, search, weights, values) for name, model in made.items()]
    for part in parts:
        tell(worth(part))
    final, told_new = weights, None
    if content is not None and new is not None:
        new = NewItems(new.rows, search.new_weight(weights, content))
        final = {**weights, NEW: new.weight}
        told_new = {"items": len(new.rows), "weight": new.weight, "costs": asdict(search.costs(weights, final))}
        tell(share_of_new(told_new))
    record = {
        "data": data.fingerprint,
        "split": data.rule,
        "exclude_seen": exclude_seen,
        **_features(made),
        "parts": parts,
        "new": told_new,
        "best": {name: float(search.values(final, of).mean()) for name, of in (("ndcg", ndcg), ("hit_rate", hit_rate))},
        **clock.record(),
        **describe(),
    }
    kept = {name: (weight, scorers[name]) for name, weight in weights.items() if weight > 0 or name == content}
    return Recommender.of_log(Blend(kept, new), data.log, record=record)


def _valued(
    name: str, model: Recommender, search: "_Search", weights: Mapping[str, float], values: np.ndarray
) -> dict[str, Any]:
    """What a part is worth, for the record."""
    others = [one for one in weights if one != name]
    return {
        "name": name,
        "kind": model.scorer.kind,
        "weight": weights[name],
        "ndcg": float(search.alone(name).mean()),
        "adds": asdict(paired_interval(values, search.weights(others)[1])),
        "best": model.record["best"],
    }


def worth(part: Mapping[str, Any]) -> str:
    """What a part of a blend is worth, in words, from the blend's record."""
    found = Interval(**part["adds"])
    start = f"{part['name']} ({part['kind']}): weight {part['weight']:.3g}, alone {part['ndcg']:.4f}"
    if part["weight"] == 0:
        left = "ranks new items alone" if part["kind"] == Content.kind else "is left out"
        return f"{start}; adds nothing to the others and {left}"
    return f"{start}; adds {found} to the others" + ("" if found.low > 0 else ", which may be nothing")


def share_of_new(new: Mapping[str, Any]) -> str:
    """What new items are worth in a blend, and what that costs known ones, in words, from the blend's record."""
    start = f"new items ({new['items']:,} in the catalogue): by content alone, times {new['weight']:.3g}"
    if not new["items"]:
        return start
    found = Interval(**new["costs"])
    return f"{start}; changes known targets by {found}"


def _parts(
    data: Split, models: Sequence[Recommender | Countable], features: Features | None, *, progress: bool | None
) -> dict[str, Recommender]:
    """The models by a name for each, the named ones counted; with features, content among them."""
    check_fitting(data, features)
    check_kind("models", models, list | tuple, called="list", advice="give models and names, as ['rules', 'knn']")
    for model in models:
        if isinstance(model, str):
            check_countable(model)
        else:
            check_kind("models", model, Recommender, advice="train one, load one, or name one that counts")
    kinds = [model if isinstance(model, str) else model.scorer.kind for model in models]
    if features is not None and Content.kind not in kinds:
        models = [*models, "content"]
    if len(models) < 2:
        raise ConfigError(f"models: a blend needs two or more, found {len(models)}; add 'rules' or 'knn'")
    made: dict[str, Recommender] = {}
    for model in models:
        found = _counted(data, model, features, progress=progress) if isinstance(model, str) else model
        kind = found.kind
        if found.scorer.kind not in PARTS:
            raise ConfigError(f"models: {with_article(kind)} cannot be part of another; blend what it is made from")
        if "refit" in found.record:
            raise ConfigError(
                "models: one was refit and has seen the validation part, which weights are found on; blend the model "
                "that it was made from, then refit the blend"
            )
        check_trained_on(data, found, advice="weights would not be honest")
        check_nothing_added(found, data, done="blend")
        if features is not None and not same_features([found.record, features.record()]):
            raise ConfigError(
                f"features: {with_article(kind)} was made with others; give those that the models were made with, or "
                "none"
            )
        same = sum(name.partition(" ")[0] == kind for name in made)
        made[f"{kind} {same + 1}" if same else kind] = found
    if not same_features([one.record for one in made.values()]):
        raise ConfigError("models: those of different features could not be refit together; blend one of them")
    return made


def _counted(data: Split, model: Countable, features: Features | None, *, progress: bool | None) -> Recommender:
    return count(data, model, features=features if model == "content" else None, progress=progress)


def _features(models: Mapping[str, Recommender]) -> dict[str, Any]:
    """The features of items that models learned from or count, as their records say it."""
    records = [model.record for model in models.values()]
    return {
        name: next((record[name] for record in records if record.get(name)), None)
        for name in ("features", "item_table")
    }


@final
class _Search:
    """What each part lends to the items that matter: the first of every part's ranking, and the target.

    An item beyond the first fifty of every part is taken to be beyond the first ten of any mean.
    """

    def __init__(
        self, scorers: Mapping[str, Scorer], holdout: Holdout, new: np.ndarray | None = None, *, exclude_seen: bool
    ) -> None:
        """Score every user once. Args: new: Item rows that content alone ranks, if it is among the parts."""
        if len(holdout) > _USERS:
            holdout = holdout.take(np.linspace(0, len(holdout) - 1, _USERS).astype(np.int64))
        items = next(iter(scorers.values())).items
        found = [
            _standings(scorers, new, holdout.take(rows), exclude_seen=exclude_seen)
            for rows in blocks(len(holdout), items=items)
        ]
        self.others, self.own = (
            {name: torch.cat([each[name] for each in one]) for name in one[0]} for one in zip(*found, strict=True)
        )
        self._known = np.ones(len(holdout), dtype=bool) if new is None else ~np.isin(holdout.targets, new)

    def weights(self, names: Sequence[str]) -> tuple[dict[str, float], np.ndarray]:
        """The best weights of some parts, and every user's NDCG@10 with them."""
        if len(names) == 1:
            return {names[0]: 1.0}, self.values({names[0]: 1})
        counts, since = dict.fromkeys(names, 0), 0
        best_counts, best_values = counts, np.full(1, -1.0)
        while since < _PATIENCE:
            tried = {name: self.values({**counts, name: counts[name] + 1}) for name in names}
            chosen = max(names, key=lambda name: float(tried[name].mean()))
            counts = {**counts, chosen: counts[chosen] + 1}
            since += 1
            if tried[chosen].mean() > best_values.mean():
                best_counts, best_values, since = counts, tried[chosen], 0
        total = sum(best_counts.values())
        return {name: number / total for name, number in best_counts.items()}, best_values

    def alone(self, name: str) -> np.ndarray:
        """Every user's NDCG@10 by one part alone, which has its say on new items too."""
        return self.values({name: 1.0} | ({NEW: 1.0} if name == Content.kind and NEW in self.own else {}))

    def new_weight(self, weights: Mapping[str, float], content: str) -> float:
        """The least weight of new items with which targets, taken for new, are ranked as well as by content alone.

        What content says of an item does not depend on who had it, so known targets tell of new ones what they would
        tell themselves.
        """
        enough = float(self.alone(content).mean())
        low, high = -_DOUBLINGS, _DOUBLINGS
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            asked = {**weights, NEW: 2.0**middle}
            if self.values(asked, own=(self.own[content] + self.own[NEW]) * asked[NEW]).mean() >= enough:
                high = middle
            else:
                low = middle
        return float(2.0**high)

    def costs(self, before: Mapping[str, float], after: Mapping[str, float]) -> Interval:
        """By how much other weights change NDCG@10 of users with known targets."""
        if not self._known.any():
            return Interval(0.0, 0.0, 0.0, 0.95)
        return paired_interval(self.values(after)[self._known], self.values(before)[self._known])

    def values(
        self,
        weights: Mapping[str, float],
        metric: Callable[[np.ndarray, int], np.ndarray] = ndcg,
        *,
        own: Tensor | None = None,
    ) -> np.ndarray:
        """A metric of every user at 10, with some weights. Args: own: Score of each target, if not theirs."""
        used = [name for name, weight in weights.items() if weight]
        others = torch.stack([self.others[name] * weights[name] for name in used]).sum(dim=0)
        if own is None:
            own = torch.stack([self.own[name] * weights[name] for name in used]).sum(dim=0)
        above, not_below = (others > own).sum(dim=1), (others >= own).sum(dim=1)
        ranks = ((above + not_below) / 2).double()
        ranks[~own.squeeze(1).isfinite()] = torch.inf
        return metric(ranks.numpy(), 10)


@torch.inference_mode()
def _standings(
    scorers: Mapping[str, Scorer], new: np.ndarray | None, holdout: Holdout, *, exclude_seen: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Support of the items that compete with the target, and of the target; -inf for what does not compete."""
    given = lent(scorers, new, holdout.histories)
    if exclude_seen:
        for scores in given.values():
            hide(scores.numpy(), holdout.histories)
    targets = torch.from_numpy(holdout.targets.astype(np.int64)).unsqueeze(1)
    found = [torch.from_numpy(best(scores.numpy(), _DEPTH)[1]) for scores in given.values()]
    places = torch.cat(found, dim=1).sort(dim=1).values
    twice = torch.zeros_like(places, dtype=torch.bool)
    twice[:, 1:] = places[:, 1:] == places[:, :-1]
    nobody = twice | (places == targets)
    others = {name: scores.gather(1, places).masked_fill_(nobody, -torch.inf) for name, scores in given.items()}
    return others, {name: scores.gather(1, targets) for name, scores in given.items()}
