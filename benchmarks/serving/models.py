"""A model to be served, requests to it, and the answers that are right."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import torch

import sasrec
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender

LENGTH = 50
K = 10
REQUESTS = 200
USERS = 1_000  # whose histories the model knows
_EACH = 100  # items that lie around one centre
_SPREAD = 0.5  # of their distance from it, in standard deviations of the centres


def make(path: Path, *, items: int) -> list[bytes]:
    """Save a network; gives bodies of requests with histories of 50 items, each from three groups of items.

    Nothing is trained: the layers have random weights, which take as long as others, and the vectors of the items lie
    in groups around random centres, as trained ones do more or less.
    """
    config = Config(width=64, length=LENGTH, positions="learned", blocks=2)
    generator, rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    network = build(config, items=items, generator=generator).eval()
    groups = -(-items // _EACH)
    with torch.no_grad():
        around = torch.randn(groups, 64, generator=generator).repeat_interleave(_EACH, 0)[:items]
        network.items.weight.copy_((around + _SPREAD * torch.randn(items, 64, generator=generator)) / 8)
    ids = np.char.mod("item-%07d", np.arange(items))

    def history() -> np.ndarray:
        return (rng.choice(rng.integers(0, groups, 3), LENGTH) * _EACH + rng.integers(0, _EACH, LENGTH)) % items

    model = Recommender(
        Neural(network, config),
        users=Vocabulary(pl.Series(np.char.mod("user-%04d", np.arange(USERS))), "user"),
        items=Vocabulary(pl.Series(ids), "item"),
        histories=Sequences.of([history() for _ in range(USERS)]),
    )
    model.save(path)
    return [json.dumps({"history": ids[history()].tolist(), "k": K}).encode() for _ in range(REQUESTS)]


def overlap(path: Path, bodies: list[bytes], answers: dict[int, bytes]) -> float:
    """Share of the best ten, every item scored and sorted, that the answers to these bodies hold."""
    model, found = sasrec.load(path), 0
    for number, answer in answers.items():
        history = json.loads(bodies[number])["history"]
        rows = model.items.known_rows(history)
        scores = model.scorer.scores(Sequences.of([rows]))[0]
        scores[rows] = -np.inf
        best = {*model.items.raw(np.argsort(-scores, kind="stable")[:K])}
        found += len(best & {one["item"] for one in json.loads(answer)["items"]})
    return found / (K * len(answers))
