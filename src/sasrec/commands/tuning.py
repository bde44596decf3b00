"""`sasrec tune`."""

from pathlib import Path

from sasrec.commands.output import say, suggest
from sasrec.commands.reading import LogFlags, Reading
from sasrec.files import check_free, durable_file
from sasrec.locking import check_apart, check_kept


def tune(
    log: Path,
    /,
    *,
    space: Path,
    reading: LogFlags = Reading(),
    trials: int = 20,
    study: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    replace: bool = False,
) -> None:
    """Search settings by validation NDCG@10, in a study that can be stopped and gone on with.

    Every trial is a whole training with an early stop. The first ten are random, the others drawn from what was found
    so far. The test part is not looked at: train with the best settings, then `sasrec evaluate`. Needs Optuna:
    pip install 'sasrec[tune]'.

    Args:
        log: File of interactions, as for `sasrec train`.
        space: TOML file: settings to keep, and under [space] those to search, as `dropout = [0.2, 0.5]` or
            `learning_rate = {low = 1e-4, high = 1e-2, log = true}`.
        trials: How many in all, those of an earlier run of the same study among them.
        study: File to keep finished trials in; the same command goes on with it.
        out: TOML file to write the best settings to, for `sasrec train --config`.
        seed: Fixes which settings are tried; the seed of trainings is a setting.
        replace: Take the place of a file of settings that is there already.
    """
    from sasrec.studies import tune as study_of

    check_apart(out, study)
    check_kept(out, study, read=[log, space])
    if out is not None:
        check_free(out, replace=replace)
    asked, base = study_of.read_space(space)
    content = reading.log(log)
    data = reading.divided(content)
    say(str(content.summary()), "", str(data), "")
    found = study_of.tune(data, asked, base=base, trials=trials, study=study, seed=seed, progress=True)
    say(str(found))
    if out is not None:
        with durable_file(out, replace=replace) as draft:
            draft.write_text(found.best.to_toml(), encoding="utf-8")
        say("", f"best settings written to {out}", "")
        suggest(["train", log, *reading.flags(), "--config", out, "--out", "best.sasrec"])
