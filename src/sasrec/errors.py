"""Every error that sasrec raises on purpose, as one tree.

    SasrecError
    ├── ConfigError       a setting is unknown, of the wrong type or out of range
    ├── DataError         a log, frame or file of data cannot be used as it is
    ├── UnknownIdError    a user or item that the model has never seen
    ├── BundleError       a saved model or training is missing, damaged, foreign or too new
    ├── OutputError       the result cannot be written where it was asked for
    ├── TrainingError     training cannot go on (a loss that is no longer finite)
    ├── ScoreError        a model gave scores that are not numbers
    └── ServingError      a server cannot start or be reached, or refused a request

Each message says what is wrong, where, what was found and what to do. The
command line prints it as one line and leaves with the class's `exit_code`.
"""

from numbers import Integral, Real
from types import UnionType
from typing import TypeGuard

from sasrec.words import with_article


class SasrecError(Exception):
    """Base of all; catch this to catch everything that a caller can mend."""

    exit_code = 1


class ConfigError(SasrecError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class DataError(SasrecError, ValueError):
    """A log, frame or data file cannot be used as it is."""

    exit_code = 3


class UnknownIdError(SasrecError, LookupError):
    """A user or item was named that the model has never seen."""

    exit_code = 4


class BundleError(SasrecError, ValueError):
    """A saved model, or the state of a training, is missing, damaged, foreign or written by a newer sasrec."""

    exit_code = 5


class OutputError(SasrecError, OSError):
    """The result cannot be written where it was asked for."""

    exit_code = 6


class TrainingError(SasrecError, RuntimeError):
    """Training cannot go on.

    Attributes:
        interrupted: Somebody ended it; nothing is wrong with its settings.
    """

    exit_code = 7

    def __init__(self, message: str, *, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted


class ScoreError(SasrecError, ArithmeticError):
    """A model gave scores that are not numbers, so no order of items can be trusted."""

    exit_code = 8


class ServingError(SasrecError, RuntimeError):
    """A server cannot start, cannot be reached, cannot store or read events, or refused a request.

    Attributes:
        status: The HTTP status that goes with it; None where none does.
        told: What is told over HTTP in the place of the message, which may name files and hosts; None is the usual.
    """

    exit_code = 9

    def __init__(self, message: str, *, status: int | None = None, told: str | None = None) -> None:
        super().__init__(message)
        self.status, self.told = status, told


def check_kind(name: str, value: object, kind: type | UnionType, *, advice: str, called: str = "") -> None:
    """Refuse an argument of another type, which users know as `called` or by its name, with what to do; ConfigError."""
    if not isinstance(value, kind):
        found = "None" if value is None else with_article(type(value).__name__)
        wanted = with_article(called or getattr(kind, "__name__", str(kind)))
        raise ConfigError(f"{name}: expected {wanted}, found {found}; {advice}")


def check_flag(name: str, value: object) -> None:
    """Refuse an argument that is neither True nor False nor None, as every text is true to Python; ConfigError."""
    if not isinstance(value, bool | None):
        raise ConfigError(f"{name}: expected True, False or None, found {value!r}")


def is_whole(value: object, *, least: int) -> TypeGuard[int]:
    """Whether an argument is an integer, of Python or NumPy, of at least so much; bool is an int to Python alone."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def is_number(value: object) -> TypeGuard[float]:
    """Whether an argument is a number, of Python or NumPy, and not nan; bool is one to Python alone."""
    return not isinstance(value, bool) and isinstance(value, Real) and value == value  # noqa: PLR0124  # nan


def check_whole(name: str, value: object, *, least: int) -> int:
    """The argument as an int; ConfigError where it is no integer, or less than it may be."""
    if not is_whole(value, least=least):
        raise ConfigError(f"{name}: expected an integer >= {least}, found {value!r}")
    return int(value)


def check_share(name: str, share: object, *, below: float = 1.0) -> None:
    """Refuse what is no number above 0 and below so much; ConfigError."""
    if not is_number(share) or not 0.0 < share < below:
        raise ConfigError(f"{name}: expected a number > 0 and < {below:g}, found {share!r}")
