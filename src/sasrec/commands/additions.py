"""`sasrec add-items`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sasrec.commands.counting import Saved
from sasrec.commands.output import in_bytes, say, suggest, typed
from sasrec.words import counted


def add_items(
    model: Path, table: Path, /, *, saved: Annotated[Saved, Parameter(name="*")], quiet: bool = False
) -> None:
    """Let a trained model rank items that nobody has had yet.

    New items are those of the table that the model does not know. They are ranked by what a network learned of their
    categories and vectors, or by their likeness to the history, without training; known items stay as they are.

    Args:
        model: Folder that `sasrec train`, `count` or `blend` wrote, with --features.
        table: File of items like that of --features, read in the same way.
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.retrieval import additions
    from sasrec.retrieval.loading import load

    with saved.held():
        made = load(model)
        found = additions.add_items(made, table)
        found.save(saved.out, replace=saved.replace)
        if not quiet:
            count = len(found.items) - len(made.items)
            added = f"added {counted(count, 'item')} to {len(made.items):,}"
            say(added, f"saved to {saved.out} ({in_bytes(saved.out)})", "")
            suggest(["recommend", saved.out, *typed(found.users, "--user")], ["info", saved.out])
