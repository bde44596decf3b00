"""add_items(): items that nobody has had yet join the catalogue of a model that knows features, without training.

Axes: V catalogue, W wider catalogue.
"""

import warnings
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import polars as pl
import torch
from jaxtyping import Shaped

from sasrec.data.feature_reading import Source, read_items, read_more
from sasrec.data.features import Features, Recipe
from sasrec.data.sequences import Sequences, offsets_of
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, ConfigError, DataError, check_kind
from sasrec.retrieval.blend import Blend, NewItems
from sasrec.retrieval.content import Content, FeatureTensors, feature_tensors
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.linked import Linked
from sasrec.retrieval.neural import Neural, widened
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.words import with_article


def add_items(model: Recommender, source: Source) -> Recommender:
    """The same model with the items of a table that it does not know yet.

    To a network a new item is what it learned of its categories and given vector; its own is 0, and so it is ranked
    like an average item of its kind. Content kNN and blends with it rank a new item by its likeness to the history.
    Everything else stays as it is: known items keep what is known of them, even where the table has others for them,
    and users their histories. Once people have had new items, train again.

    Args:
        model: A network that was trained with features, content kNN, or a blend with it.
        source: A table like the one that it was made with; see `sasrec.read_features`. Items of it that have no
            value that the model knows, and no vector, are left out with a warning.

    Raises:
        ConfigError: The model knows nothing of items but who had them.
        DataError: The table is not like the other one, or has no new item with a feature.
        BundleError: The model's record of that table is damaged.
    """
    check_kind("model", model, Recommender, advice="load one with sasrec.load(path)")
    told = _told(model.scorer)
    recipe = _recipe(model.record, told)
    others = read_items(source, model.items, item=recipe.item)
    if len(others):
        found = read_more(source, others, recipe)
        described, bare = np.flatnonzero(~found.bare), np.flatnonzero(found.bare)
        if len(bare) and len(described):
            warnings.warn(
                f"left out {len(bare):,} new items of which the table tells nothing that the model knows, such as "
                f"{others.ids[int(bare[0])]!r}",
                stacklevel=2,
            )
        others, found = Vocabulary(others.raw(described), "item"), found.take(described)
    if not len(others):
        raise DataError("the table has no new item with a feature that the model knows; there is nothing to add")
    items = Vocabulary(pl.concat([model.items.ids, others.ids]).sort(), "item")
    old, new = items.rows(model.items.ids), items.rows(others.ids)
    features = _merged(_features(told, len(model.items), recipe), found, old, new)
    histories = replace(model.histories, items=old.astype(np.int32)[model.histories.items])
    wider = _wider(model.scorer, old, features)
    # What the record says of features is of all items, also of those that an earlier call added.
    record = {**model.record, **features.record(), "added": model.record.get("added", 0) + len(others)}
    return Recommender(wider, users=model.users, items=items, histories=histories, record=record, frame=model.frame)


def _told(scorer: Scorer) -> FeatureTensors:
    """What a model was told of its items; ConfigError where it can rank no new ones by it."""
    if isinstance(scorer, Blend):
        if scorer.content is not None:
            return scorer.content.told
        raise ConfigError("model: a blend ranks new items by content alone; blend the same with 'content' among them")
    if isinstance(scorer, Exported):
        raise ConfigError("model: is exported; add the items to the network that it was made from, and export that")
    if not isinstance(scorer, Neural | Content):
        raise ConfigError(
            f"model: {with_article(scorer.kind)} knows items by who had them alone; give a network with features"
        )
    if scorer.told is None:
        raise ConfigError("model: was trained without features and can know nothing of new items; train it with them")
    return scorer.told


def _wider(scorer: Scorer, places: np.ndarray, features: Features) -> Scorer:
    """The same scorer of a larger catalogue.

    Args:
        places: Row there of each item that it knows, ascending.
        features: Of the larger catalogue.
    """
    items = len(features)
    if isinstance(scorer, Neural):
        return widened(scorer, places, features)
    if isinstance(scorer, Content):
        return Content(scorer.settings, feature_tensors(features), items=items, worth=scorer.worth)
    if isinstance(scorer, Popularity):
        return Popularity(_spread(scorer.counts, places, items))
    if isinstance(scorer, Markov):
        return Markov(_moved(scorer.steps, places, items), _spread(scorer.popularity, places, items))
    if isinstance(scorer, Linked):
        counts = torch.from_numpy(_spread(scorer.counts.numpy(), places, items))
        return Linked(scorer.settings, _moved(scorer.links, places, items), counts)
    if not isinstance(scorer, Blend) or scorer.new is None:
        raise ConfigError(f"model: {with_article(scorer.kind)} can take no new items")
    parts = {name: (weight, _wider(part, places, features)) for name, (weight, part) in scorer.parts.items()}
    unknown = np.union1d(places[scorer.new.rows], np.setdiff1d(np.arange(items), places))
    return Blend(parts, NewItems(unknown, scorer.new.weight))


def _spread(numbers: Shaped[np.ndarray, "V"], places: np.ndarray, items: int) -> Shaped[np.ndarray, "W"]:
    """A number of every item, 0 of those that are new."""
    spread = np.zeros(items, dtype=numbers.dtype)
    spread[places] = numbers
    return spread


def _moved(table: Sequences, places: np.ndarray, items: int) -> Sequences:
    """A table of items by item, in which new items have nothing."""
    offsets = offsets_of(_spread(table.lengths, places, items))
    return Sequences(places[table.items].astype(table.items.dtype), offsets, weights=table.weights)


def _recipe(record: dict[str, Any], told: FeatureTensors) -> Recipe:
    """How the table was read that a model was made with."""
    try:
        recipe = msgspec.convert(record.get("item_table"), Recipe)
    except msgspec.ValidationError as error:
        raise BundleError(f"record.json: item_table: {error}") from None
    numbers = 0 if told["vectors"] is None else told["vectors"].shape[1]
    whole = np.isfinite(recipe.centre).all() and np.isfinite(recipe.scale) and recipe.scale > 0
    if (len(recipe.values), len(recipe.centre)) != (told["values"], numbers) or not whole:
        raise BundleError("record.json: item_table does not fit the weights")
    return recipe


def _features(told: FeatureTensors, items: int, recipe: Recipe) -> Features:
    """The features that a model holds."""
    rows, offsets = told["features"] or (None, None)
    vectors = None if told["vectors"] is None else told["vectors"].numpy()
    return Features(
        np.empty(0, np.int64) if rows is None else rows.numpy(),
        np.zeros(items + 1, np.int64) if offsets is None else offsets.numpy(),
        vectors,
        None if vectors is None else np.asarray(vectors.any(axis=1)),
        recipe,
    )


def _merged(first: Features, second: Features, places: np.ndarray, others: np.ndarray) -> Features:
    """Features of two catalogues in one.

    Args:
        places: Row in the whole of each item of the first.
        others: Row in the whole of each item of the second.
    """
    order = np.argsort(np.concatenate([places, others]))
    both = Features(
        np.concatenate([first.rows, second.rows]),
        np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        None if first.vectors is None or second.vectors is None else np.concatenate([first.vectors, second.vectors]),
        None if first.known is None or second.known is None else np.concatenate([first.known, second.known]),
        first.recipe,
    )
    return both.take(order)
