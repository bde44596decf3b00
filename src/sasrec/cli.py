"""The command line: which commands there are, and how each way of failing leaves it.

Exit codes: 0 done; 1 a fault of ours, with its traceback; 2 a wrong use; 3 to 9 the errors of `sasrec.errors`; 130
Ctrl-C, or SIGTERM where a command trains.
"""

import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache, partial
from io import TextIOWrapper

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from sasrec import __version__
from sasrec.commands.defaults import fill
from sasrec.commands.mistyped import in_words
from sasrec.commands.streams import lasting, nowhere, silence
from sasrec.commands.terminal import harmless
from sasrec.errors import ConfigError, OutputError, SasrecError
from sasrec.training.interrupts import terminable

COMMANDS = {
    "demo": ("demonstration", "Show it all on a generated log: train, compare, save, recommend."),
    "train": ("training", "Train a network on a log and save it."),
    "count": ("counting", "Count a model that needs no training, and save it."),
    "blend": ("counting", "Make one model of several, and save it."),
    "refit": (
        "counting",
        "Train or count a model once more on training and validation part together, for release.",
    ),
    "evaluate": ("evaluation", "Measure how well a model predicts what was held out, beside models that only count."),
    "diagnose": (
        "diagnosis",
        "Find out whether order matters, how much history matters and whether a network is worth it.",
    ),
    "tune": ("tuning", "Search settings by validation NDCG@10, in a study that can be stopped and gone on with."),
    "compare": ("comparison", "Set several models beside each other on one split, in one table."),
    "add-items": ("additions", "Let a trained model rank items that nobody has had yet."),
    "recommend": ("recommendation", "Recommend items to known users, after a history, or to everybody."),
    "similar": ("recommendation", "List the items most like one item."),
    "explain": ("explanation", "Say which events of a history carry an item."),
    "info": ("information", "Say what a model or a log is."),
    "export": ("exporting", "Write a network in another format, to be served without torch."),
    "serve": ("serving", "Answer over HTTP with a model, and keep the events that come in."),
    "activate": ("serving", "Let a running server answer with another model."),
    "rollback": ("serving", "Let a running server go back to the version before."),
    "retrain": ("retraining", "Train the model that is served once more, with the events that came in since."),
}
"""For every command its module in `sasrec.commands`, and its summary: the first line of its docstring."""

TRAINING = frozenset({"demo", "train", "count", "blend", "refit", "diagnose", "tune", "compare", "retrain"})
"""Commands that SIGTERM ends as Ctrl-C does, from the moment they are called."""

_RESULTS = ("--out", "--study", "--json", "--html")
"""Flags that name what a command is to write; `sasrec demo` writes without one."""

# What is quoted comes first, and so is passed over; an apostrophe stands behind a letter.
_ADVICE = re.compile(
    r"""(?<![\w=])(?P<quote>['"])(?:\\.|(?!(?P=quote)).)*(?P=quote)"""
    r"""|\b(?:filters=Filters\()?\b(?P<name>[a-z_]+)="""
    r"""(?:(?P<mark>['"])(?P<value>[^'"]*)(?P=mark)\)?|True\b|(?= |$))"""
)


