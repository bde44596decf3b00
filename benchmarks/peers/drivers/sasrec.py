"""sasrec itself."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from benchmarks.measure import timed
from benchmarks.peers.pace import Pace
from benchmarks.peers.work import K, Work, last_windows, rolling_windows


class _EnoughError(Exception):
    """Leaves an epoch before its end."""


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        import polars as pl
        import torch

        import sasrec
        from sasrec.training.beginning import begin
        from sasrec.training.settling import settled

        torch.set_num_threads(threads)
        events = pl.DataFrame(list(work.events()), ["user_id", "item_id", "place"], orient="row")
        self.log = sasrec.read_log(events, time="")
        self.data = sasrec.split(self.log)
        items, chosen = len(self.log.items), sasrec.Config.from_dict({**config, "threads": threads})
        self.config = settled(chosen, self.data.train, items=items)
        with timed() as watch:
            self.training = begin(self.data.train, items=items, config=self.config)
        # Others draw what they begin with; what may be counted for it here belongs to a whole training.
        self.begun = watch.sample()
        rolling = self.config.windows == "rolling"
        self.windows = rolling_windows(work) if rolling else last_windows(work, self.config.length)
        self.steps = self.training.steps

    def epoch(self, pace: Pace) -> None:
        """Our own loop; its steps tell no sizes, so each batch is counted as a step begins."""
        counts: list[tuple[int, int]] = []
        step = self.training._step

        def counted(batch: Any) -> Any:
            counts.append((len(batch.users), len(batch.targets)))
            return step(batch)

        self.training._step = counted
        with suppress(_EnoughError):
            self.training.epoch(1, _Steps(pace, counts, self.steps))
        self.training._step = step

    def top(self) -> list[list[int]]:
        return self.best("test")

    def best(self, part: str) -> list[list[int]]:
        from sasrec.retrieval.neural import Neural
        from sasrec.retrieval.recommender import Recommender

        with self.training.judged() as network:
            model = Recommender(
                Neural(network, self.config),
                users=self.log.users,
                items=self.log.items,
                histories=getattr(self.data, part).histories,
            )
            answer = model.recommend(self.log.users.ids, k=K, exclude_seen=True)
        items = answer["item_id"].to_list()
        return [items[start : start + K] for start in range(0, len(items), K)]


class _Steps:
    """Is told of every step and tells the pace."""

    def __init__(self, pace: Pace, counts: list[tuple[int, int]], whole: int) -> None:
        self.pace, self.counts, self.whole = pace, counts, whole

    def __call__(self, _epoch: int, _loss: float) -> None:
        if self.pace.step(*self.counts[-1]) and self.pace.made < self.whole:
            raise _EnoughError
