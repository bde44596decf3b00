"""Several models on one split, in one table: how good, how far apart, how sure that is, and at what cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sasrec.config import Config
from sasrec.data.splits import Part, Split
from sasrec.errors import ConfigError, check_kind, check_whole
from sasrec.evaluation.candidates import Candidates
from sasrec.evaluation.intervals import ENOUGH_USERS, Interval, paired_interval
from sasrec.evaluation.metrics import METRICS, mean_and_error, mean_in_words
from sasrec.evaluation.protocol import COUNTED, Report, check_models, check_protocol, evaluate_all, title
from sasrec.retrieval.answers import columns
from sasrec.retrieval.recommender import Recommender
from sasrec.training.progress import Tell, told
from sasrec.training.training import train, whole
from sasrec.words import with_article

_SHOWN = ("NDCG", "HR")

Round = tuple[Split, Mapping[str, Recommender]]
"""A split with the models to measure on it, by name."""


@dataclass(frozen=True)
class Cost:
    """What a training took; the mean of several, and the most memory of any.

    Attributes:
        epochs: All that were trained, not only up to the best; None for what is counted or blended.
        seconds: By the clock, validation and refit included.
        cpu_seconds: Of all threads; None where the model does not say.
        peak_memory: Most bytes of the whole process; None where it did more than this training.
    """

    epochs: float | None
    seconds: float
    cpu_seconds: float | None
    peak_memory: int | None

    def cells(self, *, nothing: str) -> list[str]:
        """Epochs, seconds, CPU seconds and megabytes in words, with what stands for those that are not known."""
        return [
            nothing if self.epochs is None else f"{self.epochs:,.4g}",
            f"{self.seconds:,.1f}",
            nothing if self.cpu_seconds is None else f"{self.cpu_seconds:,.1f}",
            nothing if self.peak_memory is None else f"{self.peak_memory / 10**6:,.0f}",
        ]


@dataclass(frozen=True, eq=False)
class Contestant:
    """One model's line of a comparison.

    Attributes:
        name: As the caller calls it.
        kind: Network and loss, or "counts".
        metrics: For every metric at every k, as "NDCG@10": mean over users and its standard error.
        spread: For each of them the standard deviation between the runs (seeds and folds); empty where they do not
            differ.
        differences: For each of them how far this model is above the first, on the same users; empty for the first.
        cost: What making it took; None where nothing tells, as of the counting models that stand beside the given ones.
    """

    name: str
    kind: str
    metrics: dict[str, tuple[float, float]]
    spread: dict[str, float]
    differences: dict[str, Interval]
    cost: Cost | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models beside each other; `print` shows them as a table with its protocol.

    Attributes:
        protocol: How the numbers were made, in one line.
        notes: What to keep in mind when reading them.
        contestants: The models in the given order, then the counting models.
    """

    protocol: str
    notes: tuple[str, ...]
    contestants: tuple[Contestant, ...]

    def __getitem__(self, name: str) -> Contestant:
        """A model's line, by its name."""
        found = {one.name: one for one in self.contestants}
        if name not in found:
            raise KeyError(f"no model {name!r}; compared were {', '.join(found)}")
        return found[name]

    def __repr__(self) -> str:
        first = self.contestants[0]
        spread = any(one.spread for one in self.contestants)
        rows = [["", "", *first.metrics, *(["sd of runs"] if spread else [])]]
        rows[0] += [f"{next(iter(first.metrics))} - {first.name}", "epochs", "seconds", "CPU s", "peak MB"]
        rows += [_cells(one, spread=spread) for one in self.contestants]
        return "\n".join([self.protocol, *columns(rows, left=(0, 1)), *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, object]:
        """Plain values; the error of a single user is None."""
        models = {
            one.name: {
                "kind": one.kind,
                "metrics": {
                    name: {
                        "mean": mean,
                        "error": None if np.isnan(error) else error,
                        "sd": one.spread.get(name),
                        "difference": asdict(one.differences[name]) if name in one.differences else None,
                    }
                    for name, (mean, error) in one.metrics.items()
                },
                "cost": asdict(one.cost) if one.cost else None,
            }
            for one in self.contestants
        }
        return {"protocol": self.protocol, "notes": list(self.notes), "models": models}


def compare(
    data: Split | Sequence[Split],
    models: Mapping[str, Config | Recommender],
    *,
    k: int | Sequence[int] = 10,
    exclude_seen: bool | None = None,
    on: Part = "test",
    candidates: Candidates | None = None,
    seeds: int = 1,
    progress: bool | None = None,
) -> Comparison:
    """Train what is given as settings, and measure all under one protocol, the counting models beside them.

    Everything is trained in this process, so the peak memory of each is not told; `sasrec compare` trains each in a
    process of its own and tells it.

    Args:
        data: A split, or several, such as `sasrec.folds` gives: then each is trained on and measured.
        models: Settings to train, or trained models, by the names that the table shows. The first is what the others
            are compared with.
        k: Cut-off or cut-offs.
        exclude_seen: Leave out what the user had before; None does as the first model was trained, on the first split.
        on: "test", or "valid" where the comparison is to choose among the models.
        candidates: As in `evaluate`.
        seeds: Train what is given as settings so many times, with the seed of the settings and those after it.
        progress: True shows progress, False nothing; None shows it if standard error is a terminal.

    Raises:
        ConfigError: There is nothing to compare, a name is taken, or a setting is out of range; or a trained model
            is to be compared on several splits, of which it can only have been trained on one.
        DataError: A trained model is of another catalogue.
        TrainingError: A training cannot go on.
        KeyboardInterrupt: Ctrl-C; a network that is half trained compares with nothing.
    """
    splits = list(data) if isinstance(data, Sequence) else [data]
    if not splits:
        raise ConfigError("data: expected a split or several, found none; make one with sasrec.split(log)")
    for split in splits:
        check_protocol(split, k=k, exclude_seen=exclude_seen, on=on, candidates=candidates)
    rounds = train_rounds(splits, models, on=on, seeds=seeds, progress=progress)
    return compare_trained(rounds, k=k, exclude_seen=exclude_seen, on=on, candidates=candidates)


def train_rounds(
    splits: Sequence[Split],
    models: Mapping[str, Config | Recommender],
    *,
    on: Part,
    seeds: int,
    progress: bool | None,
) -> list[Round]:
    """Train what is given as settings, in this process, on every split with every seed; errors as `compare`."""
    if not isinstance(models, Mapping):
        raise ConfigError(
            f"models: expected a model or Config by each name, found {with_article(type(models).__name__)}"
        )
    check_names([*models])
    for name, model in models.items():
        if not isinstance(model, Config | Recommender):
            raise ConfigError(
                f"models: {name!r}: expected a model or a Config, found {with_article(type(model).__name__)}"
            )
    check_whole("seeds", seeds, least=1)
    trained = [name for name, model in models.items() if isinstance(model, Recommender)]
    if trained and len(splits) > 1:
        raise ConfigError(
            f"models: {trained[0]!r} was trained on one split and cannot be measured on {len(splits)}; give its Config"
        )
    check_comparable(models, splits[0], on=on)
    if len(trained) == len(models) and seeds > 1:
        raise ConfigError(f"seeds: nothing is trained here, found {seeds}; give a Config, or leave seeds out")
    tell = told(progress)
    rounds: list[Round] = []
    for split in splits:
        for turn in range(seeds):
            made: dict[str, Recommender] = {}
            for name, model in models.items():
                if isinstance(model, Recommender):
                    made[name] = model
                else:
                    announce(tell, name, len(rounds) + 1, len(splits) * seeds)
                    made[name] = whole(train(split, replace(model, seed=model.seed + turn), progress=progress))
            rounds.append((split, made))
    return rounds


def compare_trained(
    rounds: Sequence[Round],
    *,
    k: int | Sequence[int] = 10,
    exclude_seen: bool | None = None,
    on: Part = "test",
    candidates: Candidates | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare models that are trained already; otherwise as `compare`.

    Args:
        rounds: The same names in each. Rounds of the same split are trainings with different seeds: what a user lends
            is averaged over them first.
        seed: Draws the candidates.
    """
    reports: list[tuple[Split, Report]] = []
    for data, models in rounds:
        report = evaluate_all(models, data, k=k, exclude_seen=exclude_seen, on=on, candidates=candidates, seed=seed)
        # One answer for all: a fold with many repeats would else be measured under another protocol than the others.
        exclude_seen = report.exclude_seen
        reports.append((data, report))
    _, first = reports[0]
    names = [row.model for row in first.rows]
    metrics = [f"{name}@{cut}" for cut in first.k for name in _SHOWN]
    values = {(name, metric): _of_users(reports, name, metric) for name in names for metric in metrics}
    # A user of several folds is one user all the same.
    users = np.concatenate([*{id(data): report.users for data, report in reports}.values()])
    contestants = []
    for name in names:
        means = {metric: [report.row(name).metrics[metric][0] for _, report in reports] for metric in metrics}
        made = [models[name] for _, models in rounds if name in models]
        contestants.append(
            Contestant(
                name,
                title(made[0]) if made else "counts",
                {metric: mean_and_error(values[name, metric], users) for metric in metrics},
                {metric: float(np.std(each, ddof=1)) for metric, each in means.items() if len({*each}) > 1},
                {
                    metric: paired_interval(values[name, metric], values[names[0], metric], users=users)
                    for metric in metrics
                    if name != names[0]
                },
                _cost([model.record for model in made]),
            )
        )
    protocol = first.protocol if len({id(data) for data, _ in reports}) == 1 else _of_folds(reports)
    spread = any(one.spread for one in contestants)
    return Comparison(protocol, tuple(_notes(rounds, reports, spread=spread)), tuple(contestants))


def check_names(names: Sequence[str]) -> None:
    """Refuse names that the table could not tell apart; ConfigError."""
    if not names:
        raise ConfigError("models: expected at least one to compare, found none")
    for name in names:
        check_kind("models", name, str, called="name", advice="call each as the table is to show it")
    taken = [name for place, name in enumerate(names) if name in COUNTED or name in names[:place]]
    if taken:
        raise ConfigError(f"models: the name {taken[0]!r} is taken by another line of the table; call it otherwise")


def check_comparable(models: Mapping[str, Config | Recommender], data: Split, *, on: Part) -> None:
    """Refuse what could not be measured together, before any of it is trained; errors as `check_models`."""
    made = {name: one for name, one in models.items() if isinstance(one, Recommender)}
    if made:
        check_models(made, data, on=on)
    for name in (name for name in models if name not in made):
        for other, model in made.items():
            if "refit" in model.record:
                raise ConfigError(
                    f"models: {other!r} was refit on train + validation, and {name!r} would not be; their figures do "
                    "not compare, so measure them apart"
                )
            if len(model.items) > len(data.log.items):
                raise ConfigError(
                    f"models: {other!r} ranks items that were added to it, and {name!r} would not; measure them apart"
                )


def announce(tell: Tell, name: str, number: int, rounds: int) -> None:
    """Say what is trained next."""
    tell(f"training {name}{f', {number} of {rounds}' if rounds > 1 else ''}")


def _of_users(reports: Sequence[tuple[Split, Report]], name: str, metric: str) -> np.ndarray:
    """A metric of every user: the mean over the rounds of a split, one split after the other."""
    kind, _, cut = metric.partition("@")
    found: dict[int, list[np.ndarray]] = {}
    for data, report in reports:
        found.setdefault(id(data), []).append(METRICS[kind](report.row(name).ranks, int(cut)))
    return np.concatenate([np.mean(each, axis=0) for each in found.values()])


def _cost(records: Sequence[Mapping[str, Any]]) -> Cost | None:
    if not records or any("seconds" not in record for record in records):
        return None
    epochs, memory = ([one[name] for one in records if one.get(name)] for name in ("epochs", "peak_memory"))
    cpu = [_took(one, "cpu_seconds") for one in records if one.get("cpu_seconds") is not None]
    return Cost(
        float(np.mean(epochs)) if epochs else None,
        float(np.mean([_took(one, "seconds") for one in records])),
        float(np.mean(cpu)) if cpu else None,
        int(max(memory)) if memory else None,
    )


def _took(record: Mapping[str, Any], clock: str) -> float:
    """Seconds of a training and of its refit."""
    return float(record[clock] + record.get("refit", {}).get(clock, 0.0))


def _of_folds(reports: Sequence[tuple[Split, Report]]) -> str:
    folds = {id(data): f"{data.rule}; {report.protocol.removeprefix('protocol: ')}" for data, report in reports}
    return "\n".join([f"protocol: {len(folds)} folds, all users together", *(f"  {one}" for one in folds.values())])


def _notes(rounds: Sequence[Round], reports: Sequence[tuple[Split, Report]], *, spread: bool) -> Iterator[str]:
    names = [*rounds[0][1]]
    yield f"differences are to {names[0]!r}, user by user, with the 95 % interval of a paired bootstrap over users"
    users = len({*np.concatenate([report.users for _, report in reports]).tolist()})
    if users < ENOUGH_USERS:
        yield f"intervals of fewer than {ENOUGH_USERS} users are too narrow: do not rely on them"
    once = [name for name in names if len({id(models[name]) for _, models in rounds}) == 1]
    if once:
        which = "each" if len(once) == len(names) else f"of {', '.join(once)}"
        yield f"one training {which}: another seed would move a network too, which the intervals do not hold"
    if several := [name for name in names if name not in once]:
        told = "'sd of runs' tells how far these are apart, which the intervals over users do not hold"
        told = told if spread else "all alike"
        yield f"{len(rounds)} trainings of {', '.join(several)}: {told}"
    yield (
        "seconds are those of training, with a refit if there was one; peak memory is that of its whole process, "
        "where it had one of its own"
    )
    yield from dict.fromkeys(note for _, report in reports for note in report.notes)


def _cells(one: Contestant, *, spread: bool) -> list[str]:
    metric = next(iter(one.metrics))
    cells = [one.name, one.kind, *(mean_in_words(*found) for found in one.metrics.values())]
    if spread:
        cells.append(f"{one.spread[metric]:.4f}" if one.spread else "")
    cells.append(str(one.differences.get(metric, "")))
    return cells + ([""] * 4 if one.cost is None else one.cost.cells(nothing="-"))
