"""One user's best items at a time: from a raw history to a frame, among 12 thousand items and among a million."""

from typing import TYPE_CHECKING

from benchmarks.measure import Case, Sample, timed
from benchmarks.run import Run

if TYPE_CHECKING:
    from sasrec.retrieval.recommender import Recommender

K = 10
USERS = 200  # asked for, one after the other
ITEMS = 1_000_000
LISTED = 1_000  # items of an allow list

CASES = [
    Case("one-user-12k", "top-10 of one history", "lookup:small", limits={"user_ms": 1.0}, inputs="make_model"),
    *(
        Case(name, f"top-10 of one user among 1M items, {by}", "lookup:large", {"by": by}, limits, "make_model")
        for name, by, limits in (
            ("topk-whole-1m", "all scored", {}),
            ("topk-exact-1m", "exact index", {"user_ms": 15.0}),
            ("topk-coarse-1m", "coarse index", {"user_ms": 3.0, "missed": 0.001}),
            ("allow-1m", "1,000 allowed", {}),
        )
    ),
]


def small(run: Run) -> Sample:
    """`continue_from`, history by history."""
    import sasrec
    from sasrec.training.machine import torch_threads

    model = sasrec.load(run.model)
    histories = [model.items.raw(model.histories[user]).to_list() for user in _asked(model)]
    with torch_threads(run.threads):
        model.continue_from(histories[0], k=K)
        with timed() as watch:
            for history in histories:
                model.continue_from(history, k=K)
    return watch.sample(user_ms=1000 * watch.cpu_s / len(histories))


def large(run: Run, *, by: str) -> Sample:
    """`recommend`, user by user, among a million items."""
    import sasrec
    from sasrec.training.machine import torch_threads

    with torch_threads(run.threads):
        return answered(_with_a_million_items(sasrec.load(run.model)), by=by)


def answered(plain: "Recommender", *, by: str) -> Sample:
    """`recommend`, user by user, by one of the ways, and what it misses of what a model without an index answers."""
    import sasrec

    with timed() as making:
        model = plain
        if by.endswith("index"):
            model = sasrec.indexed(plain, overlap=0.999 if by == "coarse index" else None, k=K)
    users = model.users.ids.gather(_asked(model)).to_list()
    allow = model.items.ids.gather_every(ITEMS // LISTED).to_list() if by == "1,000 allowed" else None
    model.recommend(users[:1], k=K, allow=allow)
    with timed() as watch:
        answers = [model.recommend([user], k=K, allow=allow) for user in users]
    found = sum(
        len({*ours["item_id"]} & {*plain.recommend([user], k=K, allow=allow)["item_id"]})
        for user, ours in zip(users, answers, strict=True)
    )
    missed = 1 - found / (K * len(users))
    return watch.sample(user_ms=1000 * watch.cpu_s / len(users), missed=missed, making_s=making.cpu_s)


def _asked(model: "Recommender"):
    import numpy as np

    return np.linspace(0, len(model.users) - 1, USERS, dtype=np.int64)


def _with_a_million_items(model: "Recommender") -> "Recommender":
    """The same users and network with more items: each new vector lies between those of an item and its successor.

    The successor is that of an event of the log, where on the way the vector lies is drawn, and a little noise is
    added: so the new items have the directions and lengths that training gave to the old ones.
    """
    import numpy as np
    import polars as pl
    import torch

    from sasrec.data.vocab import Vocabulary
    from sasrec.model.building import build
    from sasrec.retrieval.neural import Neural
    from sasrec.retrieval.recommender import Recommender

    old, config = model.scorer.network, model.scorer.config
    vectors, generator, rng = old.items.weight.detach(), torch.Generator().manual_seed(0), np.random.default_rng(0)
    events = rng.integers(len(model.histories.items) - 1, size=ITEMS - len(vectors))
    first, second = (
        vectors[torch.from_numpy(model.histories.items[events + step].astype(np.int64))] for step in (0, 1)
    )
    noise = torch.randn(first.shape, generator=generator) * (0.3 * vectors.std())
    made = torch.lerp(first, second, torch.rand(len(first), 1, generator=generator) / 2).add_(noise)
    network = build(config, items=ITEMS, generator=None)
    network.load_state_dict(old.state_dict() | {"items.weight": torch.cat([vectors, made])}, assign=True)
    # Ids that sort after the old ones, whose rows the histories name.
    ids = pl.concat([model.items.ids.cast(pl.String), pl.Series(np.char.mod("~%07d", np.arange(len(made))))])
    if not ids.is_sorted():
        ids = pl.Series(np.char.mod("%07d", np.arange(ITEMS)))
    items = Vocabulary(ids.alias("item"), "item")
    return Recommender(Neural(network, config), users=model.users, items=items, histories=model.histories)
