"""Self-attentive sequential recommendation: from an interaction log to recommendations.

    log = sasrec.read_log("ratings.csv", user="user_id", item="movie", time="timestamp")
    data = sasrec.split(log, how="last-item")
    model = sasrec.train(data, sasrec.Config(seed=7))
    print(sasrec.evaluate(model, data, k=10))
    print(model.recommend(["ada", "grace"], k=5))

The public names below are imported on first use, so that `import sasrec` itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "Checkpoint",
    "Comparison",
    "Config",
    "ConfigError",
    "DataError",
    "Diagnosis",
    "Explanation",
    "Features",
    "Filters",
    "Log",
    "OutputError",
    "Place",
    "Range",
    "Recommender",
    "Report",
    "SasrecError",
    "ScoreError",
    "ServingError",
    "Split",
    "TrainingError",
    "UnknownIdError",
    "add_items",
    "blend",
    "compare",
    "count",
    "diagnose",
    "evaluate",
    "export_onnx",
    "folds",
    "hold_out_items",
    "indexed",
    "load",
    "preset",
    "read_features",
    "read_log",
    "refit",
    "retrain",
    "serve",
    "split",
    "train",
    "tune",
    "write_json",
    "write_page",
]

if TYPE_CHECKING:
    from sasrec.config import Config
    from sasrec.data.feature_reading import read_features
    from sasrec.data.features import Features
    from sasrec.data.filters import Filters
    from sasrec.data.folds import folds
    from sasrec.data.log import Log
    from sasrec.data.new_items import hold_out_items
    from sasrec.data.reading import read_log
    from sasrec.data.splits import Split, split
    from sasrec.errors import (
        BundleError,
        ConfigError,
        DataError,
        OutputError,
        SasrecError,
        ScoreError,
        ServingError,
        TrainingError,
        UnknownIdError,
    )
    from sasrec.evaluation.protocol import Report, evaluate
    from sasrec.export.exporting import export_onnx
    from sasrec.presets import preset
    from sasrec.report.page import write_page
    from sasrec.report.plain import write_json
    from sasrec.retrieval.additions import add_items
    from sasrec.retrieval.explaining import Explanation
    from sasrec.retrieval.indexing import indexed
    from sasrec.retrieval.loading import load
    from sasrec.retrieval.recommender import Recommender
    from sasrec.serving.server import Place, serve
    from sasrec.studies.compare import Comparison, compare
    from sasrec.studies.diagnose import Diagnosis, diagnose
    from sasrec.studies.tune import Range, tune
    from sasrec.training.blending import blend
    from sasrec.training.checkpoint import Checkpoint
    from sasrec.training.counting import count
    from sasrec.training.refitting import refit
    from sasrec.training.retraining import retrain
    from sasrec.training.training import train
else:
    # Hidden from type checkers: they take a module with __getattr__ to have every name that anybody mistypes.
    _HOMES = {
        "Config": "config",
        "Features": "data.features",
        "read_features": "data.feature_reading",
        "Filters": "data.filters",
        "Log": "data.log",
        "read_log": "data.reading",
        "Split": "data.splits",
        "split": "data.splits",
        "folds": "data.folds",
        "hold_out_items": "data.new_items",
        "Report": "evaluation.protocol",
        "evaluate": "evaluation.protocol",
        "export_onnx": "export.exporting",
        "preset": "presets",
        "add_items": "retrieval.additions",
        "Explanation": "retrieval.explaining",
        "indexed": "retrieval.indexing",
        "Recommender": "retrieval.recommender",
        "load": "retrieval.loading",
        "Checkpoint": "training.checkpoint",
        "train": "training.training",
        "count": "training.counting",
        "blend": "training.blending",
        "refit": "training.refitting",
        "retrain": "training.retraining",
        "Place": "serving.server",
        "serve": "serving.server",
        "Diagnosis": "studies.diagnose",
        "diagnose": "studies.diagnose",
        "Range": "studies.tune",
        "tune": "studies.tune",
        "Comparison": "studies.compare",
        "compare": "studies.compare",
        "write_json": "report.plain",
        "write_page": "report.page",
    }

    def __getattr__(name: str) -> object:
        """A public name, imported from its home on first use; the errors are at home in `sasrec.errors`."""
        if name not in __all__:
            raise AttributeError(f"module 'sasrec' has no attribute {name!r}")
        value = getattr(import_module(f"sasrec.{_HOMES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*__all__, "__version__"])
