"""load(): from a saved model to a recommender."""

from pathlib import Path
from typing import get_args

from sasrec import bundle
from sasrec.data.log import FrameKind
from sasrec.errors import BundleError, ConfigError
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer


def load(path: str | Path, *, frame: FrameKind = "polars") -> Recommender:
    """Read a model that `Recommender.save` or `sasrec train` wrote, checking every byte of it.

    Args:
        frame: Kind of frame to answer with where the question does not come in one: "polars", "pandas" or "pyarrow".
            That of the log is not kept, as its library need not be where the model is used.

    Raises:
        ConfigError: There is no such `frame`.
        BundleError: The folder is missing, foreign, damaged or written by a newer sasrec.
    """
    if frame not in get_args(FrameKind):
        raise ConfigError(f"frame: expected 'polars', 'pandas' or 'pyarrow', found {frame!r}")
    content = bundle.load(Path(path))
    try:
        return Recommender(
            _scorer(content.kind).from_parts(len(content.items), content.config, content.tensors),
            users=content.users,
            items=content.items,
            histories=content.histories,
            record=content.record,
            frame=frame,
        )
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _scorer(kind: str) -> type[Scorer]:
    """The scorer of a kind of model; torch is imported for those that need it."""
    if kind == Exported.kind:
        return Exported
    from sasrec.retrieval.blend import PARTS, Blend

    known = {**PARTS, Blend.kind: Blend}
    if kind not in known:
        raise BundleError(f"holds a model of kind {kind!r}; this sasrec knows {', '.join((*known, Exported.kind))}")
    return known[kind]
