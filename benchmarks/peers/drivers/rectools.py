"""SASRec of RecTools, and eSASRec as RecTools ships it: LiGR blocks in the same model."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

from benchmarks.peers.pace import Pace
from benchmarks.peers.work import K, Work, last_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

LOSSES = {"softmax": "softmax", "bce": "BCE", "sampled-softmax": "sampled_softmax"}


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        torch.set_num_threads(threads)
        seed_everything(0)
        self.users = range(1, len(work.histories) + 1)
        self.train, self.known = _dataset(work, held_out=2), _dataset(work, held_out=1)
        self.windows = last_windows(work, config["length"])
        self.steps = -(-len(self.windows) // config["batch"])
        self.config = config

    def epoch(self, pace: Pace) -> None:
        """Builds the model too, for RecTools asks for the trainer there."""
        config = self.config
        self.model = SASRecModel(
            n_factors=config["width"],
            n_blocks=config["blocks"],
            n_heads=config["heads"],
            session_max_len=config["length"],
            dropout_rate=config["dropout"],
            loss=LOSSES[config["loss"]],
            n_negatives=config["negatives"],
            lr=config["learning_rate"],
            batch_size=config["batch"],
            get_trainer_func=lambda: _trainer(pace),
            **(_ligr(config) if config["gated"] else {}),
        )
        self.model.fit(self.train)

    def top(self) -> list[list[int]]:
        found = self.model.recommend(self.users, self.known, k=K, filter_viewed=True)
        ordered = found.sort_values([Columns.User, Columns.Rank])
        return ordered.groupby(Columns.User)[Columns.Item].agg(list).tolist()


def _trainer(pace: Pace) -> Trainer:
    return Trainer(
        max_epochs=1,
        limit_train_batches=pace.limit,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[_Steps(pace)],
    )


class _Steps(Callback):
    """Tells the pace of every step."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def __deepcopy__(self, _memo: object) -> _Steps:
        """RecTools trains with a copy of the trainer, which must tell the same pace."""
        return self

    def on_train_batch_end(self, _trainer: Any, _module: Any, _outputs: Any, batch: Any, _number: int) -> None:
        self.pace.step(len(batch["y"]), int((batch["y"] != 0).sum()))


def _dataset(work: Work, *, held_out: int) -> Dataset:
    """All events but the last ones of every user."""
    events = [event for event in work.events() if event[2] < len(work.histories[event[0] - 1]) - held_out]
    frame = pd.DataFrame(events, columns=[Columns.User, Columns.Item, Columns.Datetime])
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    frame[Columns.Weight] = 1.0
    return Dataset.construct(frame)


def _ligr(config: Mapping[str, Any]) -> dict[str, Any]:
    """What eSASRec has other than SASRec; the rest of `SASRecModel` stays as it is."""
    return {
        "transformer_layers_type": LiGRLayers,
        "transformer_layers_kwargs": {"ff_factors_multiplier": config["feed_forward"] // config["width"]},
        "use_key_padding_mask": True,
    }
