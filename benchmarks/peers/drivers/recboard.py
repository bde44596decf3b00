"""SASRec and STAMP of RecBoard, scripts of a repository that run on the package FreeRec."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.peers.checkouts import enter
from benchmarks.peers.work import K, Work, last_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.pace import Pace

LOSSES = {"bce": "BCE", "softmax": "CE"}
PARTS = {"train": slice(None, -2), "valid": slice(-2, -1), "test": slice(-1, None)}


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        self.work = work
        self.script = _script("STAMP" if config["network"] == "stamp" else "SASRec", work, config)
        freerec, settings = import_module("freerec"), self.script.cfg
        torch.set_num_threads(threads)
        dataset = freerec.data.datasets.RecDataSet(settings.root, settings.dataset, tasktag=settings.tasktag)
        network = "STAMP" if config["network"] == "stamp" else "SASRec"
        self.model = getattr(self.script, network)(dataset)
        self.coach = getattr(self.script, f"CoachFor{network}")(
            dataset=dataset,
            trainpipe=self.model.sure_trainpipe(settings.maxlen, settings.batch_size),
            validpipe=self.model.sure_validpipe(settings.maxlen, ranking="full"),
            testpipe=self.model.sure_testpipe(settings.maxlen, ranking="full"),
            model=self.model,
            cfg=settings,
        )
        self.rolling = config["windows"] == "rolling"
        # It cuts histories to the length before it parts inputs and targets, so that these are one fewer.
        targets = last_windows(work, config["length"] - 1)
        self.windows = [1] * sum(targets) if self.rolling else targets
        self.steps = -(-len(self.windows) // config["batch"])

    def epoch(self, pace: Pace) -> None:
        coach, model = self.coach, self.model
        whole = coach.trainloader

        def count(batch: Any) -> tuple[int, int]:
            inputs = batch[model.ISeq]
            return len(inputs), len(inputs) if self.rolling else int((inputs != model.PADDING_VALUE).sum())

        coach.mode = "train"
        coach.trainloader = pace.through(whole, count)
        try:
            coach.train_per_epoch(1)
        finally:
            coach.trainloader = whole

    def top(self) -> list[list[int]]:
        return self.best("test")

    @torch.no_grad()
    def best(self, part: str) -> list[list[int]]:
        """As its own evaluation ranks, with the lists kept."""
        coach, model = self.coach, self.model
        coach.mode = part
        model.reset_ranking_buffers()
        found = {}
        for batch in coach.dataloader:
            scores = model(coach.dict_to_device(batch), ranking="full")
            scores[coach.Item.to_csr(batch[coach.ISeen]).to_dense().bool()] = -torch.inf
            lists = (scores.topk(K, dim=1).indices + 1).tolist()
            found.update(zip(batch[coach.User].flatten().tolist(), lists, strict=True))
        return [found[user] for user in range(len(self.work.histories))]


def _script(name: str, work: Work, config: Mapping[str, Any]) -> Any:
    """The script as a module; it reads its options while it is imported."""
    folder = mkdtemp()
    data = Path(folder) / "Processed" / "log"
    data.mkdir(parents=True)
    for part, places in PARTS.items():
        lines = [
            f"{user}\t{item - 1}\t{place}\n"
            for user, history in enumerate(work.histories)
            for place, item in list(enumerate(history))[places]
        ]
        (data / f"{part}.txt").write_text("USER\tITEM\tTIMESTAMP\n" + "".join(lines))
    options = {
        "root": folder,
        "dataset": "log",
        "device": "cpu",
        "maxlen": config["length"],
        "embedding-dim": config["width"],
        "loss": LOSSES[config["loss"]],
        "batch-size": config["batch"],
        "lr": config["learning_rate"],
        "ranking": "full",
        "tasktag": "NEXTITEM",
        "num-workers": 0,
    }
    if name == "SASRec":
        options |= {
            "num-heads": config["heads"],
            "num-blocks": config["blocks"],
            "dropout-rate": config["dropout"],
        }
    enter(f"RecBoard/{name}")
    os.chdir(folder)  # it writes logs where it is started
    sys.argv = ["main.py", *(word for option, value in options.items() for word in (f"--{option}", str(value)))]
    return import_module("main")
