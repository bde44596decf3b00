"""Every setting of a run, defined once for Python, TOML files and the command line."""

import difflib
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import msgspec
from msgspec import Meta

from sasrec.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a network is built and trained.

    Attributes:
        width: Size of item vectors and states (the paper's d).
        length: Most recent events of a history that the network looks at (the paper's n).
        blocks: Attention blocks; 0 scores the catalogue by the last item's vector alone.
        heads: Attention heads; must divide `width`.
        dropout: Share of values dropped in training; "auto" takes it from the log: 0.5 for short histories,
            0.2 for long ones.
        norm: Where a block normalises: "paper" as in the paper's code, "pre" as in its text.
        loss: "softmax" is exact cross-entropy over the whole catalogue; "bce" the paper's binary cross-entropy.
        negatives: Items drawn against each target; used by "bce" alone.
        batch: Histories in a training step.
        learning_rate: Step size of Adam(0.9, 0.98).
        weight_decay: L2 penalty that Adam adds to every gradient.
        epochs: Most epochs to train.
        patience: Stop after so many epochs without a better validation NDCG@10.
        seed: Fixes every random draw.
        threads: CPU threads; "auto" takes what the machine grants this process. One is the default: on a machine that
            others use too, several threads wait for each other and can take many times as long.
        precision: Number format of the loss's matrix products: "bfloat16" is about twice as fast on CPUs that multiply
            it at a higher rate than float32; "auto" takes it exactly there. The loss itself and all weights are always
            float32.
    """

    width: Annotated[int, Meta(ge=1, le=4096)] = 64
    length: Annotated[int, Meta(ge=1, le=10_000)] = 50
    blocks: Annotated[int, Meta(ge=0, le=64)] = 2
    heads: Annotated[int, Meta(ge=1, le=64)] = 1
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] | Literal["auto"] = "auto"
    norm: Literal["paper", "pre"] = "paper"
    loss: Literal["softmax", "bce"] = "softmax"
    negatives: Annotated[int, Meta(ge=1, le=10_000)] = 1
    batch: Annotated[int, Meta(ge=1, le=1_000_000)] = 128
    learning_rate: Annotated[float, Meta(gt=0.0, le=10.0)] = 1e-3
    weight_decay: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.0
    epochs: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    patience: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    threads: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value is of the wrong type, out of range, or does not fit another.
        """
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), hint))
        if self.width % self.heads:
            raise ConfigError(f"heads: must divide width, found heads={self.heads} and width={self.width}")

    @classmethod
    def from_dict(cls, settings: dict[str, Any], *, where: str = "config") -> Self:
        """From plain values, as decoded from TOML or JSON.

        Args:
            where: What the settings come from, for messages.

        Raises:
            ConfigError: A key is unknown (the nearest known one is suggested), or a value is refused.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
                raise ConfigError(f"{where}: unknown setting '{name}'; {hint}")
        try:
            return cls(**settings)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """From a TOML file of `name = value` lines.

        Raises:
            ConfigError: The file cannot be read or parsed, or a setting is refused.
        """
        try:
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: is not TOML: {error}") from None
        return cls.from_dict(settings, where=str(path))

    def to_dict(self) -> dict[str, int | float | str]:
        """Plain values, such that `Config.from_dict(config.to_dict()) == config`."""
        return asdict(self)

    def to_toml(self) -> str:
        """The text of a TOML file that `from_toml` reads back."""
        lines = (f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v!r}" for k, v in self.to_dict().items())
        return "\n".join(lines) + "\n"


def _checked(name: str, value: object, hint: Any) -> object:
    """The value as msgspec decodes it for the annotation; integers become floats where a float is meant."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        words = [repr(word) for part in _parts(hint) for word in getattr(part, "__args__", ()) if isinstance(word, str)]
        choice = f" (one of {', '.join(words)})" if words else ""
        raise ConfigError(f"{name}: {str(error).replace('`', '')}{choice}, found {value!r}") from None


def _parts(hint: Any) -> tuple[Any, ...]:
    return (hint, *getattr(hint, "__args__", ()))
