"""`sasrec train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from sasrec.commands.information import chosen, outcome
from sasrec.commands.output import in_bytes, say, suggest, wrapped
from sasrec.commands.reading import LogFlags, Reading
from sasrec.config import Config
from sasrec.files import check_free


def train(
    log: Path,
    /,
    *,
    out: Path,
    reading: LogFlags = Reading(),
    config: Annotated[Config, Parameter(name="*", group=Group("Network and training", sort_key=2))] = Config(),
    file: Annotated[Path | None, Parameter(name="--config")] = None,  # noqa: ARG001  # `commands.defaults` reads it
    history: Path | None = None,
    replace: bool = False,
    quiet: bool = False,
) -> None:
    """Train a network on a log and save it.

    Shows what the log holds, how it is split and which settings were chosen, then trains until the validation part
    gets no better, and keeps the weights of the best epoch. The test part is not looked at: `sasrec evaluate` does
    that. Ctrl-C ends training early and still saves the best so far.

    Args:
        log: File of interactions: CSV, TSV, Parquet, JSON lines, RecBole `.inter`, or text of user and item; also
            compressed (.gz, .zst).
        out: Folder to save the model to; checked before anything is read.
        file: TOML file with any of the settings below under "Network and training", as `width = 128`; flags go
            before it.
        history: File to which a line of JSON is added after every epoch.
        replace: Take the place of a model, and add to a history, that is there already.
        quiet: Print nothing but warnings and errors.
    """
    from sasrec import bundle
    from sasrec.training import loop

    bundle.check_free(out, replace=replace)
    if history is not None:
        check_free(history, replace=replace)
    content = reading.log(log)
    data = reading.divided(content)
    if not quiet:
        say(str(content.summary()), "", str(data), "")
        say(wrapped(f"settings: {chosen(loop.settled(config, data.train).to_dict())}"), "")
    model = loop.train(data, config, history=history, progress=not quiet)
    model.record |= {"log": log.name, "reading": reading.to_dict()}
    model.save(out, replace=replace)
    if not quiet:
        user, item = model.users.ids[0], model.items.ids[0]
        say(f"trained {outcome(model.record)}", f"saved to {out} ({in_bytes(out)})", "")
        suggest(
            ["evaluate", out, log],
            ["recommend", out, "--user", str(user)],
            ["similar", out, str(item)],
            ["info", out],
        )
