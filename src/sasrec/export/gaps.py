"""How far apart events are, in places and in time, as nodes; see `sasrec.model.biases` for what they are used for.

Axes: B histories, L longest of them.
"""

from dataclasses import dataclass
from typing import Self, final

import numpy as np

from sasrec.config import Config
from sasrec.export.graph import Graph


@final
@dataclass(frozen=True)
class Gaps:
    """Whole numbers, None where the network does not look at them.

    Attributes:
        places: From whoever is looked at (the last axis) to whoever asks; (1, L, L).
        elapsed: Bucket of the time from the event of whoever is looked at to the request of whoever asks; (B, L, L).
        own: Bucket of the time from each event to the request for what follows it; (B, L).
    """

    places: str | None = None
    elapsed: str | None = None
    own: str | None = None

    @classmethod
    def of(cls, graph: Graph, config: Config) -> Self:
        """Those that a network of these settings looks at."""
        places = _places(graph) if config.positions in ("relative", "both") else None
        if config.times == "none":
            return cls(places)
        asked = _asked(graph)
        elapsed = own = None
        if config.times != "learned":
            request, event = (
                graph.node("Unsqueeze", one, graph.whole(2 - at)) for at, one in enumerate((asked, "times"))
            )
            elapsed = in_buckets(graph, graph.node("Sub", request, event))
        if config.times != "relative":
            own = in_buckets(graph, graph.node("Sub", asked, "times"))
        return cls(places, elapsed, own)


def _places(graph: Graph) -> str:
    # All histories end at the right, so the distances in one are those in any.
    first = graph.node("Slice", "items", graph.whole(0), graph.whole(1), graph.whole(0))
    one = graph.array(np.array(1, dtype=np.int64))
    places = graph.node("CumSum", graph.node("Sub", first, graph.node("Sub", first, one)), one)
    return graph.node("Sub", *(graph.node("Unsqueeze", places, graph.whole(axis)) for axis in (2, 1)))


def _asked(graph: Graph) -> str:
    """When what follows each event was asked for: at the time of the next one, of the last ones at `asked`."""
    later = graph.node("Slice", "times", graph.whole(1), graph.whole(np.iinfo(np.int64).max), graph.whole(1))
    last = graph.node("Unsqueeze", "asked", graph.whole(1))
    return graph.node("Concat", later, last, attributes={"axis": 1})


def in_buckets(graph: Graph, elapsed: str) -> str:
    """The buckets of `sasrec.model.attention.in_buckets`, exactly.

    ONNX cannot look at the bits of a float. Dividing by powers of two changes nothing but the exponent, so what is
    taken away until less than two is left is the exponent, and the rest tells the first bit after it.
    """
    one = graph.array(np.array(1, dtype=np.int64))
    rest = graph.node("Cast", graph.node("Add", elapsed, one), attributes={"to": 1})
    rest = graph.node("Max", rest, graph.number(1.0))
    parts = []
    for octaves in (32, 16, 8, 4, 2, 1):
        within = graph.node("Less", rest, graph.number(2.0**octaves))
        rest = graph.node("Where", within, rest, graph.node("Mul", rest, graph.number(2.0**-octaves)))
        parts.append(_either(graph, within, 2 * octaves))
    bucket = _either(graph, graph.node("Less", rest, graph.number(1.5)), 1)
    for part in parts:
        bucket = graph.node("Add", bucket, part)
    return bucket


def _either(graph: Graph, condition: str, otherwise: int) -> str:
    """0 where a condition holds, else a number."""
    return graph.node("Where", condition, *(graph.array(np.array(one, dtype=np.int64)) for one in (0, otherwise)))
