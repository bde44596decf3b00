"""SASRec of RecBole, which learns from every prefix of a history on its own."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from recbole.utils.case_study import full_sort_scores

from benchmarks.peers.work import Work, best_unseen, rolling_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.pace import Pace


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        warnings.filterwarnings("ignore")
        torch.set_num_threads(threads)
        folder = Path(mkdtemp())
        os.chdir(folder)  # it writes logs where it is started
        (folder / "log").mkdir()
        (folder / "log" / "log.inter").write_text(
            "user_id:token\titem_id:token\ttimestamp:float\n"
            + "".join(f"{user}\t{item}\t{place}\n" for user, item, place in work.events())
        )
        sys.argv = sys.argv[:1]  # it reads options there
        settings = Config(model="SASRec", dataset="log", config_dict=_settings(config, str(folder)))
        init_seed(0, False)
        self.work, self.dataset = work, create_dataset(settings)
        self.train, _, self.test = data_preparation(settings, self.dataset)
        self.model = SASRec(settings, self.train.dataset)
        self.trainer = Trainer(settings, self.model)
        self.windows = rolling_windows(work)
        self.steps = len(self.train)

    def epoch(self, pace: Pace) -> None:
        self.trainer._train_epoch(pace.through(self.train, lambda rows: (len(rows), len(rows))), 0, show_progress=False)

    def top(self) -> list[list[int]]:
        """Its scores of the whole catalogue, and our choice of the best: it leaves nothing out that was seen."""
        known = self.work.known()
        rows = self.dataset.token2id("item_id", [str(item) for item in range(1, self.work.items + 1)])
        users = self.dataset.token2id("user_id", [str(user) for user in range(1, len(known) + 1)])
        lists = []
        for start in range(0, len(known), 1024):
            some = slice(start, start + 1024)
            scores = full_sort_scores(users[some], self.model, self.test).numpy()
            lists += best_unseen(np.ascontiguousarray(scores[:, rows]), known[some])
        return lists


def _settings(config: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {
        "data_path": folder,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": config["length"],
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "n_layers": config["blocks"],
        "n_heads": config["heads"],
        "hidden_size": config["width"],
        "inner_size": config["width"],
        "hidden_dropout_prob": config["dropout"],
        "attn_dropout_prob": config["dropout"],
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": config["batch"],
        "learning_rate": config["learning_rate"],
        "epochs": 1,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "reproducibility": False,
        "metrics": ["NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
    }
