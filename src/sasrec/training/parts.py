"""What a model is made of, and with which features, so that it can be made again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sasrec.data.features import Features, check_features
from sasrec.data.splits import Split
from sasrec.errors import ConfigError, DataError
from sasrec.retrieval.blend import Blend
from sasrec.retrieval.content import Content
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer


class Part(NamedTuple):
    """One of the scorers that a model consists of, most of which are their only one.

    Attributes:
        name: What it is called among the parts.
        weight: What it counts among them.
        scorer: What ranks.
        chosen: What validation chose of it, as records have it under "best".
    """

    name: str
    weight: float
    scorer: Scorer
    chosen: Mapping[str, Any]

    def learned(self, features: Features | None) -> Features | None:
        """The model's features, if this is a part that knows them: in a blend, not every one does.

        An exported network is no part of a blend, and no longer holds what it was told.
        """
        scorer = self.scorer
        knows = isinstance(scorer, Exported) or (isinstance(scorer, Neural | Content) and scorer.told is not None)
        return features if knows else None


def parts_of(model: Recommender) -> list[Part]:
    """The parts of a blend, in its order; of another model itself."""
    scorer, record = model.scorer, model.record
    if not isinstance(scorer, Blend):
        return [Part(scorer.kind, 1.0, scorer, record.get("best", {}))]
    chosen = {part["name"]: part.get("best", {}) for part in record.get("parts", ())}
    return [Part(name, weight, part, chosen.get(name, {})) for name, (weight, part) in scorer.parts.items()]


def check_trained_on(data: Split, model: Recommender, *, advice: str) -> None:
    """Refuse a model that was trained on another log or split, or does not say on which; DataError."""
    if model.record.get("data") != data.fingerprint or "best" not in model.record:
        raise DataError(
            f"{data.log.source.name}: the model of kind {model.kind!r} was trained on another log or split, or does "
            f"not say how; {advice}"
        )


def check_nothing_added(model: Recommender, data: Split, *, done: str) -> None:
    """Refuse a model of this split to which items were added after training; ConfigError.

    Args:
        done: What is to be done with it, a verb.
    """
    added = len(model.items) - len(data.log.items)
    if added:
        raise ConfigError(
            f"model: {added:,} items were added to it after training, of which the log knows nothing; {done} the model "
            "that it was made from, then add them to what that gives"
        )


def check_same_features(model: Recommender, features: Features | None, *, done: str) -> None:
    """Refuse other features than those that a model was trained with; ConfigError.

    Args:
        done: What needs them, a noun.
    """
    check_features(features)
    record, given = model.record, {} if features is None else features.record()
    if (features is None) != (record.get("features") is None) or not same_features([record, given]):
        trained = record.get("features")
        advice = f"pass features= as then ({trained.removeprefix('features: ')})" if trained else "it had none"
        raise ConfigError(f"features: {done} needs those that the model was trained with, and no others; {advice}")


def same_features(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all records that tell of features tell of the same: in words, and by what is in the table.

    Args:
        records: Those of models, or of `Features`.
    """
    told = [record for record in records if record.get("features") is not None]
    tables = [record["item_table"] for record in told if record.get("item_table")]  # an older blend keeps none
    digests = {table["sha256"] for table in tables if "sha256" in table}  # nor does an older table
    return len({record["features"] for record in told}) <= 1 and len(digests) <= 1
