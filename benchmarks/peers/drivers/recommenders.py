"""SASREC of Recommenders, in TensorFlow 2."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.filterwarnings("ignore")

import tensorflow as tf  # noqa: E402  (reads the variable above when it is imported)
from recommenders.models.sasrec import model as module  # noqa: E402
from recommenders.models.sasrec.sampler import WarpSampler  # noqa: E402
from recommenders.models.sasrec.util import SASRecDataSet  # noqa: E402

from benchmarks.peers.work import Work, best_unseen, last_windows  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.peers.pace import Pace

SAMPLERS = 3  # processes, as in its example


class _EnoughError(Exception):
    """Leaves its training before it evaluates."""


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        self.work, self.config, self.length = work, config, config["length"]
        with TemporaryDirectory() as folder:
            log = Path(folder) / "log.txt"
            log.write_text("".join(f"{user} {item}\n" for user, item, _ in work.events()))
            self.data = SASRecDataSet(filename=str(log), col_sep=" ")
            self.data.split()
        # The samplers' processes are started before TensorFlow has threads.
        self.sampler = WarpSampler(
            self.data.user_train,
            self.data.usernum,
            self.data.itemnum,
            batch_size=config["batch"],
            maxlen=self.length,
            n_workers=SAMPLERS,
        )
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.random.set_seed(0)
        self.windows = last_windows(work, self.length)
        self.steps = len(self.data.user_train) // config["batch"]
        self.model = module.SASREC(
            item_num=self.data.itemnum,
            seq_max_len=self.length,
            num_blocks=config["blocks"],
            embedding_dim=config["width"],
            attention_dim=config["width"],
            attention_num_heads=config["heads"],
            dropout_rate=config["dropout"],
            conv_dims=[config["width"], config["width"]],
            l2_reg=0.0,
            num_neg_test=100,
        )

    def epoch(self, pace: Pace) -> None:
        """Its `train` has no other place to count steps than the progress bar and the sampler."""

        watched = _Watched(self.sampler, pace)

        def bar(iterable: Any, **_shown: Any) -> Iterator[Any]:
            yield from iterable
            watched.next_batch()  # ends a whole epoch's last step, and training with it

        module.tqdm = bar
        with suppress(_EnoughError):
            self.model.train(
                self.data,
                watched,
                num_epochs=1,
                batch_size=self.config["batch"],
                learning_rate=self.config["learning_rate"],
                val_epoch=5,
            )
        self.sampler.close()

    def top(self) -> list[list[int]]:
        """It scores given candidates alone: its states times its item vectors, and our choice of the best."""
        model, known = self.model, self.work.known()
        padded = np.array(self.work.padded(self.length), dtype=np.int32)
        items = model.item_embedding_layer(tf.range(1, self.work.items + 1)).numpy()
        lists = []
        for start in range(0, len(known), 256):
            some = slice(start, start + 256)
            inputs = tf.constant(padded[some])
            mask = tf.expand_dims(tf.cast(tf.not_equal(inputs, 0), tf.float32), -1)
            vectors, places = model.embedding(inputs)
            states = model.layer_normalization(model.encoder((vectors + places) * mask, False, mask))
            lists += best_unseen(states[:, -1].numpy() @ items.T, known[some])
        return lists


class _Watched:
    """A sampler that tells the pace of a step when the next one begins, and ends training when it is enough."""

    def __init__(self, sampler: WarpSampler, pace: Pace) -> None:
        self.sampler, self.batches = sampler, pace.through(self._drawn(), _count)

    def next_batch(self) -> Any:
        try:
            return next(self.batches)
        except StopIteration:
            raise _EnoughError from None

    def _drawn(self) -> Iterator[Any]:
        while True:
            yield [np.array(part) for part in self.sampler.next_batch()]


def _count(batch: Any) -> tuple[int, int]:
    return len(batch[0]), int((batch[2] != 0).sum())
