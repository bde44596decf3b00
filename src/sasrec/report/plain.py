"""Results as plain values in a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from sasrec.errors import check_kind
from sasrec.files import as_path, durable_file


@runtime_checkable
class Plain(Protocol):
    """What `evaluate`, `compare`, `diagnose` and `tune` give."""

    def to_dict(self) -> Mapping[str, object]:
        """Plain values, as JSON has them."""
        ...


def write_json(path: str | Path, result: Plain, *, replace: bool = False) -> None:
    """Write a result's `to_dict` as JSON, whole or not at all.

    Args:
        result: What `evaluate`, `compare`, `diagnose` or `tune` gave.
        replace: Take the place of a file that is there already.

    Raises:
        ConfigError: `result` has no plain values, as a model has none.
        OutputError: The path is taken, or cannot be written.
    """
    advice = "give what evaluate(), compare(), diagnose() or tune() gave"
    check_kind("result", result, Plain, called="result", advice=advice)
    with durable_file(as_path(path), replace=replace) as draft:
        draft.write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
