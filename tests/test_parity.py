"""What users of other systems bring along is taken as it is, and the page that says so names real tests."""

import datetime
import re
from pathlib import Path

import pandas as pd
import polars as pl

import sasrec

ROOT = Path(__file__).parents[1]


def test_a_frame_with_the_column_names_of_rectools_is_read_as_it_is():
    days = [datetime.datetime(2021, 5, day) for day in (3, 1, 2, 1)]
    frame = pd.DataFrame(
        {"user_id": [7, 7, 7, 8], "item_id": [1, 2, 3, 1], "weight": [3.0, 1.0, 1.0, 2.0], "datetime": days}
    )

    log = sasrec.read_log(frame)

    assert log.items.raw(log.histories[0]).to_list() == [2, 3, 1]
    assert log.histories.weights.tolist() == [1.0, 1.0, 3.0, 2.0]
    assert log.source.columns.by_role() == {
        "user": "user_id",
        "item": "item_id",
        "time": "datetime",
        "weight": "weight",
    }


def test_every_feature_names_a_test_that_exists():
    page = (ROOT / "docs/parity.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ") for line in page.splitlines() if line.startswith("| ") and not line.startswith("| feature")
    ]

    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    missing = [
        name for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")
    ]
    bare = [row[0] for row in rows if "::" not in row[-1]]

    assert not missing
    assert bare == []
    assert len(named) == len(rows)
    assert pl.Series(rows).len() > 40
