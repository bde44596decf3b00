"""`sasrec diagnose`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from sasrec.commands.output import Destination, say
from sasrec.commands.reading import LogFlags, Reading
from sasrec.commands.training import FeatureFlags, Origin
from sasrec.config import Config


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Which networks stand beside each other.

    Attributes:
        model: Folder that `sasrec train` wrote: use this network instead of training one. The log is then read and
            split as in its training, and the other networks have its settings, unless a file or flags say otherwise.
        retrain: Train a network on the last 2, 3, 5, 10, ... items as well; each takes as long as the first, or
            longer.
    """

    model: Path | None = None
    retrain: bool = False


def diagnose(
    log: Path,
    /,
    *,
    networks: Annotated[Networks, Parameter(name="*")] = Networks(),
    reading: LogFlags = Reading(),
    config: Annotated[Config, Parameter(name="*", group=Group("Network and training", sort_key=2))] = Config(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Features of items, as in training", sort_key=3))
    ] = FeatureFlags(),
    origin: Annotated[Origin, Parameter(name="*")] = Origin(),
    output: Annotated[Destination, Parameter(name="*")] = Destination(),
    quiet: bool = False,
) -> None:
    """Find out whether order matters, how much history matters and whether a network is worth it.

    Trains one network and ranks the test part several times: with histories as they are, shuffled, and cut to the last
    few items. Beside it stand the models that count, a network trained on the last item alone and one without
    blocks. Ends with the answers in words. Takes about three times as long as `sasrec train`, or twice with --model;
    says before it starts what it is going to do. Ctrl-C leaves without an answer.

    Args:
        log: File of interactions, as for `sasrec train`.
        quiet: Print no progress.
    """
    from sasrec.retrieval.loading import load
    from sasrec.studies import diagnose as study

    output.check(log, networks.model, categories.features, origin.file)
    made = None if networks.model is None else load(networks.model)
    data = reading.divided(reading.log(log))
    features = categories.read(data.log.items)
    found = study.diagnose(data, config, model=made, retrain=networks.retrain, features=features, progress=not quiet)
    say(str(found))
    output.write(found, data=data)
