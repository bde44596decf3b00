"""The one honest protocol: whole catalogue, every user, counting models beside the network, errors beside means.

Others than the whole catalogue can be asked for, and are named wherever their figures are printed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from sasrec.data.sequences import Sequences
from sasrec.data.splits import Part, Split, known_split
from sasrec.errors import ConfigError, DataError, check_flag, check_kind, is_whole
from sasrec.evaluation.candidates import Candidates, check_candidates, draw_candidates, rank_among
from sasrec.evaluation.metrics import METRICS, in_tables, mean_and_error, mean_in_words
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Linked
from sasrec.retrieval.scorers import Informed, Model, Scoring, Trained
from sasrec.words import counted

_REFIT = "refit on train + validation; "
_NAMES = {"knn": "Item kNN", "ease": "EASE", "recent": "Recent popularity"}


@dataclass(frozen=True, eq=False)
class Row:
    """One model's line of a report.

    Attributes:
        model: Its name.
        metrics: For every metric at every k, as "NDCG@10": mean over users and standard error.
        coverage: For every k, the share of the catalogue that anybody was recommended among the first k; empty where
            the catalogue was not ranked.
        ranks: Rank of each user's target, from 0; float64 of shape (users,), in the order of the report's users.
    """

    model: str
    metrics: dict[str, tuple[float, float]]
    coverage: dict[str, float]
    ranks: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation; `print` shows it as a table with its protocol.

    Attributes:
        protocol: How the numbers were made, in one line.
        notes: What to keep in mind when reading them.
        rows: The evaluated models first, then the counting models.
        k: The cut-offs.
        users: Rows of the users that were ranked, int64 of shape (users,).
        on: The part that was predicted.
        exclude_seen: Whether what a user had before was left out.
        new: Whether a user's target never occurs in training, bool of shape (users,); None where no model knows more of
            such items than that they are there. Else those users and the others are also told apart.
    """

    protocol: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    k: tuple[int, ...]
    users: np.ndarray
    on: Part
    exclude_seen: bool
    new: np.ndarray | None = None

    def __getitem__(self, metric: str) -> float:
        """The (first) evaluated model's mean, as `report["NDCG@10"]`."""
        means = {name: mean for name, (mean, _) in self.rows[0].metrics.items()} | self.rows[0].coverage
        if metric not in means:
            raise KeyError(f"no metric {metric!r}; the report has {', '.join(means)}")
        return means[metric]

    def row(self, model: str) -> Row:
        """A model's line, by its name; KeyError where there is none of that name."""
        return {row.model: row for row in self.rows}[model]

    def groups(self) -> dict[str, tuple[Row, ...]]:
        """The lines for users whose target never occurs in training, and for the others, where there are both."""
        if self.new is None or not 0 < self.new.sum() < len(self.new):
            return {}
        named = {"new targets": self.new, "other targets": ~self.new}
        return {
            name: tuple(_row(row.model, row.ranks[some], self.k, {}) for row in self.rows)
            for name, some in named.items()
        }

    def __repr__(self) -> str:
        lines = [self.protocol, *_table(self.rows)]
        for name, rows in self.groups().items():
            which = "never occurs" if name == "new targets" else "occurs"
            users = counted(len(rows[0].ranks), "user")
            lines += ["", f"{name}: the {users} whose target {which} in training", *_table(rows)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, object]:
        """Plain values, without the ranks; the error of a single user is None."""
        plain: dict[str, object] = {
            "protocol": self.protocol,
            "notes": list(self.notes),
            "models": _plain(self.rows),
        }
        groups = {name: {"users": len(rows[0].ranks), "models": _plain(rows)} for name, rows in self.groups().items()}
        return plain | ({"groups": groups} if groups else {})


def evaluate(
    model: Model,
    data: Split,
    *,
    k: int | Sequence[int] = 10,
    exclude_seen: bool | None = None,
    on: Part = "test",
    candidates: Candidates | None = None,
    seed: int = 0,
) -> Report:
    """Rank the whole catalogue for every held-out user, with models counted from the same training beside it.

    Args:
        model: A `sasrec.Recommender` of the same catalogue.
        data: The split it was trained on.
        k: Cut-off or cut-offs.
        exclude_seen: Leave out what the user had before; None does as the model was trained.
        on: "test", or "valid" for the part that chose the weights.
        candidates: None ranks the whole catalogue; an integer ranks each target among so many drawn items only, and
            "sasrec2018" as the paper's own code did. See `sasrec.evaluation.candidates`.
        seed: Fixes the drawn items; they are the same for all models.

    Raises:
        DataError: The model's catalogue is not that of `data`.
        ConfigError: `k`, `on`, `candidates` or `seed` is out of range, or the model was refit and has seen `on`.
        ScoreError: The model gave scores that are not numbers.
    """
    name = title(model) + ("" if isinstance(model.scorer, Trained) else " (this model)")  # there are counted rows too
    return evaluate_all({name: model}, data, k=k, exclude_seen=exclude_seen, on=on, candidates=candidates, seed=seed)


