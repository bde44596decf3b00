"""Counts and times for Prometheus, in its text format. No label holds an id, so the series are always the same few."""

import bisect
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import final

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds


@final
class Counter:
    """A number that only grows, for each combination of labels."""

    def __init__(self, name: str, about: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.about, self.labels = name, about, labels
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count; from the event loop's thread alone."""
        self.values[labels] = self.values.get(labels, 0) + amount

    def lines(self) -> list[str]:
        """As Prometheus reads it."""
        heads = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} counter"]
        return heads + [f"{self.name}{_labelled(self.labels, at)} {n}" for at, n in sorted(self.values.items())]


@final
class Histogram:
    """How often a time fell into which bucket, for each value of one label."""

    def __init__(self, name: str, about: str, label: str) -> None:
        self.name, self.about, self.label = name, about, label
        self.counts: dict[str, list[int]] = {}
        self.sums: dict[str, float] = {}

    def observe(self, label: str, seconds: float) -> None:
        """Count a time; from the event loop's thread alone."""
        counts = self.counts.setdefault(label, [0] * (len(_BUCKETS) + 1))
        counts[bisect.bisect_left(_BUCKETS, seconds)] += 1
        self.sums[label] = self.sums.get(label, 0.0) + seconds

    def lines(self) -> list[str]:
        """As Prometheus reads it."""
        lines = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram"]
        for label, counts in sorted(self.counts.items()):
            total = 0
            for limit, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
                total += count
                lines.append(f"{self.name}_bucket{_labelled((self.label, 'le'), (label, limit))} {total}")
            lines.append(f"{self.name}_sum{_labelled((self.label,), (label,))} {self.sums[label]:.6f}")
            lines.append(f"{self.name}_count{_labelled((self.label,), (label,))} {total}")
        return lines


@final
class Metrics:
    """Everything that a server counts."""

    def __init__(self) -> None:
        self.requests = Counter("sasrec_requests_total", "Requests by route and status.", ("route", "status"))
        self.seconds = Histogram("sasrec_request_seconds", "Seconds from a request's head to its answer.", "route")
        self.batches = Counter("sasrec_batches_total", "Blocks of requests that were scored together.")
        self.scored = Counter("sasrec_scored_total", "Histories that were scored.")
        self.popular = Counter("sasrec_popular_total", "Answers of popular items, for want of a known history.")
        self.unknown = Counter("sasrec_unknown_items_total", "Items in requests that the model does not know.")
        self.refused = Counter("sasrec_refused_total", "Requests that were refused unscored.", ("reason",))
        self.events = Counter("sasrec_events_total", "Events by what became of them.", ("outcome",))
        self.swaps = Counter("sasrec_activations_total", "Changes of the served version.", ("result",))

    def text(self, *, waiting: int, version: str) -> str:
        """All of it, with the state of the moment."""
        counted: Sequence[Counter | Histogram] = (
            *(self.requests, self.seconds, self.batches, self.scored, self.popular),
            *(self.unknown, self.refused, self.events, self.swaps),
        )
        now = {
            "sasrec_waiting_requests": ("Requests that wait to be scored.", "", waiting),
            "sasrec_model_info": ("The version that answers.", _labelled(("version",), (version,)), 1),
            "sasrec_resident_memory_bytes": ("Memory of the server.", "", _resident_memory()),
        }
        lines = [line for one in counted for line in one.lines()]
        for name, (about, labels, value) in now.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name}{labels} {value}"]
        return "\n".join(lines) + "\n"


def _labelled(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    # Names of routes, statuses and versions: none holds a character that would have to be escaped.
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True)) + "}" if names else ""


def _resident_memory() -> int:
    """Bytes; 0 where the system does not tell."""
    try:
        return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
