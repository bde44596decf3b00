"""Blending: the weights of several models in one, found on validation alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from sasrec.data.splits import Holdout, Split
from sasrec.errors import ConfigError, DataError
from sasrec.evaluation.intervals import Interval, paired_interval
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.retrieval.blend import PARTS, Blend, support
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.retrieval.topk import best, blocks, hide
from sasrec.training.counting import Countable, count
from sasrec.training.machine import describe
from sasrec.training.progress import told

_DEPTH = 50  # of each part's ranking so many items take part in the search
_USERS = 30_000  # so many validation users at most
_PATIENCE = 8  # the search ends when so many additions brought nothing better


def blend(
    data: Split, models: Sequence[Recommender | Countable] = ("rules", "knn"), *, progress: bool | None = None
) -> Recommender:
    """Make one model of several, with the weights that rank the validation part best; the test is not looked at.

    Weights are found by adding one part after the other, each time the one that helps most, as often as it does
    (Caruana et al., ICML 2004). A part that does not help has weight 0 and is left out; the record says what each
    part is worth beside the others, with an interval over users.

    Args:
        models: Networks and counted models of the training part of `data`, or names of models to count, as `count`.
        progress: True tells on standard error what is done, False nothing; None does so on a terminal.

    Returns:
        A recommender like any other; its `record` holds the weights.

    Raises:
        ConfigError: There are fewer than two models, one is a blend or was refit, or networks differ in features.
        DataError: A model was trained on another log or split.
    """
    started, worked, tell = time.perf_counter(), time.process_time(), told(progress)
    made = _parts(data, models, progress=progress)
    exclude_seen = all(model.exclude_seen for model in made.values())
    search = _Search({name: model.scorer for name, model in made.items()}, data.valid, exclude_seen=exclude_seen)
    names = list(made)
    weights, values = search.weights(names)
    parts = []
    for name in names:
        alone = float(search.values({name: 1.0}).mean())
        gain = paired_interval(values, search.weights([one for one in names if one != name])[1])
        parts.append(
            {
                "name": name,
                "kind": made[name].scorer.kind,
                "weight": weights[name],
                "ndcg": alone,
                "adds": asdict(gain),
                "best": made[name].record["best"],
            }
        )
        tell(worth(parts[-1]))
    hits = float(search.values(weights, hit_rate).mean())
    record = {
        "data": data.fingerprint,
        "split": data.rule,
        "exclude_seen": exclude_seen,
        "features": _features(made),
        "parts": parts,
        "best": {"ndcg": float(values.mean()), "hit_rate": hits},
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - worked, 3),
        **describe(),
    }
    scorer = Blend({name: (weight, made[name].scorer) for name, weight in weights.items() if weight > 0})
    return Recommender.of_log(scorer, data.log, record=record)


def worth(part: Mapping[str, Any]) -> str:
    """What a part of a blend is worth, in words, from the blend's record."""
    found = Interval(**part["adds"])
    start = f"{part['name']} ({part['kind']}): weight {part['weight']:.3g}, alone {part['ndcg']:.4f}"
    if part["weight"] == 0:
        return f"{start}; adds nothing to the others and is left out"
    interval = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    return f"{start}; adds {interval} to the others" + ("" if found.low > 0 else ", which may be nothing")


def _parts(data: Split, models: Sequence[Recommender | Countable], *, progress: bool | None) -> dict[str, Recommender]:
    """The models by a name for each, the named ones counted."""
    if len(models) < 2:
        raise ConfigError(f"models: a blend needs two or more, found {len(models)}; add 'rules' or 'knn'")
    made: dict[str, Recommender] = {}
    for model in models:
        found = count(data, model, progress=progress) if isinstance(model, str) else model
        kind = found.scorer.kind
        if kind not in PARTS:
            raise ConfigError(f"models: a {kind} cannot be part of another; blend what it is made of")
        if "refit" in found.record:
            raise ConfigError(
                "models: one was refit and has seen the validation part, which weights are found on; blend the model "
                "that it was made from, then refit the blend"
            )
        if found.record.get("data") != data.fingerprint or "best" not in found.record:
            raise DataError(
                f"{data.log.source.name}: a {kind} was trained on another log or split, or does not say how; "
                "weights would not be honest"
            )
        same = sum(name.partition(" ")[0] == kind for name in made)
        made[f"{kind} {same + 1}" if same else kind] = found
    return made


def _features(models: Mapping[str, Recommender]) -> str | None:
    """The features of items that networks among the models learned from, as their records say it."""
    found = {said for model in models.values() if (said := model.record.get("features"))}
    if len(found) > 1:
        raise ConfigError("models: networks of different features could not be refit together; blend one of them")
    return found.pop() if found else None


@final
class _Search:
    """What each part lends to the items that matter: the first of every part's ranking, and the target.

    An item beyond the first fifty of every part is taken to be beyond the first ten of any mean.
    """

    def __init__(self, scorers: Mapping[str, Scorer], holdout: Holdout, *, exclude_seen: bool) -> None:
        """Score every user once."""
        if len(holdout) > _USERS:
            holdout = holdout.take(np.linspace(0, len(holdout) - 1, _USERS).astype(np.int64))
        items = next(iter(scorers.values())).items
        found = [
            _standings(list(scorers.values()), holdout.take(rows), exclude_seen=exclude_seen)
            for rows in blocks(len(holdout), items=items)
        ]
        others, own = (torch.cat(one, dim=1) for one in zip(*found, strict=True))
        self.others = dict(zip(scorers, others, strict=True))
        self.own = dict(zip(scorers, own, strict=True))

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

    def values(
        self, weights: Mapping[str, float], metric: Callable[[np.ndarray, int], np.ndarray] = ndcg
    ) -> np.ndarray:
        """A metric of every user at 10, with some weights."""
        used = [name for name, weight in weights.items() if weight]
        others = torch.stack([self.others[name] * weights[name] for name in used]).sum(dim=0)
        own = torch.stack([self.own[name] * weights[name] for name in used]).sum(dim=0)
        above, not_below = (others > own).sum(dim=1), (others >= own).sum(dim=1)
        ranks = ((above + not_below) / 2).double()
        ranks[~own.squeeze(1).isfinite()] = torch.inf
        return metric(ranks.numpy(), 10)


@torch.inference_mode()
def _standings(scorers: Sequence[Scorer], holdout: Holdout, *, exclude_seen: bool) -> tuple[Tensor, Tensor]:
    """Support of the items that compete with the target, and of the target; -inf for what does not compete."""
    given = []
    for scorer in scorers:
        scores = support(scorer, holdout.histories)
        if exclude_seen:
            hide(scores.numpy(), holdout.histories)
        given.append(scores)
    targets = torch.from_numpy(holdout.targets.astype(np.int64)).unsqueeze(1)
    found = [torch.from_numpy(best(scores.numpy(), _DEPTH)[1]) for scores in given]
    places = torch.cat(found, dim=1).sort(dim=1).values
    twice = torch.zeros_like(places, dtype=torch.bool)
    twice[:, 1:] = places[:, 1:] == places[:, :-1]
    nobody = twice | (places == targets)
    others = torch.stack([scores.gather(1, places).masked_fill_(nobody, -torch.inf) for scores in given])
    return others, torch.stack([scores.gather(1, targets) for scores in given])
