"""What a server holds: the data folder, the events, and the version of the model that answers."""

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import final

from sasrec.errors import BundleError, DataError, SasrecError, ScoreError, ServingError
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.loading import load
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer, has_vectors
from sasrec.serving.answering import LOGGER, Answer, Asked, Informed, Served
from sasrec.serving.opening import open_store
from sasrec.serving.problems import Problem
from sasrec.serving.versions import Course, Folder, fingerprint

LARGE = 100_000  # items from which on a single answer by an index takes less time; see docs/large.md


@final
class Service:
    """Everything behind the HTTP interface. A change of the version is one assignment, so no answer mixes two.

    Attributes:
        folder: Where everything is kept.
        store: The events.
        served: What answers.
        course: The version that answers, and those to go back to.
        draining: True once the server is about to stop.
    """

    def __init__(
        self,
        model: Path,
        folder: Folder,
        *,
        events: str | None = None,
        titles: Path | None = None,
        threads: int = 1,
        overlap: float | None = None,
    ) -> None:
        """Begin with a model; or, where the last start named the same one, with what was served last.

        Where the model cannot be used and the folder holds one that was served before, that one is served and the
        reason is logged.

        Args:
            events: Address of a database for the events; they are in the folder without one.
            titles: File of items with their titles; read again for every version.
            threads: CPU threads that score.
            overlap: Share of the best items to be found in a large catalogue; None finds them all. See `indexed`.

        Raises:
            BundleError, ScoreError: The model cannot be used, and there is no other.
            ConfigError: `overlap` is out of range, or the model has too few users to measure it.
            DataError: The titles cannot be read, or fit none of the items.
            ServingError: The store of events is damaged, foreign, of a newer format or cannot be reached; or the
                folder has events that would be used no more.
        """
        if events is not None and folder.events.exists() and _holds_any(folder.events):
            raise ServingError(
                f"{folder.events}: has events that would not be used any more; train a model with them (sasrec "
                f"retrain --events {folder.events}), then move the file away"
            )
        self.folder, self._titles, self._threads, self._overlap = folder, titles, threads, overlap
        self.store = open_store(events or folder.events)
        self.draining = False
        self._changing = threading.Lock()
        try:
            self.served, self.course = self._begin(model)
        except BaseException:
            self.store.close()
            raise

    def answer(self, requests: Sequence[Asked]) -> list[Answer | Problem]:
        """Answers to a batch of requests: from the version that answers now, or that their users were read of for."""
        served = self.served
        places: dict[Served, list[int]] = {}
        for at, one in enumerate(requests):
            places.setdefault(one.served if isinstance(one, Informed) else served, []).append(at)
        answers: dict[int, Answer | Problem] = {}
        for version, some in places.items():
            answers.update(zip(some, version.answer([requests[at] for at in some]), strict=True))
        return [answers[at] for at in range(len(requests))]

    def activate(self, model: Path) -> str:
        """Let a model answer from now on. It is read, checked and tried first; the one before answers meanwhile.

        Returns:
            Its version.

        Raises:
            SasrecError: The model cannot be used; the one before goes on.
        """
        with self._changing:
            if fingerprint(model) != self.served.version:
                served = self._taken(model)
                self._switch(served, self.course.forward(served.version))
            return self.served.version

    def rollback(self) -> str:
        """Let the version before answer again; gives that version.

        Raises:
            ServingError: There is none.
            SasrecError: It cannot be used any more; the present one goes on.
        """
        with self._changing:
            course = self.course.back()
            self._switch(self._load(str(course.version)), course)
        return self.served.version

    def _switch(self, served: Served, course: Course) -> None:
        # The disk first: whatever was answered from a new version, a restart must not fall behind it.
        self.folder.keep(course)
        self.course, self.served = course, served

    def _load(self, version: str) -> Served:
        model = load(self.folder.model(version))
        _use_threads(model.scorer, self._threads)
        return Served(_quick(model, self._overlap), version, self.store, titles=self._titles)

    def _begin(self, model: Path) -> tuple[Served, Course]:
        course, begun = self.folder.course(), None
        try:
            given = fingerprint(model)
            if given != course.given or course.version is None:
                served = self._taken(model)
                course = course.forward(given, given=given)
                self.folder.keep(course)
                return served, course
            if given == course.version:
                begun = self._taken(model), course
        except SasrecError as error:
            # Titles are a flag of this start: another version would be refused for them, too.
            if course.version is None or isinstance(error, DataError):
                raise
            LOGGER.error("%s; version %s goes on instead", error, course.version)
        served, now = begun or self._last_good(course, model)
        # Only now: until something could be loaded, what the folder has may be needed.
        self.folder.sweep(course.forward(served.version))
        return served, now

    def _taken(self, model: Path) -> Served:
        """A model as a version of the folder; copied anew where a copy that was there already is damaged."""
        known = self.folder.knows(fingerprint(model))
        version = self.folder.take(model)
        try:
            return self._load(version)
        except BaseException as error:  # of a model that is made to do harm, any
            damaged = known and isinstance(error, BundleError)
            if damaged or not known:
                self.folder.discard(version)
            if not damaged and isinstance(error, SasrecError):
                raise type(error)(str(error).replace(str(self.folder.model(version)), str(model))) from None
            if not damaged:
                raise
            LOGGER.warning("%s; copied again from %s", error, model)
        return self._taken(model)

    def _last_good(self, course: Course, model: Path) -> tuple[Served, Course]:
        """What was served last; where its copy cannot be used, the latest version before it whose copy can.

        Where none can, the model that the start names.
        """
        while True:
            try:
                return self._load(str(course.version)), course
            except (BundleError, ScoreError) as error:
                if not course.before:
                    LOGGER.error("%s; %s goes on instead", error, model)
                    served = self._taken(model)
                    return served, course.forward(served.version)
                course = course.back()
                LOGGER.error("%s; version %s goes on instead", error, course.version)


def _holds_any(events: Path) -> bool:
    """Whether a file of events has some, or somebody who was forgotten; errors as `open_store`."""
    with closing(open_store(events, writable=False)) as store:
        return store.last() > 0


def _quick(model: Recommender, overlap: float | None) -> Recommender:
    """The model with an index where its catalogue is so large that it answers sooner by one."""
    if len(model.items) < LARGE or not has_vectors(model.scorer):
        return model
    from sasrec.retrieval.indexing import indexed  # for what has vectors: an exported network has no torch

    quick = indexed(model, overlap=overlap)
    if quick.index is not None:
        LOGGER.info("index: %s", quick.index.words())
    return quick


def _use_threads(scorer: Scorer, threads: int) -> None:
    """Let whatever computes the scores do so with so many threads; torch is imported only for what needs it."""
    if isinstance(scorer, Exported):
        scorer.use_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)
