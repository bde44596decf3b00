"""What the cases of one run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """Handed to every function that is measured; plain values, so that it can be sent to a process as JSON.

    Attributes:
        folder: Temporary folder for what is made on the way.
        log: File of the interaction log.
        is_beauty: True where `log` is Amazon Beauty, False where it is a generated stand-in.
        threads: CPU threads that a case may use.
        epochs: Epochs timed in a case of training.
    """

    folder: str
    log: str
    is_beauty: bool
    threads: int
    epochs: int

    @property
    def model(self) -> Path:
        """The bundle that `inputs.make_model` saves."""
        return Path(self.folder) / "model.sasrec"

    @property
    def histories(self) -> Path:
        """The log as `peers.work` writes it for every system."""
        return Path(self.folder) / "histories.txt"

    def events(self, format: str) -> Path:
        """The large log that `inputs.make_events` writes as "csv" and "parquet"."""
        return Path(self.folder) / f"events.{format}"
