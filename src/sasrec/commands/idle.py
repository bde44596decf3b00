"""Flags that were typed and would do nothing, or contradict each other."""

from cyclopts import ArgumentCollection

from sasrec.errors import ConfigError

_DRAWN = (("evaluate",), ("compare",))
"""Commands whose seed draws candidates and nothing else."""


def check_idle(commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse flags that were typed and do nothing beside the values of the others, wherever these come from.

    What a preset, a file or a model's record says is not looked at: nobody asked for it here.

    Raises:
        ConfigError: There is such a flag.
    """
    folds = _value(arguments, "--folds")
    in_time = _value(arguments, "--split") == "time"
    last_item = _value(arguments, "--named").endswith("_LOU")
    candidates = commands not in _DRAWN or _value(arguments, "--candidates")
    for flag, idle, advice in (
        ("--share", not in_time and not folds, "is of the split by time; add --split time, or leave it out"),
        ("--split", folds and not in_time, "is of one split, and --folds are by time; leave it out"),
        ("--new-items", folds, "is of one split, and --folds are several; leave it out"),
        ("--new-seed", not _value(arguments, "--new-items"), "draws new items; add --new-items SHARE, or leave it out"),
        ("--seed", not candidates, "draws candidates; add --candidates N, or leave it out"),
        ("--split", in_time and last_item, "contradicts --named, where LOU is each user's last item; leave one out"),
        ("--named", in_time and last_item, "contradicts --split time, as LOU is each user's last item; leave one out"),
    ):
        if idle and _typed(arguments, flag):
            raise ConfigError(f"{flag} {advice}")
    from sasrec.config import READ_BESIDE, Config  # which help alone need not load

    for name, (other, values) in READ_BESIDE.items():
        flag, beside = (f"--{one.replace('_', '-')}" for one in (name, other))
        found = _value(arguments, beside) or getattr(Config, other)
        if found not in values and _typed(arguments, flag):
            choice = " or ".join(f"{beside} {one}" for one in values)
            raise ConfigError(
                f"{flag} is read beside {choice} alone, found {beside} {found}; set it so, or leave it out"
            )


def _value(arguments: ArgumentCollection, flag: str) -> str:
    argument = arguments.get(flag, None)
    return argument.tokens[0].value if argument and argument.tokens else ""


def _typed(arguments: ArgumentCollection, flag: str) -> bool:
    argument = arguments.get(flag, None)
    return argument is not None and any(token.source == "cli" for token in argument.tokens)
