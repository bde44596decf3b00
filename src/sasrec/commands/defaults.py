"""Values of flags that were not typed: from a preset, a settings file, or the record of a model."""

from collections.abc import Mapping
from pathlib import Path

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

_MODELS: Mapping[tuple[str, ...], int] = {("evaluate",): 0, ("compare",): 1}
"""Where a command names the model that its log was read for."""


def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what was not typed, after a command line is parsed and before its values are checked.

    `train --preset NAME --config FILE` takes settings from the file, and the others from the preset; `evaluate MODEL
    LOG` and `compare LOG MODEL` read the log as training did.

    Raises:
        ConfigError: The settings file is refused, or there is no such preset.
        BundleError: The model cannot be read.
    """
    values: Mapping[str, object] = {}
    source = ""
    if commands == ("train",):
        from sasrec.config import Config
        from sasrec.presets import preset

        name, source = _typed(arguments, "--preset"), _typed(arguments, "--config")
        config = preset(name) if name else Config()
        values = (Config.from_toml(source, base=config) if source else config).to_dict() if name or source else {}
    elif commands in _MODELS and (source := _typed(arguments, _MODELS[commands])):
        from sasrec import bundle

        values = bundle.load(Path(source)).record.get("reading", {})
    Dict(dict(values), source=source, use_commands_as_keys=False)(app, commands, arguments)


def _typed(arguments: ArgumentCollection, flag: str | int) -> str:
    tokens = arguments.get(flag).tokens
    return tokens[0].value if tokens else ""
