"""sasrec-pytorch of seanswyi: scripts of a repository, with its own trainer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.peers.checkouts import enter
from benchmarks.peers.work import Work, best_unseen, last_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.pace import Pace


class _EnoughError(Exception):
    """Leaves its training before it evaluates."""


class System:
    def __init__(self, work: Work, config: Mapping[str, Any], threads: int) -> None:
        enter("sasrec-pytorch/src")
        import trainer
        from dataset import Dataset
        from model import SASRec

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.work, self.length, self.trainer = work, config["length"], trainer
        with TemporaryDirectory() as folder:
            log = Path(folder) / "log.txt"
            log.write_text("".join(f"{user} {item}\n" for user, item, _ in work.events()))
            self.dataset = Dataset(
                batch_size=config["batch"], max_seq_len=self.length, data_filepath=str(log), debug=False
            )
        self.model = SASRec(
            num_items=self.dataset.num_items,
            num_blocks=config["blocks"],
            hidden_dim=config["width"],
            max_seq_len=self.length,
            dropout_p=config["dropout"],
            share_item_emb=False,
            device="cpu",
        )
        for parameter in self.model.parameters():
            with suppress(ValueError):  # vectors have no such start
                torch.nn.init.xavier_uniform_(parameter.data)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=config["learning_rate"], betas=(0.9, config["beta2"])
        )
        self.windows = last_windows(work, self.length, first_too=True)
        self.steps = -(-len(self.windows) // config["batch"])

    def epoch(self, pace: Pace) -> None:
        """Its `Trainer.train` has no other place to count steps than the progress bar around its batches."""

        def bar(iterable: Any, **_shown: Any) -> Any:
            yield from pace.through(iterable, lambda batch: (len(batch), (batch != 0).sum()))
            raise _EnoughError

        self.trainer.tqdm = bar
        with TemporaryDirectory() as folder, suppress(_EnoughError):
            self.trainer.Trainer(
                dataset=self.dataset,
                evaluate_k=10,
                model=self.model,
                optimizer=self.optimiser,
                max_lr=0.001,
                num_epochs=1,
                early_stop_epoch=20,
                warmup_ratio=0.05,
                use_scheduler=False,
                scheduler_type="onecycle",
                save_dir=folder,
            ).train()

    @torch.no_grad()
    def top(self) -> list[list[int]]:
        """It ranks 101 candidates alone: its states times its item vectors, and our choice of the best."""
        self.model.eval()
        states: list[torch.Tensor] = []
        self.model.layer_norm.register_forward_hook(lambda _layer, _given, found: states.append(found[:, -1]))
        items = self.model.embedding_layer.item_emb_matrix.weight[1 : self.work.items + 1]
        padded, known = torch.tensor(self.work.padded(self.length)), self.work.known()
        lists = []
        for start in range(0, len(known), 256):
            some = slice(start, start + 256)
            self.model(input_seqs=padded[some], item_idxs=torch.ones(len(padded[some]), 1, dtype=torch.long))
            lists += best_unseen((states.pop() @ items.T).numpy(), known[some])
        return lists
