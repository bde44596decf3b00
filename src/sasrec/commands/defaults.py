"""Values of flags that were not typed: from a settings file, or from the record of a model."""

from collections.abc import Mapping
from pathlib import Path

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

_MODELS: Mapping[tuple[str, ...], int] = {("evaluate",): 0, ("compare",): 1}
"""Where a command names the model that its log was read for."""


def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what was not typed, after a command line is parsed and before its values are checked.

    `train --config FILE` takes every setting from the file; `evaluate MODEL LOG` and `compare LOG MODEL` read the
    log as training did.

    Raises:
        ConfigError: The settings file is refused.
        BundleError: The model cannot be read.
    """
    values: Mapping[str, object] = {}
    source = ""
    if commands == ("train",) and (source := _typed(arguments, "--config")):
        from sasrec.config import Config

        values = Config.from_toml(source).to_dict()
    elif commands in _MODELS and (source := _typed(arguments, _MODELS[commands])):
        from sasrec import bundle

        values = bundle.load(Path(source)).record.get("reading", {})
    Dict(dict(values), source=source, use_commands_as_keys=False)(app, commands, arguments)


def _typed(arguments: ArgumentCollection, flag: str | int) -> str:
    tokens = arguments.get(flag).tokens
    return tokens[0].value if tokens else ""
