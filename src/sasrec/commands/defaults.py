"""Values of flags that were not typed: from a settings file, or from the record of a model."""

from collections.abc import Mapping
from pathlib import Path

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

_MODELS: Mapping[tuple[str, ...], str | int] = {("evaluate",): 0, ("compare",): 1, ("diagnose",): "--model"}
"""Where a command names the model that its log was read for."""


def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what was not typed, after a command line is parsed and before its values are checked.

    `train --config FILE` takes every setting from the file; `evaluate MODEL LOG` and `compare LOG MODEL`
    read the log as training did;
    `diagnose LOG` does either or both, and takes the settings of `--model` where no file has them.

    Raises:
        ConfigError: The settings file is refused.
        BundleError: The model cannot be read.
    """
    values: dict[str, object] = {}
    sources = []
    if commands in _MODELS and (source := _typed(arguments, _MODELS[commands])):
        from sasrec import bundle

        content = bundle.load(Path(source))
        values |= content.record.get("reading", {}) | (content.config if commands == ("diagnose",) else {})
        sources.append(source)
    if commands in (("train",), ("diagnose",)) and (source := _typed(arguments, "--config")):
        from sasrec.config import Config

        values |= Config.from_toml(source).to_dict()
        sources.append(source)
    Dict(values, source=", ".join(sources), use_commands_as_keys=False)(app, commands, arguments)


def _typed(arguments: ArgumentCollection, flag: str | int) -> str:
    tokens = arguments.get(flag).tokens
    return tokens[0].value if tokens else ""
