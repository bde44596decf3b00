"""`sasrec export`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sasrec.commands.counting import Saved
from sasrec.commands.output import in_bytes, say, suggest


def export(
    model: Path,
    /,
    *,
    to: Literal["onnx"],
    saved: Annotated[Saved, Parameter(name="*")],
    quiet: bool = False,
) -> None:
    """Write a network in another format, to be served without torch.

    The network becomes an ONNX model, which `sasrec serve` lets ONNX Runtime compute. Before anything is written both
    score every item after every history of the model, and have to agree. Needs the extra: pip install 'sasrec[onnx]'.

    Args:
        model: Folder of a network, as `sasrec train`, `refit` or `retrain` writes it.
        to: The format.
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.export.exporting import export_onnx
    from sasrec.retrieval.loading import load

    with saved.held():
        found = export_onnx(load(model), saved.out, replace=saved.replace, progress=not quiet)
        if not quiet:
            say(
                str(found),
                f"saved as {to} to {saved.out} ({in_bytes(saved.out)})",
                "",
            )
            suggest(["serve", saved.out])
