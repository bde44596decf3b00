"""The process that a sample is taken in: `python -m benchmarks.child MODULE:FUNCTION REQUEST`."""

import json
import sys
from dataclasses import asdict
from importlib import import_module

from benchmarks.measure import ANSWER, Sample
from benchmarks.run import Run


def answer(function: str, request: str) -> str:
    """Call a function of this package with the `Run` and the settings of a request, and give its answer as a line."""
    module, _, name = function.partition(":")
    asked = json.loads(request)
    found = getattr(import_module(f"benchmarks.{module}"), name)(Run(**asked["run"]), **asked["settings"])
    return ANSWER + json.dumps(asdict(found) if isinstance(found, Sample) else found)


if __name__ == "__main__":
    print(answer(*sys.argv[1:]))
