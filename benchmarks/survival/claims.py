"""A claim of survival, its tries and what came of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.survival.ground import Ground

SHOWN = 5  # failures that are told of in words


class Try(NamedTuple):
    """What became of one try.

    Attributes:
        failed: What went wrong; empty where the try was survived.
        counted: What was counted meanwhile, by name; added up over all tries.
    """

    failed: str = ""
    counted: Mapping[str, int] = {}


@dataclass(frozen=True)
class Claim:
    """Something that is survived every time.

    Attributes:
        name: What `--only` calls it.
        title: What happens, and what is left whole.
        tries: How often it is tried.
        few: The same in the tests that run at every change; 0 leaves it to the others.
        tried: Tries it so often, on a ground of models.
    """

    name: str
    title: str
    tries: int
    few: int
    tried: Callable[[Ground, int], Iterator[Try]]

    def judge(self, ground: Ground, tries: int, *, note: Callable[[int], object] | None = None) -> "Verdict":
        """Try it so often, whatever comes of each.

        Args:
            note: Called after each try with the number of tries so far.
        """
        begun, failures, counted, survived = time.monotonic(), [], Counter(), 0
        try:
            for number, one in enumerate(self.tried(ground, tries), start=1):
                counted.update(one.counted)
                survived += not one.failed
                failures += [f"try {number}: {one.failed}"] if one.failed else []
                if note is not None:
                    note(number)
        except Exception as error:  # noqa: BLE001  # the tries that it keeps from being made were not survived
            failures.append(f"ended by {type(error).__name__}: {error}")
        return Verdict(self, tries, survived, tuple(failures), dict(counted), time.monotonic() - begun)


@dataclass(frozen=True)
class Verdict:
    """How often a claim held.

    Attributes:
        tries, survived: Of each other.
        failures: What went wrong, in words.
        counted: What was counted over all tries.
        seconds: By the clock.
    """

    claim: Claim
    tries: int
    survived: int
    failures: tuple[str, ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every try was survived."""
        return self.survived == self.tries and not self.failures

    def plain(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "claim": self.claim.name,
            "what": self.claim.title,
            "tries": self.tries,
            "survived": self.survived,
            "failures": list(self.failures),
            "counted": dict(self.counted),
            "seconds": round(self.seconds, 1),
        }


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a claim, below it what failed."""
    lines = [("survived", "s", "claim", "what", "counted meanwhile")]
    for one in verdicts:
        counted = ", ".join(f"{count:,} {name}" for name, count in one.counted.items())
        held = f"{one.survived:,} of {one.tries:,}" + ("" if one.holds else " FAIL")
        lines.append((held, f"{one.seconds:.0f}", one.claim.name, one.claim.title, counted))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    for one in verdicts:
        shown += [f"{one.claim.name}: {failure}" for failure in one.failures[:SHOWN]]
    return "\n".join(shown)
