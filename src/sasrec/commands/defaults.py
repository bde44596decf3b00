"""Values of flags that were not typed: from a preset, a settings file, or the record of a model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from sasrec.commands.idle import check_idle
from sasrec.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from sasrec.config import Config
    from sasrec.retrieval.loading import About

_MODELS: Mapping[tuple[str, ...], str | int] = {
    ("evaluate",): 0,
    ("refit",): 0,
    ("retrain",): 0,
    ("compare",): 1,
    ("blend",): 1,
    ("diagnose",): "--model",
}
"""Where a command names the model that its log was read for."""


def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what was not typed, after a command line is parsed and before its values are checked.

    `train --preset NAME --config FILE` takes settings from the file, and the others from the preset; `evaluate MODEL
    LOG`, `refit MODEL LOG`, `retrain MODEL LOG`, `compare LOG MODEL` and `blend LOG MODEL` read the log as training
    did; `diagnose LOG` does all of this, and takes the settings of `--model` where neither file nor preset has them.

    Raises:
        ConfigError: The settings file is refused, there is no such preset, or what was typed would do nothing.
        BundleError: The model cannot be read, or would set other flags than these.
    """
    values: dict[str, object] = {}
    sources = []
    if commands in _MODELS and (source := _typed(arguments, _MODELS[commands])):
        from sasrec.retrieval.loading import about

        content = about(Path(source))
        # Both are checked to be nothing else, so that no model sets any other flag of the command it is given to.
        values |= content.record.get("reading", {})
        values |= _settings(content, source) if commands == ("diagnose",) else {}
        sources.append(source)
    if commands in (("train",), ("diagnose",)):
        name, source = _typed(arguments, "--preset"), _typed(arguments, "--config")
        if name or source:
            from sasrec.config import Config
            from sasrec.presets import preset

            config = preset(name) if name else Config()
            values |= (settings_of(source, base=config) if source else config).to_dict()
            sources.append(source or name)
    Dict(values, source=", ".join(sources), use_commands_as_keys=False)(app, commands, arguments)
    check_idle(commands, arguments)


def settings_of(path: str | Path, *, base: "Config | None" = None) -> "Config":
    """The settings in a file that a flag names; ConfigError as `Config.from_toml`, or where it is one to search."""
    from sasrec.config import Config, read_toml

    content = read_toml(path)
    if "space" in content:
        raise ConfigError(f"{path}: has a [space], which sasrec tune searches; give the settings that its --out writes")
    return Config.from_dict(content, where=str(path), base=base)


def _settings(content: "About", source: str) -> Mapping[str, object]:
    """The settings of a network; none of another model, which the command itself refuses."""
    from sasrec.config import Config
    from sasrec.retrieval.neural import Neural
    from sasrec.training.machine import device_here

    if content.kind != Neural.kind:
        return {}
    try:
        made = Config.from_dict(content.config, where="config.json")
        return replace(made, device=device_here(made.device)).to_dict()
    except ConfigError as error:
        raise BundleError(f"{source}: {error}") from None


def _typed(arguments: ArgumentCollection, flag: str | int) -> str:
    tokens = arguments.get(flag).tokens
    return tokens[0].value if tokens else ""
