"""Epoch after epoch: trained, judged on validation, and ended when nothing gets better."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol, final

from torch import Tensor

from sasrec.config import Config
from sasrec.model.stamp import Network
from sasrec.retrieval.scorers import Scorer
from sasrec.training.costs import Clock
from sasrec.training.steps import Training

Judge = Callable[[Scorer], tuple[float, float]]
"""NDCG@10 and HR@10 of a network on validation."""


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Training loss per target in nats, on average over steps.
        ndcg: NDCG@10 on the validation users, whole catalogue; None where the epoch was not validated.
        hit_rate: HR@10 on the same.
        seconds: Wall seconds of training and validation.
        best: True where it has a higher NDCG@10 than every earlier epoch; with the same it is not.
    """

    epoch: int
    loss: float
    ndcg: float | None
    hit_rate: float | None
    seconds: float
    best: bool


class Watcher(Protocol):
    """Is told how training goes: shows it, writes it down, keeps its state, or ends it by an exception.

    Whenever it is told, the state of the training is whole.
    """

    def step(self, epoch: int, loss: float) -> None:
        """A step was made."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch was trained and, where it was its turn, validated."""


@final
@dataclass
class Course:
    """How far a training has come, epoch by epoch.

    Attributes:
        clock: Seconds since the start.
        results: Finished epochs.
        weights: The network's after the best of them.
        began: Seconds at which the epoch after these began.
        loss: Its mean loss, once it is trained and not yet judged.
    """

    clock: Clock = field(default_factory=Clock)
    results: list[EpochResult] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    began: float | None = None
    loss: float | None = None

    @property
    def best(self) -> EpochResult | None:
        """The epoch with the highest NDCG@10."""
        return next((result for result in reversed(self.results) if result.best), None)

    def over(self, config: Config) -> str | None:
        """Why no further epoch is trained; None where one is."""
        since = self.results if self.best is None else self.results[self.best.epoch :]
        if sum(result.ndcg is not None for result in since) >= config.patience:
            every = config.validate_every
            judged = "epochs" if every == 1 else f"validations, one every {every} epochs"
            return f"no better for {config.patience} {judged}"
        return "all epochs trained" if len(self.results) >= config.epochs else None

    def finish(self, network: Network, score: float | None, hits: float | None) -> EpochResult:
        """The epoch that was trained ends, with its NDCG@10 and HR@10 where it was judged."""
        better = score is not None and (self.best is None or score > float(self.best.ndcg or 0.0))
        if better:
            self.weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        seconds = round(self.clock.seconds - float(self.began or 0.0), 3)
        result = EpochResult(len(self.results) + 1, float(self.loss or 0.0), score, hits, seconds, better)
        self.results.append(result)
        self.began = self.loss = None
        return result

    def put_back(self, network: Network) -> None:
        """Give a network the best weights, on the CPU."""
        network.load_state_dict(self.weights)
        network.to("cpu")

    def record(self, stopped: str, *, steps: int) -> dict[str, object]:
        """How training went, with `steps` an epoch; not the time of each epoch, which differs from run to run."""
        names = ("epoch", "loss", "ndcg", "hit_rate")
        history = [{name: getattr(one, name) for name in names} for one in self.results]
        best = asdict(self.best) if self.best else None
        trained = len(self.results)
        return {"stopped": stopped, "best": best, "epochs": trained, "history": history, "steps": trained * steps}


def until_no_better(training: Training, course: Course, *, judge: Judge, watcher: Watcher) -> str:
    """Train from where the course has come until `patience` validations bring nothing better; why it ended."""
    config = training.config
    while (stopped := course.over(config)) is None:
        if course.began is None:
            course.began = course.clock.seconds
        number = len(course.results) + 1
        if course.loss is None:
            course.loss = training.epoch(number, watcher.step)
        due = number % config.validate_every == 0 or number >= config.epochs
        with training.judged() as network:
            result = course.finish(network, *(judge(training.scorer()) if due else (None, None)))
        watcher.epoch(result)
    return stopped
