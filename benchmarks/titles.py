"""Vectors of items from their titles, without a model to download: `python -m benchmarks.titles --help`.

Words are weighed by TF-IDF and their space is cut down to its main directions (latent semantic analysis). Any other
vectors do for `--features FILE --vector vector` as well; these are what docs/items.md measures.

Source: Deerwester et al., JASIS 41(6), 1990.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

_LEAST = 2  # titles that a word must be in


def vectors(titles: Sequence[str], *, width: int) -> np.ndarray:
    """A vector for each title, float32 of shape (titles, width); all 0 where no word of it is in another.

    A title is a unit vector of (1 + log count) * log(titles / titles with the word), projected onto the first right
    singular vectors of all of them.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    words = [Counter(re.findall(r"\w+", title.lower())) for title in titles]
    frequency = Counter(word for one in words for word in one)
    columns = {word: place for place, word in enumerate(sorted(w for w, n in frequency.items() if n >= _LEAST))}
    cells = [(row, word, count) for row, one in enumerate(words) for word, count in one.items() if word in columns]
    rows = np.array([row for row, _, _ in cells])
    values = np.array([(1 + np.log(count)) * np.log(len(titles) / frequency[word]) for _, word, count in cells])
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=len(titles)))
    table = csr_matrix(
        (values / lengths[rows], (rows, [columns[word] for _, word, _ in cells])), (len(titles), len(columns))
    )
    start = np.random.default_rng(0).normal(size=min(table.shape))
    left, sizes, _ = svds(table, k=width, v0=start)
    return (left * sizes)[:, ::-1].astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read titles, write vectors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.titles", description=__doc__.splitlines()[0])
    parser.add_argument("items", type=Path, help="Parquet file with columns item_id and title")
    parser.add_argument("out", type=Path, help="Parquet file to write, with columns item_id and vector")
    parser.add_argument("--width", type=int, default=128, help="numbers of a vector")
    asked = parser.parse_args(arguments)
    items = pl.read_parquet(asked.items).drop_nulls("title")
    found = vectors(items["title"].to_list(), width=asked.width)
    items.select("item_id", vector=pl.Series(found)).write_parquet(asked.out)


if __name__ == "__main__":
    main()
