"""`sasrec evaluate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sasrec.commands.output import say
from sasrec.commands.reading import LogFlagsAsTrained, Reading
from sasrec.commands.saving import Saving, SavingFlags
from sasrec.data.splits import Part


def evaluate(
    model: Path,
    log: Path,
    /,
    *,
    reading: LogFlagsAsTrained = Reading(),
    k: Annotated[tuple[int, ...], Parameter(alias="-k", consume_multiple=True)] = (10,),
    exclude_seen: Annotated[bool | None, Parameter(negative="--no-exclude-seen")] = None,
    on: Part = "test",
    saving: SavingFlags = Saving(),
) -> None:
    """Measure how well a model predicts what was held out, beside models that only count.

    The whole catalogue is ranked for every held-out user; popularity and a last-item Markov chain are counted from
    the same training part. The log is read and split as in training unless flags say otherwise.

    Args:
        model: Folder that `sasrec train` wrote.
        log: The log that the model was trained on.
        k: Cut-off of the metrics, or several.
        exclude_seen: Leave out, or keep, what the user had before; else as the model recommends.
        on: The part to predict; "valid" is what chose the weights.
    """
    from sasrec.evaluation import protocol
    from sasrec.retrieval.recommender import load

    saving.check()
    made = load(model)
    data = reading.divided(reading.log(log))
    report = protocol.evaluate(made, data, k=k, exclude_seen=exclude_seen, on=on)
    say(str(report))
    saving.save(report, made, data)
