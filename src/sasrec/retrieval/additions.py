"""add_items(): items that nobody has had yet join the catalogue of a trained model, without training."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import polars as pl

from sasrec.data.feature_reading import Source, read_items, read_more
from sasrec.data.features import Features, Recipe
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, ConfigError, DataError
from sasrec.model.embeddings import ItemVectors
from sasrec.retrieval.neural import Neural, widened
from sasrec.retrieval.recommender import Recommender


def add_items(model: Recommender, source: Source) -> Recommender:
    """The same model with the items of a table that it does not know yet.

    A new item's vector is what the network learned of its categories and given vector; its own is 0, and so it is
    ranked like an average item of its kind. Everything else stays as it is: known items keep their vectors, even
    where the table has others for them, and users their histories. Once people have had new items, train again.

    Args:
        model: A network that was trained with features.
        source: A table like the one that it was trained with; see `sasrec.read_features`. Items of it that have no
            value that the model knows, and no vector, are left out.

    Raises:
        ConfigError: The model is no network, or was trained without features.
        DataError: The table is not like the other one, or has no new item with a feature.
        BundleError: The model's record of that table is damaged.
    """
    scorer = model.scorer
    if not isinstance(scorer, Neural):
        raise ConfigError(f"model: a {scorer.kind} knows items by who had them alone; give a network with features")
    if not scorer.network.items.described:
        raise ConfigError("model: was trained without features and can know nothing of new items; train it with them")
    recipe = _recipe(model.record, scorer.network.items)
    others = read_items(source, model.items, item=recipe.item)
    if len(others):
        found = read_more(source, others, recipe)
        described = np.flatnonzero(~found.bare)
        others, found = Vocabulary(others.raw(described), "item"), found.take(described)
    if not len(others):
        raise DataError("the table has no new item with a feature that the model knows; there is nothing to add")
    items = Vocabulary(pl.concat([model.items.ids, others.ids]).sort(), "item")
    old, new = items.rows(model.items.ids), items.rows(others.ids)
    features = _merged(_features(scorer.network.items, recipe), found, old, new)
    histories = replace(model.histories, items=old.astype(np.int32)[model.histories.items])
    return Recommender(
        widened(scorer, old, features), users=model.users, items=items, histories=histories, record=model.record
    )


def _recipe(record: dict[str, Any], items: ItemVectors) -> Recipe:
    """How the table was read that a model was trained with."""
    try:
        recipe = msgspec.convert(record.get("item_table"), Recipe)
    except msgspec.ValidationError as error:
        raise BundleError(f"record.json: item_table: {error}") from None
    values = 0 if items.values is None else len(items.values)
    numbers = 0 if items.projection is None else len(items.projection)
    whole = np.isfinite(recipe.centre).all() and np.isfinite(recipe.scale) and recipe.scale > 0
    if (len(recipe.values), len(recipe.centre)) != (values, numbers) or not whole:
        raise BundleError("record.json: item_table does not fit the weights")
    return recipe


def _features(items: ItemVectors, recipe: Recipe) -> Features:
    """The features that a network holds."""
    rows, offsets = items.feature_rows, items.feature_offsets
    vectors = None if items.vectors is None else items.vectors.numpy()
    return Features(
        np.empty(0, np.int64) if rows is None else rows.numpy(),
        np.zeros(len(items.weight) + 1, np.int64) if offsets is None else offsets.numpy(),
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