def evaluate_all(
    models: Mapping[str, Model],
    data: Split,
    *,
    k: int | Sequence[int] = 10,
    exclude_seen: bool | None = None,
    on: Part = "test",
    candidates: Candidates | None = None,
    seed: int = 0,
) -> Report:
    """Several models under one protocol, in one report; arguments and errors as of `evaluate`.

    Args:
        models: At least one, by the name of its row.
        exclude_seen: None does as the first model was trained.
    """
    cuts = check_protocol(data, k=k, exclude_seen=exclude_seen, on=on, candidates=candidates)
    data, first = check_models(models, data, on=on), next(iter(models.values()))
    holdout = data.test if on == "test" else data.valid
    if not all(model.users.ids.equals(data.log.users.ids) for model in models.values()):
        # Rows of this log are other users to such a model: it ranks for them as for people that it does not know.
        holdout = replace(holdout, histories=replace(holdout.histories, users=None))
    seen = candidates != "sasrec2018" and (first.exclude_seen if exclude_seen is None else exclude_seen)
    refitted, timed = "refit" in first.record, check_times(models, data)
    train, items = data.refit.train if refitted else data.train, len(data.log.items)
    scorers = _scorers(models, train, items)
    notes: tuple[str, ...] = ()
    if candidates is None:
        ranked = {name: rank_targets(one, holdout, exclude_seen=seen, cuts=cuts) for name, one in scorers.items()}
        rows = [_row(name, found.ranks, cuts, found.recommended) for name, found in ranked.items()]
        rule, ties = f"whole catalogue of {counted(items, 'item')} ranked", "at their expected rank"
    else:
        sample = draw_candidates(data, holdout, candidates, seed=seed)
        rows = [_row(name, rank_among(one, sample, exclude_seen=seen), cuts, {}) for name, one in scorers.items()]
        holdout, rule, notes = sample.holdout, sample.rule, (sample.note,)
        ties = "at their expected rank" if sample.ties == "expected" else "won by the target"
    protocol = (
        f"protocol: {data.how} split, {on}; {_REFIT if refitted else ''}{counted(len(holdout), 'user')}, {rule}, "
        f"exclude_seen={seen}, ties {ties}; {_requests(timed, models)}mean ± standard error over users"
    )
    new = np.bincount(train.items, minlength=items)[holdout.targets] == 0
    notes += (*_of_targets(rows[0].ranks, new), *_of_training(models, data))
    likeness = "Content" in scorers or any(model.scorer.kind == "content" for model in models.values())
    known = new if len(data.new) or likeness else None
    return Report(protocol, notes, tuple(rows), cuts, holdout.users, on, seen, known)


def in_catalogue(data: Split, model: Model) -> Split:
    """The split in the catalogue of a model of it to which items were added: nobody has had them yet."""
    widened = len(model.items) > len(data.log.items) and model.record.get("data") == data.fingerprint
    return data.within(model.items) if widened else data


COUNTED = ("Content", "Rules", "Markov", "Popularity")
"""The rows that stand beside every model; Content where a model knows features."""


def _scorers(models: Mapping[str, Model], train: Sequences, items: int) -> dict[str, Scoring]:
    """What is ranked, by the name of its row; with the likeness of items' features where a model knows these."""
    own = {name: model.scorer for name, model in models.items()}
    informed = [found for one in own.values() if isinstance(one, Informed) and (found := one.likeness())]
    # A counting model that is evaluated itself may have counted more than the training part.
    return {
        **own,
        **({"Content": informed[0]} if informed and informed[0] not in own.values() else {}),
        "Rules": Linked.of(train, items=items),
        "Markov": Markov.of(train, items=items),
        "Popularity": Popularity.of(train, items=items),
    }


def check_protocol(
    data: Split, *, k: int | Sequence[int], exclude_seen: bool | None, on: Part, candidates: Candidates | None
) -> tuple[int, ...]:
    """Refuse what `evaluate` would refuse, before anything is trained for it; the cut-offs.

    Raises:
        ConfigError: `k`, `on` or `candidates` is out of range, or does not go with `exclude_seen`.
        DataError: Nobody is held out.
    """
    known_split(data)
    check_flag("exclude_seen", exclude_seen)
    cuts = tuple(k) if isinstance(k, Sequence) else (k,)
    if not cuts or not all(is_whole(one, least=1) for one in cuts):
        raise ConfigError(f"k: expected an integer >= 1 or several, found {', '.join(map(repr, cuts)) or 'none'}")
    if on not in get_args(Part):
        raise ConfigError(f"on: expected 'test' or 'valid', found {on!r}")
    if not len(holdout := data.test if on == "test" else data.valid):
        raise DataError(f"{data.log.source.name}: the split holds no {on} user")
    if candidates == "sasrec2018" and exclude_seen:
        raise ConfigError("exclude_seen: 'sasrec2018' ranks what was drawn, seen or not, found True; leave it out")
    if candidates is not None:
        check_candidates(data, holdout, candidates)
    return tuple(map(int, cuts))


