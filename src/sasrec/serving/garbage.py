"""Python's search for garbage, kept away from what lives as long as a server."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_YOUNG = 10_000  # new objects after which Python looks for garbage among them


@contextmanager
def unsearched() -> Iterator[Callable[[], None]]:
    """Nothing is searched for garbage, until what this gives is called: then what has come since, and seldom.

    A start makes hundreds of thousands of objects, from the classes that are imported to the model, and no garbage. A
    model that is replaced has no cycles, and goes when nobody holds it any more. The requests that wait for a batch are
    more than Python's 700 new objects: while they wait, and are no garbage, they would be searched several times.
    """
    enabled, thresholds = gc.isenabled(), gc.get_threshold()

    def search() -> None:
        gc.freeze()
        gc.set_threshold(_YOUNG, *thresholds[1:])
        gc.enable()

    gc.disable()
    try:
        yield search
    finally:  # whoever called may go on without a server
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        if enabled:
            gc.enable()
        else:
            gc.disable()
