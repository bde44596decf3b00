"""Cases take turns: every case once, then every case again, so that what happens to the machine happens to all."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import ROOT, Case, Sample, call
from benchmarks.report import Row
from benchmarks.run import Run


def measure(
    cases: Sequence[Case],
    run: Run,
    *,
    repeats: int,
    pythons: Mapping[str, str] | None = None,
    errors: Path | None = None,
    patience: float | None = None,
) -> list[Row]:
    """A row for each case; one that failed has the reason in place of samples.

    Args:
        pythons: The interpreter that takes the samples of a case, by its name; our own where there is none.
        errors: Folder for what the processes of each case say on standard error; None lets it through.
    """
    for name in dict.fromkeys(case.inputs for case in cases if case.inputs):
        call(f"inputs:{name}", run, {})
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    faults: dict[str, str] = {}
    for number in range(repeats):
        for case in cases:
            if case.name in faults:
                continue
            print(f"{number + 1} of {repeats}: {case.name}", file=sys.stderr)
            try:
                answer = call(
                    case.function,
                    run,
                    case.settings,
                    python=(pythons or {}).get(case.name, sys.executable),
                    errors=errors / f"{case.name}.txt" if errors else None,
                    patience=patience,
                )
                samples[case.name].append(Sample(**answer))
            except ChildProcessError as error:
                faults[case.name] = f"could not be measured: {error}"
    return [
        Row(case, () if case.name in faults else tuple(samples[case.name]), faults.get(case.name, "")) for case in cases
    ]


def commit(folder: Path = ROOT) -> str:
    """The commit of a checkout, marked where files differ from it; "unknown" outside one."""
    asked = ["git", "describe", "--always", "--dirty=-changed", "--exclude=*"]
    try:
        return subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def words(load: Sequence[float]) -> str:
    """Load averages as people read them."""
    return " ".join(f"{one:.1f}" for one in load)
