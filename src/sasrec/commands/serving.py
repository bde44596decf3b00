"""`sasrec serve`, and what it can be told while it runs: `sasrec activate`, `sasrec rollback`."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from sasrec.commands.output import say
from sasrec.commands.reading import ModelFolder
from sasrec.serving.server import Place, Running, run


def serve(model: ModelFolder, /, *, place: Annotated[Place, Parameter(name="*")] = Place()) -> None:
    """Answer over HTTP with a model, and keep the events that come in.

    Stop it with Ctrl-C or SIGTERM: it finishes the answers that it has begun. Started again, it goes on with the
    version that it served last, unless MODEL is another one than at the last start. Needs the extra: pip install
    'sasrec[serve]'.
    """

    def started(running: Running) -> None:
        from sasrec.serving.naming import is_loopback

        say(
            f"serving {model} (version {running.version}: {running.facts})",
            *([f"index: {running.index}"] if running.index else []),
            f"events in {running.events}, versions in {running.data}",
            f"at {running.url}",
        )
        if not is_loopback(str(urlsplit(running.url).hostname)):
            say("others can reach this address, and nobody has to say who they are: put a proxy that asks in front")

    run(model, place, started=started)
    say("stopped")


def activate(data: Path, model: ModelFolder, /) -> None:
    """Let a running server answer with another model.

    The server reads, checks and tries the model first, and the one before answers meanwhile; a model that cannot be
    used changes nothing.

    Args:
        data: Data folder of the server.
    """
    from sasrec.serving.administration import Command, send

    say(f"version {send(Command('activate', str(model.absolute())), data)} answers now")


def rollback(data: Path, /) -> None:
    """Let a running server go back to the version before.

    Args:
        data: Data folder of the server.
    """
    from sasrec.serving.administration import Command, send

    say(f"version {send(Command('rollback'), data)} answers again")
