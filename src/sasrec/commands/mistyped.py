"""What is wrong with a command line, in words that say what to type."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from cyclopts import CycloptsError, MissingArgumentError, UnknownOptionError

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("lr", "initial-lr", "init-lr"), "learning-rate")
    | dict.fromkeys(("embedding-dim", "hidden-units", "hidden-dim", "hidden-size", "embed-dim", "n-factors"), "width")
    | dict.fromkeys(("maxlen", "max-len", "seq-max-len", "max-seq-len", "seq-len", "session-max-len"), "length")
    | dict.fromkeys(("num-blocks", "n-blocks", "num-layers", "n-layers"), "blocks")
    | dict.fromkeys(("num-heads", "n-heads", "attention-num-heads"), "heads")
    | dict.fromkeys(("dropout-rate", "dropout-p", "dnn-dropout"), "dropout")
    | dict.fromkeys(("l2-emb", "embed-reg"), "item-l2")
    | {"l2-reg": "weight-decay", "batch-size": "batch", "num-epochs": "epochs", "n-negatives": "negatives"}
    | {"gbce-t": "calibration", "n-jobs": "threads", "num-threads": "threads", "random-state": "seed"}
)
"""What settings are called in other systems, with hyphens; `docs/migration.md` has who calls them so."""


def in_words(error: CycloptsError) -> str:
    """The sentence for a command line that could not be understood."""
    said = str(error)
    if isinstance(error, UnknownOptionError):
        typed = (error.token.keyword or error.token.value).partition("=")[0]
        here = "--" + ELSEWHERE.get(typed.lstrip("-").replace("_", "-").lower(), "")
        if here in {name for one in error.argument_collection for name in one.names}:
            return f"Unknown option: {typed}. Here it is called {here}."
        if not typed.startswith("--"):
            return f"{said} If it is a value, write it as --OPTION={typed}, or after --."
    if isinstance(error, MissingArgumentError) and error.argument is not None and "Did you mean" not in said:
        name = error.argument.name
        if error.keyword is None and not error.argument.tokens and error.app is not None:
            told = error.app.assemble_argument_collection(parse_docstring=True)
            help_ = next((one.parameter.help for one in told if one.name == name), None) or "it has to be given"
            what = re.split(r"[;:.,](?:\s|$)| \(", help_, maxsplit=1)[0]
            what = what[:1].lower() + what[1:] if what[1:2].islower() else what
            return f"{name} is missing: {what}; see sasrec {' '.join(error.command_chain or ())} --help"
        if error.keyword is not None:
            return f"{said} If it begins with -, write it as {error.keyword}=VALUE."
    return said
