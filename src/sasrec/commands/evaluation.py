"""`sasrec evaluate`, and the flags that say how models are measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from sasrec.commands.output import Destination, say
from sasrec.commands.reading import LogFlagsAsTrained, ModelFolder, Reading
from sasrec.data.splits import Part
from sasrec.data.titles import read_titles
from sasrec.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How models are measured.

    Attributes:
        k: Cut-off of the metrics, or several.
        exclude_seen: Leave out, or keep, what the user had before; else as the model recommends.
        on: The part to predict; "valid" is what chose the weights.
        candidates: Rank each target among so many drawn items that its user never had, not the whole catalogue; or
            as the paper's code did in 2018. Such figures are not comparable with those of the whole catalogue.
        seed: Fixes the drawn items.
    """

    k: Annotated[tuple[int, ...], Parameter(alias="-k", consume_multiple=True)] = (10,)
    exclude_seen: Annotated[bool | None, Parameter(negative="--no-exclude-seen")] = None
    on: Part = "test"
    candidates: int | Literal["sasrec2018"] | None = None
    seed: int = 0


MeasureFlags = Annotated[Measure, Parameter(name="*", group=Group("What is measured", sort_key=0))]


def evaluate(
    model: ModelFolder,
    log: Path,
    /,
    *,
    reading: LogFlagsAsTrained = Reading(),
    measure: MeasureFlags = Measure(),
    output: Annotated[Destination, Parameter(name="*")] = Destination(),
    titles: Path | None = None,
    shown_user: str | None = None,
) -> None:
    """Measure how well a model predicts what was held out, beside models that only count.

    The whole catalogue is ranked for every held-out user; sequence rules, a last-item Markov chain and popularity
    are counted from the same training part. The log is read and split as in training unless flags say otherwise.

    Args:
        log: The log that the model was trained on.
        titles: File of items with a column of titles, which then stand beside ids in the page of --html.
        shown_user: A user who comes first among those that the page shows.
    """
    from sasrec.evaluation import protocol
    from sasrec.retrieval.loading import load

    output.check(model, log, titles)
    if output.html is None and (titles is not None or shown_user is not None):
        raise ConfigError("--titles and --shown-user are for the page; pass --html FILE, or leave them out")
    made = load(model)
    data = reading.divided(reading.log(log))
    user = None if shown_user is None else data.log.users.parse(shown_user)
    # What the page cannot be made of is refused before the work, not after it.
    if user is not None:
        data.log.users.known_rows([user])
    if titles is not None:
        read_titles(titles, data.log.items)
    report = protocol.evaluate(
        made,
        data,
        k=measure.k,
        exclude_seen=measure.exclude_seen,
        on=measure.on,
        candidates=measure.candidates,
        seed=measure.seed,
    )
    say(str(report))
    output.write(report, model=made, data=data, user=user, titles=titles)
