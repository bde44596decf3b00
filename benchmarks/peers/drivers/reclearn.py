"""SASRec of RecLearn, which RecoHut's is, in TensorFlow 2: a repository."""

from __future__ import annotations

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

from benchmarks.peers.checkouts import enter
from benchmarks.peers.work import Work, best_unseen, rolling_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.pace import Pace


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        enter("RecLearn")
        from reclearn.data.datasets.movielens import load_seq_data
        from reclearn.models.matching import SASRec

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        random.seed(0)
        self.work, self.length, self.batch = work, config["length"], config["batch"]
        with TemporaryDirectory() as folder:
            log = Path(folder) / "train.txt"
            log.write_text("".join(f"{user}\t{_words(train)}\t{_words(train)}\n" for user, train in _numbered(work)))
            self.train = load_seq_data(str(log), "train", self.length, config["negatives"], work.items)
        self.windows = rolling_windows(work)
        self.steps = -(-len(self.windows) // self.batch)
        self.model = SASRec(
            item_num=work.items + 1,
            embed_dim=config["width"],
            seq_len=self.length,
            blocks=config["blocks"],
            num_heads=config["heads"],
            ffn_hidden_unit=config["feed_forward"],
            dnn_dropout=config["dropout"],
            layer_norm_eps=config["epsilon"],
            embed_reg=config["item_l2"] / 4,  # its loss is half of ours, and the gradient of w ** 2 is 2 w
            seed=0,
        )
        self.model.compile(optimizer=tf.keras.optimizers.Adam(learning_rate=config["learning_rate"]))

    def epoch(self, pace: Pace) -> None:
        self.model.fit(
            x=self.train,
            epochs=1,
            steps_per_epoch=pace.limit,
            batch_size=self.batch,
            callbacks=[_Steps(pace, self.windows, self.batch)],
            verbose=0,
        )

    def top(self) -> list[list[int]]:
        """It ranks given candidates alone: its states times its item vectors, and our choice of the best."""
        model, known = self.model, self.work.known()
        padded = np.array(self.work.padded(self.length))
        items = model.item_embedding(tf.range(1, self.work.items + 1)).numpy()
        lists = []
        for start in range(0, len(known), 256):
            some = slice(start, start + 256)
            inputs = tf.constant(padded[some])
            mask = tf.expand_dims(tf.cast(tf.not_equal(inputs, 0), tf.float32), -1)
            states = (model.item_embedding(inputs) + model.pos_embedding(tf.range(self.length))) * mask
            for block in model.encoder_layer:
                states = block([states, mask]) * mask
            lists += best_unseen(states[:, -1].numpy() @ items.T, known[some])
        return lists


class _Steps(tf.keras.callbacks.Callback):
    """Tells the pace of every step."""

    def __init__(self, pace: Pace, windows: list[int], size: int) -> None:
        super().__init__()
        self.pace, self.windows, self.size = pace, windows, size

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        made = self.windows[batch * self.size : (batch + 1) * self.size]
        self.pace.step(len(made), sum(made))


def _numbered(work: Work) -> Any:
    return enumerate(work.train(), start=1)


def _words(items: Any) -> str:
    return " ".join(map(str, items))
