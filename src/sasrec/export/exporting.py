"""export_onnx(): a network as ONNX, compared with torch before it is written."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sasrec import bundle
from sasrec.errors import ConfigError, ScoreError, check_kind, check_whole
from sasrec.files import as_path
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.topk import best, blocks, hide
from sasrec.training.progress import told
from sasrec.words import counted

if TYPE_CHECKING:
    from sasrec.retrieval.neural import Neural

_TOLERANCE = 1e-4  # between two scores of one item, beside the largest score of its history; float32 has 1e-7


@dataclass(frozen=True)
class Agreement:
    """How an exported network compares with the one that it was made of, after every history of the model.

    Attributes:
        histories: How many were scored by both.
        k: Items of each answer, those of the history left out.
        same: Histories with the same k items in the same order. In the others some items stand in another order whose
            scores differ by no more than rounding.
        difference: The largest between two scores of one item, beside the largest score of the same history.
    """

    histories: int
    k: int
    same: int
    difference: float

    def __str__(self) -> str:
        """In words."""
        agreed = f"the best {self.k} are those of torch after {self.same:,} of {counted(self.histories, 'history')}"
        rest = "" if self.same == self.histories else "; after the others, items whose scores differ by rounding swap"
        return f"{agreed}{rest} (scores differ by {self.difference:.1g} of the largest at most)"


def export_onnx(
    model: Recommender,
    path: str | Path,
    *,
    k: int = 10,
    replace: bool = False,
    progress: bool | None = None,
) -> Agreement:
    """Write a model whose network is ONNX, which `sasrec serve` answers with without torch.

    Nothing is written unless ONNX Runtime gives every item the score that torch gives it, after every history of the
    model, but for rounding.

    Args:
        k: Items of the answers that are compared; of a smaller catalogue all.
        progress: Say on standard error what is done; None does so on a terminal.

    Raises:
        ConfigError: The model is no network, or one that cannot be exported; `k` is no number of items; or the extra
            `onnx` is missing.
        ScoreError: The two do not agree.
        OutputError: The path is taken (and `replace` is False) or cannot be written.
    """
    from sasrec.retrieval.neural import Neural

    check_kind("model", model, Recommender, advice="load one with sasrec.load(path)")
    k = min(check_whole("k", k, least=1), len(model.items))
    scorer = model.scorer
    if not isinstance(scorer, Neural):
        raise ConfigError(
            f"a model of kind {scorer.kind!r} cannot be exported; only a network can, as `sasrec train` makes it"
        )
    bundle.check_free(as_path(path), replace=replace)
    made = exported(scorer)
    histories = counted(len(model.histories), "history")
    told(progress)(f"comparing the scores of {counted(scorer.items, 'item')} after {histories}")
    found = _compared(model, scorer, made, k=k)
    record = {**model.record, "export": {"format": "onnx", **asdict(found)}}
    whole = Recommender(made, users=model.users, items=model.items, histories=model.histories, record=record)
    whole.save(path, replace=replace)
    return found


def exported(scorer: "Neural") -> Exported:
    """The same network as ONNX; ConfigError as `export_onnx`."""
    try:
        import onnxruntime  # noqa: F401  # which `Exported` computes with, and misses in words for a saved model

        from sasrec.export.network import to_onnx
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sasrec"):
            raise
        raise ConfigError(f"exporting needs the package {error.name}; pip install 'sasrec[onnx]'") from None
    return Exported(to_onnx(scorer.network, scorer.config), scorer.config, scorer.items)


def _compared(model: Recommender, scorer: "Neural", made: Exported, *, k: int) -> Agreement:
    same, difference, known = 0, 0.0, model.histories
    if known.times is not None:  # asked at once for everybody, so that times of all lengths have passed
        known = replace(known, asked=np.full(len(known), known.times.max(initial=0)))
    for rows in blocks(len(known), items=scorer.items):
        histories = known.take(rows)
        ours, theirs = scorer.scores(histories), made.scores(histories)
        largest = np.maximum(np.abs(ours).max(axis=1), np.float32(1e-12))
        off = float((np.abs(ours - theirs).max(axis=1) / largest).max())
        # The wrong way round, so that a NaN is refused too.
        if not off <= _TOLERANCE:
            raise ScoreError(
                f"the exported network gives other scores than torch (off by {off:.2g} of the largest), so nothing was "
                "written; is the model's training record sound, and are onnx and onnxruntime up to date?"
            )
        difference = max(difference, off)
        for scores in (ours, theirs):
            hide(scores, histories)
        (values, items), (_, found) = best(ours, k), best(theirs, k)
        # Where fewer than k may be recommended, any of what is hidden fills the row.
        same += int(((items == found) | (values == -np.inf)).all(axis=1).sum())
    return Agreement(len(known), k, same, difference)
