"""SASRec of RePlay."""

from __future__ import annotations

import logging
import os
import warnings
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import lightning
import pandas as pd
import torch
from replay.data import FeatureHint, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorSchema
from replay.data.nn.utils import groupby_sequences
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import TorchTopItemsCallback
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.loss import BCESampled
from replay.nn.sequential import SasRec
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms

from benchmarks.peers.work import K, Work, last_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.pace import Pace

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        warnings.filterwarnings("ignore")
        for name in ("lightning", "lightning.pytorch", "replay"):
            logging.getLogger(name).setLevel(logging.ERROR)
        torch.set_num_threads(threads)
        lightning.seed_everything(0)
        os.chdir(mkdtemp())
        self.work, self.config = work, config
        self.longest = _write(work, "known.parquet", held_out=1)
        _write(work, "train.parquet", held_out=2)
        self.windows = last_windows(work, config["length"], first_too=True)
        self.steps = -(-len(self.windows) // config["batch"])
        schema = TensorSchema(
            [
                TensorFeatureInfo(
                    name="item_id",
                    is_seq=True,
                    padding_value=work.items,
                    cardinality=work.items,
                    embedding_dim=config["width"],
                    feature_type=FeatureType.CATEGORICAL,
                    feature_hint=FeatureHint.ITEM_ID,
                )
            ]
        )
        self.transforms = make_default_sasrec_transforms(schema)
        self.network = SasRec.from_params(
            schema=schema,
            embedding_dim=config["width"],
            num_heads=config["heads"],
            num_blocks=config["blocks"],
            max_sequence_length=config["length"],
            dropout=config["dropout"],
        )
        if config["loss"] == "bce":
            # Its sampler draws one vector of negatives for all positions of a batch.
            self.transforms["train"].insert(0, UniformNegativeSamplingTransform(work.items, config["negatives"]))
            loss = BCESampled(negative_labels_ignore_index=work.items)
            self.network = SasRec(body=self.network.body, loss=loss)

    def epoch(self, pace: Pace) -> None:
        data = ParquetModule(
            train_path="train.parquet",
            batch_size=self.config["batch"],
            transforms={"train": self.transforms["train"]},
            metadata={"train": {"item_id": {"shape": self.config["length"] + 1, "padding": self.work.items}}},
        )
        lightning.Trainer(
            max_epochs=1,
            limit_train_batches=pace.limit,
            limit_val_batches=0,
            accelerator="cpu",
            enable_checkpointing=False,
            callbacks=[_Steps(pace)],
            **QUIET,
        ).fit(LightningModule(self.network), datamodule=data)

    def top(self) -> list[list[int]]:
        padding = self.work.items
        data = ParquetModule(
            predict_path="known.parquet",
            batch_size=256,
            transforms={"predict": self.transforms["predict"]},
            metadata={
                "predict": {
                    "user_id": {},
                    "item_id": {"shape": self.config["length"], "padding": padding},
                    "seen_ids": {"shape": self.longest, "padding": padding},
                }
            },
        )
        best = TorchTopItemsCallback(top_k=K, query_column="user_id", postprocessors=[SeenItemsFilter(padding)])
        trainer = lightning.Trainer(accelerator="cpu", callbacks=[best], inference_mode=True, **QUIET)
        trainer.predict(LightningModule(self.network), datamodule=data, return_predictions=False)
        users, items, _ = best.get_result()
        found = dict(zip(users.flatten().tolist(), (items + 1).tolist(), strict=True))
        return [found[user] for user in range(1, len(self.work.histories) + 1)]


class _Steps(lightning.Callback):
    """Tells the pace of every step."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_batch_end(self, _trainer: Any, _module: Any, _outputs: Any, batch: Any, _number: int) -> None:
        mask = batch["target_padding_mask"]
        self.pace.step(len(mask), int(mask.sum()))


def _write(work: Work, file: str, *, held_out: int) -> int:
    """All events but the last ones of every user, as it reads them; the length of the longest history."""
    events = [event for event in work.events() if event[2] < len(work.histories[event[0] - 1]) - held_out]
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    frame["item_id"] -= 1
    grouped = groupby_sequences(events=frame, groupby_col="user_id", sort_col="timestamp")
    grouped["seen_ids"] = grouped["item_id"]
    grouped.to_parquet(file)
    return int(grouped["item_id"].map(len).max())