def check_models(models: Mapping[str, Model], data: Split, *, on: Part) -> Split:
    """Refuse models that cannot be measured together on a split; the split in their catalogue.

    Raises:
        ConfigError: Some were refit on train + validation and others not, or they have seen what they would be
            measured on.
        DataError: They rank other items than each other or than the log, or read times that it counts otherwise.
    """
    first = next(iter(models.values()))
    for model in models.values():
        if not model.items.ids.equals(first.items.ids):
            raise DataError(
                f"the models rank different items ({len(first.items):,} and {len(model.items):,} of them); evaluate "
                "models of one log, to which the same items were added if any were"
            )
    widened = in_catalogue(data, first)
    if not first.items.ids.equals(widened.log.items.ids):
        raise DataError(
            f"the {len(first.items):,} items of the model are not the {len(data.log.items):,} of the log "
            f"{data.log.source.name}; evaluate on the log that the model was trained on, test part too, read as then"
        )
    check_times(models, data)
    refitted = [name for name, model in models.items() if "refit" in model.record]
    others = [name for name in models if name not in refitted]
    if refitted and others:
        raise ConfigError(
            f"models: {refitted[0]!r} was refit on train + validation, {others[0]!r} was not; their figures do not "
            "compare, so measure them apart"
        )
    if refitted and on == "valid":
        raise ConfigError(f"on: {refitted[0]!r} was refit and has seen the validation part; measure it on 'test'")
    return widened


def check_times(models: Mapping[str, Model], data: Split) -> list[str]:
    """The models that look at the time of a request, by name; DataError where the log counts time otherwise."""
    timed = [name for name, model in models.items() if model.scorer.reads_times]
    found = data.log.source.time_unit
    for name in timed:
        if models[name].time_unit != found:
            raise DataError(
                f"{data.log.source.name}: {name!r} was trained on times in {models[name].time_unit!r}, the log has "
                f"{'none' if found is None else repr(found)}; read it as in training"
            )
    return timed


def _requests(timed: Sequence[str], models: Mapping[str, Model]) -> str:
    """What the protocol says about the times of requests: nothing where nobody looked at them."""
    who = "" if len(timed) == len(models) else f" to {', '.join(timed)}"
    return f"the time of each target is known{who} as that of the request; " if timed else ""


def title(model: Model) -> str:
    """What a model is called; of a network the loss too, for those that differ in it alone differ much."""
    check_kind("model", model, Model, called="Recommender", advice="train one, or load one with sasrec.load(path)")
    if isinstance(model.scorer, Trained):
        config = model.scorer.config
        network = config.network.replace("sasrec", "SASRec").replace("stamp", "STAMP")
        return f"{'SSE-PT' if config.user_width else network} ({config.loss})"
    return _NAMES.get(model.kind, model.kind.title())


def _row(name: str, ranks: np.ndarray, cuts: tuple[int, ...], recommended: dict[int, np.ndarray]) -> Row:
    values = {f"{metric}@{one}": of(ranks, one) for one in cuts for metric, of in METRICS.items()}
    metrics = {metric: mean_and_error(each) for metric, each in values.items()}
    return Row(name, metrics, {f"coverage@{cut}": float(given.mean()) for cut, given in recommended.items()}, ranks)


def _table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table."""
    names, shares = in_tables(rows[0].metrics), list(rows[0].coverage)
    width = max(len(row.model) for row in rows)
    lines = ["  ".join([" " * width, *(f"{name:>15}" for name in names), *(f"{name:>12}" for name in shares)])]
    for row in rows:
        cells = [mean_in_words(*row.metrics[name]).rjust(15) for name in names]
        lines.append("  ".join([row.model.ljust(width), *cells, *(f"{row.coverage[n]:>12.1%}" for n in shares)]))
    return lines


def _plain(rows: Sequence[Row]) -> dict[str, object]:
    """Means and errors by model and metric."""
    return {
        row.model: {
            name: {"mean": mean, "error": None if math.isnan(error) else error}
            for name, (mean, error) in row.metrics.items()
        }
        | {name: {"mean": share} for name, share in row.coverage.items()}
        for row in rows
    }


def _of_targets(ranks: np.ndarray, new: np.ndarray) -> list[str]:
    notes = []
    unreachable = int(np.isinf(ranks).sum())
    if unreachable:
        notes.append(
            f"{unreachable:,} of {len(ranks):,} targets were seen before and cannot be hit with exclude_seen=True"
        )
    if new.any():
        notes.append(f"{int(new.sum()):,} of {len(ranks):,} targets never occur in training")
    return notes


def _of_training(models: Mapping[str, Model], data: Split) -> list[str]:
    foreign = [name for name, model in models.items() if model.record.get("data", data.fingerprint) != data.fingerprint]
    who = "the model" if len(models) == 1 else ", ".join(foreign)
    return [f"{who} was trained on another log or split: it may have seen these targets"] if foreign else []
