"""SASRec and SSE-PT as their authors published them: scripts of two repositories for TensorFlow 1.

Run here on Python 3.7, the last one that TensorFlow 1 has been built for; their files that Python 3 cannot read hold
nothing that is measured.
"""

from __future__ import annotations

import os
import warnings
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.filterwarnings("ignore")

import tensorflow as tf  # noqa: E402  (reads the variable above when it is imported)

from benchmarks.peers.checkouts import enter  # noqa: E402
from benchmarks.peers.work import Work, best_unseen, last_windows  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.peers.pace import Pace

SAMPLERS = 3  # processes, as in their main.py


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        personal = config["user_width"] > 0
        enter("SSE-PT" if personal else "SASRec")
        from sampler import WarpSampler

        if personal:
            from model_v1 import Model
        else:
            from model import Model

        tf.logging.set_verbosity(tf.logging.ERROR)
        self.work, self.config, self.length = work, config, config["length"]
        users = {user: list(train) for user, train in enumerate(work.train(), start=1)}
        # The samplers' processes are started before TensorFlow has threads.
        self.sampler = WarpSampler(
            users, len(users), work.items, batch_size=config["batch"], maxlen=self.length, n_workers=SAMPLERS
        )
        self.windows = last_windows(work, self.length)
        self.steps = len(users) // config["batch"]
        self.model = Model(len(users), work.items, _arguments(config))
        self.session = tf.Session(
            config=tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        )
        self.session.run(tf.global_variables_initializer())
        self.asked = [self.model.auc, self.model.loss, self.model.train_op]
        if personal:  # its main.py fetches these in every step
            self.asked += [self.model.user_emb_table, self.model.item_emb_table, self.model.attention]

    def epoch(self, pace: Pace) -> None:
        model = self.model
        for user, seq, pos, neg in pace.through(self._batches(), lambda batch: (len(batch[0]), np.sum(batch[2] != 0))):
            fed = {model.u: user, model.input_seq: seq, model.pos: pos, model.neg: neg, model.is_training: True}
            self.session.run(self.asked, fed)
        self.sampler.close()

    def top(self) -> list[list[int]]:
        """They rank 101 candidates alone: their states times their item vectors, and our choice of the best."""
        model, known = self.model, self.work.known()
        padded, users = np.array(self.work.padded(self.length)), np.arange(1, len(known) + 1)
        table = next(one for one in tf.global_variables() if one.name == "SASRec/input_embeddings/lookup_table:0")
        items = self.session.run(table)[1:]
        lists = []
        for start in range(0, len(known), 256):
            some = slice(start, start + 256)
            fed = {model.input_seq: padded[some], model.u: users[some], model.is_training: False}
            # The last columns of SSE-PT's states meet the user's own vector, which is the same for all items.
            states = self.session.run(model.seq, fed)[:, -1, : items.shape[1]]
            lists += best_unseen(states @ items.T, known[some])
        return lists

    def _batches(self) -> Iterator[tuple[Any, ...]]:
        for _ in range(self.steps):
            user, *rest = self.sampler.next_batch()
            yield (user, *(np.array(part) for part in rest))


def _arguments(config: Mapping[str, Any]) -> Namespace:
    return Namespace(
        maxlen=config["length"],
        hidden_units=config["width"],
        item_hidden_units=config["width"],
        user_hidden_units=config["user_width"],
        num_blocks=config["blocks"],
        num_heads=config["heads"],
        dropout_rate=config["dropout"],
        l2_emb=0.0,
        lr=config["learning_rate"],
    )
