"""Values of flags that were not typed: from a settings file, or from the record of a model."""

from collections.abc import Mapping
from pathlib import Path

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict


def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what was not typed, after a command line is parsed and before its values are checked.

    `train --config FILE` takes every setting from the file; `evaluate MODEL LOG` reads the log as training did;
    `diagnose LOG --model MODEL` reads it so too, and trains with the model's settings.

    Raises:
        ConfigError: The settings file is refused.
        BundleError: The model cannot be read.
    """
    values: Mapping[str, object] = {}
    source = ""
    if commands == ("train",) and (source := _typed(arguments, "--config")):
        from sasrec.config import Config

        values = Config.from_toml(source).to_dict()
    elif commands == ("evaluate",) and (source := _typed(arguments, 0)):
        from sasrec import bundle

        values = bundle.load(Path(source)).record.get("reading", {})
    elif commands == ("diagnose",) and (source := _typed(arguments, "--model")):
        from sasrec import bundle

        content = bundle.load(Path(source))
        values = content.record.get("reading", {}) | content.config
    Dict(dict(values), source=source, use_commands_as_keys=False)(app, commands, arguments)


def _typed(arguments: ArgumentCollection, flag: str | int) -> str:
    tokens = arguments.get(flag).tokens
    return tokens[0].value if tokens else ""
