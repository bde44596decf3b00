"""SASRec.pytorch of pmixer: scripts of a repository, with the loop of its `main.py`."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.peers.checkouts import enter
from benchmarks.peers.pace import Pace
from benchmarks.peers.work import Work, best_unseen, last_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLERS = 3  # processes, as in its main.py


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        enter("SASRec.pytorch/python")
        from model import SASRec
        from utils import WarpSampler, data_partition

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.work, self.length = work, config["length"]
        train, _, _, users, items = _partitioned(work, data_partition)
        self.windows = last_windows(work, self.length)
        self.steps = (len(train) - 1) // config["batch"] + 1
        self.sampler = WarpSampler(
            train, users, items, batch_size=config["batch"], maxlen=self.length, n_workers=SAMPLERS
        )
        self.model = SASRec(users, items, _arguments(config))
        for parameter in self.model.parameters():
            with suppress(ValueError):  # vectors have no such start
                torch.nn.init.xavier_normal_(parameter.data)
        self.model.pos_emb.weight.data[0, :] = 0
        self.model.item_emb.weight.data[0, :] = 0
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config["learning_rate"], betas=(0.9, 0.98))

    def epoch(self, pace: Pace) -> None:
        loss_of = torch.nn.BCEWithLogitsLoss()
        self.model.train()
        for user, seq, pos, neg in pace.through(self._batches(), lambda batch: (len(batch[0]), (batch[2] != 0).sum())):
            positive, negative = self.model(user, seq, pos, neg)
            ones, zeros = torch.ones(positive.shape), torch.zeros(negative.shape)
            self.optimiser.zero_grad()
            real = np.where(pos != 0)
            loss = loss_of(positive[real], ones[real]) + loss_of(negative[real], zeros[real])
            loss.backward()
            self.optimiser.step()
            loss.item()
        self.sampler.close()

    @torch.no_grad()
    def top(self) -> list[list[int]]:
        """It has no top-N: its states times its item vectors, and our choice of the best."""
        self.model.eval()
        items = self.model.item_emb.weight[1 : self.work.items + 1]
        padded, known = np.array(self.work.padded(self.length)), self.work.known()
        lists = []
        for start in range(0, len(known), 256):
            some = slice(start, start + 256)
            states = self.model.log2feats(padded[some])[:, -1]
            lists += best_unseen((states @ items.T).numpy(), known[some])
        return lists

    def _batches(self) -> Any:
        for _ in range(self.steps):
            yield tuple(np.array(part) for part in self.sampler.next_batch())


def _partitioned(work: Work, data_partition: Any) -> Any:
    """The log as its own function reads it, from `data/` in the current folder."""
    before = os.getcwd()
    with TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "log.txt").write_text("".join(f"{user} {item}\n" for user, item, _ in work.events()))
        os.chdir(folder)
        try:
            return data_partition("log")
        finally:
            os.chdir(before)


def _arguments(config: Mapping[str, Any]) -> Namespace:
    return Namespace(
        device="cpu",
        hidden_units=config["width"],
        num_blocks=config["blocks"],
        num_heads=config["heads"],
        dropout_rate=config["dropout"],
        maxlen=config["length"],
        norm_first=False,
    )
