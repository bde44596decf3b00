"""Does order matter, how much history matters, is a network worth it: one log's answers.

Source: the study "On the Markovian Nature of the Next-Item Recommendation Task", made into a command. It found that on
many logs a network does no worse when all but the last item is shuffled, and little worse when it sees that one alone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sasrec.config import OF_BLOCKS, Config
from sasrec.data.features import Features
from sasrec.data.splits import Split, known_split
from sasrec.errors import ConfigError, DataError, check_kind
from sasrec.evaluation.intervals import ENOUGH_USERS
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Linked
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.studies.facts import Facts
from sasrec.studies.histories import shuffled, without_older
from sasrec.studies.trials import Line, Trials
from sasrec.studies.verdict import ENOUGH_HITS, on_blocks, on_history, on_last_item, on_network, on_order
from sasrec.training.machine import device_here, torch_threads
from sasrec.training.parts import check_nothing_added, check_same_features, check_trained_on
from sasrec.training.progress import Tell, told
from sasrec.training.settling import settled
from sasrec.training.training import train, whole
from sasrec.words import counted

LENGTHS = (1, 2, 3, 5, 10, 20, 50)
"""Numbers of recent items that are tried."""

_SHUFFLES = 5


@dataclass(frozen=True)
class Diagnosis:
    """What a log's order and history are worth; `print` shows the figures and, last, what they mean.

    Attributes:
        protocol: How the numbers were made, in one line.
        facts: What the log says about itself.
        lines: The whole network first.
        notes: What to keep in mind when reading them.
        verdict: Sentences, by the rules of `sasrec.studies.verdict`.
    """

    protocol: str
    facts: Facts
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    verdict: tuple[str, ...]

    def __repr__(self) -> str:
        whole = self.lines[0].metrics
        width = max(len(line.name) for line in self.lines)
        rows = ["  ".join([" " * width, *(f"{name:>7}  {'change in %':<24}" for name in whole)]).rstrip()]
        for line in self.lines:
            cells = []
            for found in line.metrics.values():
                change, interval = "", ""
                if line.part != "whole" and found.change is not None:
                    change, low, high = found.change.percent
                    interval = f"({low} to {high})"
                cells.append(f"{found.mean:>7.4f}  {change:>6} {interval:<17}")
            rows.append("  ".join([line.name.ljust(width), *cells]).rstrip())
        notes = (f"note: {note}" for note in self.notes)
        return "\n".join([str(self.facts), "", self.protocol, *rows, *notes, "", *self.verdict])

    def to_dict(self) -> dict[str, object]:
        """Plain values, as JSON has them: the lengths of `facts.unique` are text."""
        return json.loads(json.dumps(asdict(self)))


def diagnose(
    data: Split,
    config: Config | None = None,
    *,
    model: Recommender | None = None,
    retrain: bool = False,
    features: Features | None = None,
    progress: bool | None = None,
) -> Diagnosis:
    """Find out whether order matters, how much history matters and whether a network is worth it.

    One network, trained or given, ranks the test targets several times: with histories as they are, shuffled, and cut
    to the last few items. What a user had before is left out of every ranking alike, shown or not. Beside it stand
    the models that count, and networks trained on less: on the last item alone, and without blocks.

    Args:
        config: Settings of every network that is trained; None takes those of `model`, else the defaults. Its seed
            fixes shuffles and intervals too.
        model: A network trained on `data`, to be used instead of training one.
        retrain: Also train a network for each of the other lengths.
        features: Categories and vectors of the items for every network that is trained, as for `train`; those that
            `model` was trained with.
        progress: True tells what is being done on standard error, False nothing; None tells a terminal.

    Raises:
        ConfigError: `model` only counts, or was trained with other features or none.
        DataError: `model` was trained on another log or split, there is nothing to learn from, or one user is tested.
        KeyboardInterrupt: Ctrl-C; a network that is half trained is no measure for others.

    The other errors of `train` too.
    """
    known_split(data)
    if len(data.test) == 1:
        raise DataError(
            f"{data.log.source.name}: found one user to test with, who tells nothing of others; a diagnosis takes two "
            f"or more, and {ENOUGH_USERS} for answers"
        )
    if config is not None:
        check_kind("config", config, Config, advice="a trained model goes into model=")
    given = None if model is None else _network_of(model, data, features)
    if config is None:
        config = Config() if given is None else replace(given.config, device=device_here(given.config.device))
    config = settled(config, data.train, items=len(data.log.items))
    tell = told(progress)
    # A network that learns from the end of each history would learn from less than those with rolling windows.
    common = without_older(data, int(config.length)) if config.windows == "last" else data
    smaller = _smaller(config, common, LENGTHS if retrain else LENGTHS[:1])
    tell(_plan(common, config, trainings=len(smaller) + (model is None)))
    if model is None:
        model = _trained(data, config, features, "whole network", tell, progress)
    network = given or _network_of(model, data, features)
    trials = Trials(data.test, exclude_seen=model.exclude_seen, tell=tell)
    with torch_threads(int(config.threads)):
        _rank_as_it_is(trials, network, data, seed=config.seed)
        for name, settings in smaller.items():
            made = _trained(common, settings, features, name, tell, progress)
            trials.run(name, "retrained", made.scorer, length=int(settings.length))
    return _concluded(trials, data, network.length, _notes_on(model), seed=config.seed)


def _notes_on(model: Recommender) -> list[str]:
    """What there is to know of the whole network."""
    notes, record = [], model.record
    if record.get("best") and record["best"].get("epoch") == record.get("epochs"):
        notes.append(
            f"the whole network was at its best in its last epoch, number {record['epochs']:,}: "
            "trained for longer, it may answer otherwise"
        )
    return notes


def _rank_as_it_is(trials: Trials, network: Neural, data: Split, *, seed: int) -> None:
    """Every line that takes no training, the whole network first."""
    length, items = network.length, len(data.log.items)
    trials.run("whole network", "whole", network)
    for name, keep_last in (("shuffled, the last item kept", True), ("shuffled as a whole", False)):
        change = partial(shuffled, rng=np.random.default_rng(seed), length=length, keep_last=keep_last)
        trials.run(name, "shuffled", network, histories=change, times=_SHUFFLES)
    longest = min(length, int(data.test.histories.lengths.max()))
    for one in (one for one in LENGTHS if one < longest):
        # The same weights that look at less: the ranking still knows, and leaves out, all that the user had.
        trials.run(
            f"shown the last {one}", "shown", Neural(network.network, replace(network.config, length=one)), length=one
        )
    trials.run("Rules", "counted", Linked.of(data.train, items=items))
    trials.run("Markov", "counted", Markov.of(data.train, items=items), length=1)
    trials.run("Popularity", "counted", Popularity.of(data.train, items=items), length=0)


def _smaller(config: Config, data: Split, lengths: tuple[int, ...]) -> Mapping[str, Config]:
    """Settings of the networks that are trained on less, by their names.

    Each learns from every step once, after at most `length` items: `length` alone would leave out all steps but the
    last of each history. Their steps are as large as those of the whole network, in targets.
    """
    targets, histories = _steps(data), int((data.train_lengths >= 2).sum())
    batch = int(config.batch) if config.learn == "last" else round(int(config.batch) * targets / max(histories, 1))
    rolling = replace(config, windows="rolling", shortest=1, learn="last", batch=min(max(batch, 1), 1_000_000))
    made = {f"trained on the last {one}": replace(rolling, length=one) for one in lengths if one < int(config.length)}
    return made | {"trained without blocks": _without_blocks(replace(rolling, network="sasrec", length=1))}


def _without_blocks(config: Config) -> Config:
    """The same settings for a network without blocks, which refuses what blocks alone read."""
    rest = {"relative": "none", "both": "learned"}
    kept: dict[str, Any] = {name: rest.get(found := getattr(config, name), found) for name in ("positions", "times")}
    return replace(config, blocks=0, **kept, **{name: getattr(Config, name) for name in OF_BLOCKS})


def _steps(data: Split) -> int:
    return int(np.maximum(data.train_lengths - 1, 0).sum())


def _trained(
    data: Split, config: Config, features: Features | None, name: str, tell: Tell, progress: bool | None
) -> Recommender:
    tell(f"training: {name}")
    model = whole(train(data, config, features=features, progress=progress))
    record = model.record
    tell(f"trained {counted(record['epochs'], 'epoch')} in {record['seconds']:,.0f} s, {record['stopped']}")
    return model


def _network_of(model: Recommender, data: Split, features: Features | None) -> Neural:
    scorer = model.scorer
    if not isinstance(scorer, Neural):
        raise ConfigError(f"model: a diagnosis needs a network, found a model of kind {scorer.kind!r}; train one")
    check_trained_on(data, model, advice="it may have seen the targets: read and split the log as in training")
    check_nothing_added(model, data, done="diagnose")
    check_same_features(model, features, done="a diagnosis")
    return scorer


def _plan(data: Split, config: Config, *, trainings: int) -> str:
    """What is going to be done, and at what cost."""
    return (
        f"to do: train {counted(trainings, 'network')}, each for at most {counted(int(config.epochs), 'epoch')} of "
        f"{counted(_steps(data), 'target')} among {counted(len(data.log.items), 'item')}; rank "
        f"{counted(len(data.test), 'user')} for every line"
    )


def _concluded(trials: Trials, data: Split, length: int, more: list[str], *, seed: int) -> Diagnosis:
    lines = trials.lines(seed)
    protocol = (
        f"protocol: {data.how} split, test; {len(data.test):,} users, whole catalogue of {len(data.log.items):,} items "
        f"ranked, exclude_seen={trials.exclude_seen}; change from the whole network with its 95 % interval"
    )
    notes = [
        f"shuffled {_SHUFFLES} times; of each history the last {length} items, which the network sees, change places",
        "intervals are over users, in pairs; another seed would move what was trained for a line, too",
        *more,
    ]
    if len(data.test) < ENOUGH_USERS:
        notes.append(f"intervals of fewer than {ENOUGH_USERS} users are too narrow: do not rely on what follows")
    hits = round(lines[0].metrics["HR@10"].mean * len(data.test))
    if 0 < hits < ENOUGH_HITS:
        notes.append(
            f"the whole network finds the targets of {counted(hits, 'user')} among its first 10; with fewer than "
            f"{ENOUGH_HITS} nothing is called without effect"
        )
    best = max((line for line in lines if line.part == "counted"), key=lambda line: line.metrics["NDCG@10"].mean)
    network = on_network(best.name, best.metrics["NDCG@10"], trials.from_line(best.name, seed=seed))
    sentences = verdict(lines, network, length=length, users=len(data.test))
    return Diagnosis(protocol, Facts.of(data, LENGTHS), lines, tuple(notes), sentences)


def verdict(lines: tuple[Line, ...], network: str, *, length: int, users: int) -> tuple[str, ...]:
    """The sentences about the lines of a diagnosis.

    Args:
        network: That about the network and counting.
        length: Items that the whole network looks at.
        users: How many were tested.
    """
    changes = {line.name: change for line in lines if (change := line.metrics["NDCG@10"].change) is not None}
    if not changes:
        return ("The whole network finds nobody's target among its first 10: order and history are moot.", network)
    if users < ENOUGH_USERS:
        tested = f"{users} tested, where it takes {ENOUGH_USERS}"
        return (f"Order, history, network and blocks cannot be judged from so few users: {tested}.",)
    kept, as_a_whole = (changes[line.name] for line in lines if line.part == "shuffled")
    shown = {line.length: changes[line.name] for line in lines if line.part == "shown" and line.length is not None}
    return (
        on_order(kept),
        on_last_item(as_a_whole),
        on_history(shown, length=length, alone=changes.get("trained on the last 1")),
        network,
        on_blocks(changes["trained without blocks"]),
    )