def command_line(wanted: str | None = None) -> App:
    """The program with all its commands, none of which is imported before it is called.

    Args:
        wanted: The command to be called. It goes without its summary here, which would hide its own docstring.
    """
    app = App(
        name="sasrec",
        help="Self-attentive sequential recommendation: from an interaction log to recommendations.",
        help_epilogue="sasrec COMMAND --help says all about a command; sasrec demo is the place to start.",
        # What the program says of itself has no Markdown, whose reader is a fifth of what it loads.
        help_format="markdown" if wanted in COMMANDS else "plaintext",
        version=f"sasrec {__version__}",
        default_parameter=Parameter(negative="", show_default=_shown),
        config=fill,
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_none",
    )
    for place, (name, (module, summary)) in enumerate(COMMANDS.items()):
        path = f"sasrec.commands.{module}:{name.replace('-', '_')}"
        app.command(path, name=name, help=None if name == wanted else summary, help_epilogue="", sort_key=place)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what a user can mend ends in one line on standard error.

    Args:
        arguments: What was typed after `sasrec`; None takes it from the process.

    Returns:
        The exit code.
    """
    typed = sys.argv[1:] if arguments is None else list(arguments)
    command = typed[0] if typed else ""
    # Read when torch is loaded: threads that wait should soon sleep. Spinning for long, as is usual, they keep each
    # other and the neighbours from the work that they wait for; see docs/performance.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if sys.stderr is None:
        # The next file that is opened would be taken for it.
        nowhere(2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # open as long as the process is
    if sys.stdout is None:
        return _refuse("standard output is closed; open it, if only as >/dev/null", OutputError.exit_code)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show a title is no reason to fail.
            stream.reconfigure(errors="replace")
    # Nobody need read what is said while a result is made for a file.
    with lasting(output=_writes(command, typed)) as printed:
        code = _run(command, typed)
        if printed is not None and printed.error is not None and not isinstance(printed.error, BrokenPipeError):
            _warn(f"standard output: cannot be written: {printed.error.strerror}; what was printed is lost")
    return code


def _run(command: str, typed: list[str]) -> int:
    """Args: command, typed: The first word, and all of them. Returns the exit code."""
    try:
        with warnings.catch_warnings(), terminable() if command in TRAINING else nullcontext():
            warnings.showwarning = partial(_show_warning, command)
            command_line(command)(typed)
            sys.stdout.flush()
    except UnusedCliTokensError as error:
        surplus = shlex.join(error.unused_tokens or ())
        return _refuse(f"nothing takes {surplus}; see sasrec {command} --help", ConfigError.exit_code)
    except CycloptsError as error:
        return _refuse(in_words(error), ConfigError.exit_code)
    except SasrecError as error:
        return _refuse(str(error), error.exit_code, command)
    except KeyboardInterrupt:
        return _refuse("interrupted", 130)
    except OSError as error:
        if not _of_output(error):
            raise
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # else nobody reads on, as in `sasrec recommend ... | head`
            return _refuse(f"standard output: cannot be written: {error.strerror}; make room", OutputError.exit_code)
    return 0


def _writes(command: str, typed: list[str]) -> bool:
    """Whether a command leaves more behind than what it prints."""
    return command == "demo" or any(word.partition("=")[0] in _RESULTS for word in typed)


def _of_output(error: OSError) -> bool:
    """Whether the system refused what was printed; the error itself says which file only when it is opened."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return error.filename is None and frame.f_globals["__name__"] in (
        __name__,
        "sasrec.commands.output",
        "rich.console",
    )


def _shown(default: object) -> object:
    """A default as help shows it; that a switch is off and a list empty goes without saying."""
    if default is None or default is False or default == ():
        return None
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _refuse(message: str, code: int, command: str = "") -> int:
    print(f"error: {_in_flags(message, command)}", file=sys.stderr)
    return code


def _show_warning(command: str, message: Warning | str, *_where: object) -> None:
    _warn(_in_flags(str(message), command))


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _in_flags(message: str, command: str) -> str:
    """One harmless line, with arguments of Python functions that it advises (`user="id"`) as flags (`--user id`).

    Only what is a flag of the command becomes one, and nothing inside of quotation marks, as ids may look like advice.
    """

    def flag(found: re.Match[str]) -> str:
        name = {"how": "split"}.get(found["name"], found["name"] or "")
        written = f"--{name.replace('_', '-')}"
        if written not in _flags(command):
            return found[0]
        return written if found["value"] is None else f"{written} {shlex.quote(found['value'])}"

    return _ADVICE.sub(flag, harmless(" ".join(message.split())))


@cache
def _flags(command: str) -> frozenset[str]:
    if command not in COMMANDS:
        return frozenset()
    arguments = command_line(command)[command].assemble_argument_collection()
    return frozenset(name for one in arguments for name in one.names)
