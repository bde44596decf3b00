"""What each user lends to training, to validation and to the test."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from sasrec.data.log import Log
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Id, Vocabulary
from sasrec.errors import ConfigError, DataError, check_kind, check_share
from sasrec.words import counted, with_article

How = Literal["last-item", "time"]
Part = Literal["test", "valid"]

_NONE = -1


@dataclass(frozen=True, eq=False)
class Holdout:
    """Users with one event each to predict.

    Attributes:
        users: User rows, ascending, int64 of shape (users,).
        histories: What the model may see of each user: everything before the target, and when that was asked for.
        targets: Item row to predict for each user, int32 of shape (users,).
    """

    users: np.ndarray
    histories: Sequences
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def repeated(self) -> np.ndarray:
        """Whether each user had the target before; bool of shape (users,)."""
        owners = self.histories.owners()
        return np.bincount(owners[self.histories.items == self.targets[owners]], minlength=len(self)) > 0

    def take(self, rows: np.ndarray) -> "Holdout":
        """The users at these places of the holdout, an int array of shape (taken,), in the given order."""
        return Holdout(self.users[rows], self.histories.take(rows), self.targets[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """A log with, for every user, the place of what is held out.

    The four arrays say all: user u trains on the first `train_lengths[u]` events, is validated on event
    `valid_at[u]` and tested on event `test_at[u]` (counted from 0 within the history; -1 where the user is not).
    A validation history ends just before `valid_at[u]`, a test history just before `test_at[u]`. Of what the user
    did, `before_test[u]` events are known before anything is tested: those of training and of validation. Events of
    the items in `new` are left out of all of these, as if nobody had had them yet: such items are only ever targets of
    the test.
    """

    log: Log
    how: How
    train_lengths: np.ndarray
    valid_at: np.ndarray
    test_at: np.ndarray
    before_test: np.ndarray
    rule: str
    new: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def refit(self) -> "Split":
        """The same test, with what validated added to the training part; nobody is left to validate on."""
        return replace(
            self,
            train_lengths=self.before_test,
            valid_at=np.full_like(self.valid_at, _NONE),
            rule=f"{self.rule}; refit on train + validation",
        )

    def within(self, items: Vocabulary) -> "Split":
        """The same split in a larger catalogue; UnknownIdError where that lacks an item of the log."""
        return replace(self, log=self.log.within(items), new=items.rows(self.log.items.raw(self.new)))

    @property
    def train(self) -> Sequences:
        """The training part of every user's history; some are empty."""
        users, first = np.arange(len(self.log.users)), np.zeros_like(self.train_lengths)
        kept = self.log.histories.slices(users, first, self.train_lengths).without(self.new)
        # Places in each user's own history do not tell whose event came first.
        times = None if self.log.source.time_unit == "order" else kept.times
        return replace(kept, users=users, times=times)

    @property
    def valid(self) -> Holdout:
        """What training may look at to choose the best weights."""
        held = self._holdout(self.valid_at)
        return held.take(np.flatnonzero(~np.isin(held.targets, self.new)))

    @property
    def test(self) -> Holdout:
        """What is looked at once, after everything is chosen."""
        return self._holdout(self.test_at)

    def of_user(self, user: Id) -> dict[str, list[Id]]:
        """What one user lends, as raw item ids under "train", "valid" and "test"; an empty list where nothing.

        Raises:
            UnknownIdError: The log has no such user.
        """
        row = int(self.log.users.known_rows([user])[0])
        parts = {"train": self.train[row]}
        for name, held in (("valid", self.valid), ("test", self.test)):
            parts[name] = held.targets[held.users == row]
        return {name: self.log.items.raw(rows).to_list() for name, rows in parts.items()}

    @property
    def fingerprint(self) -> str:
        """Names the log's content and the rule: equal for equal splits, so that a model can say what it has seen."""
        return f"{self.how} split of log {self.log.content_hash}: {self.rule}"

    def _holdout(self, places: np.ndarray) -> Holdout:
        users = np.flatnonzero(places != _NONE)
        histories = self.log.histories
        held = histories.offsets[users] + places[users]
        asked = None if histories.times is None else histories.times[held]
        before = histories.slices(users, np.zeros(len(users), dtype=np.int64), places[users]).without(self.new)
        found = Holdout(users, replace(before, users=users, asked=asked), histories.items[held])
        return found.take(np.flatnonzero(before.lengths)) if len(self.new) else found

    def __repr__(self) -> str:
        users, tested, validated, train = len(self.log.users), len(self.test), len(self.valid), self.train
        why = "too short; they still train" if self.how == "last-item" else "no test event, or none before it"
        why = f"{why.partition(';')[0]} without the new items" if len(self.new) else why
        return (
            f"split: {self.rule}\n"
            f"train: {counted(len(train.items), 'event')} of {counted(int((train.lengths > 0).sum()), 'user')}\n"
            f"valid: {counted(validated, 'user')}   test: {counted(tested, 'user')}   "
            f"not tested: {counted(users - tested, 'user')} ({why})"
        )


def known_split(data: object) -> Split:
    """The split itself; ConfigError for anything else, such as a log in its place."""
    if isinstance(data, Split):
        return data
    raise ConfigError(
        f"data: expected a split, found {with_article(type(data).__name__)}; make one with sasrec.split(log)"
    )


def split(log: Log, how: How = "last-item", *, share: float = 0.1) -> Split:
    """Hold out what is to be predicted.

    "last-item" (leave-one-out): every user of at least 3 events is tested on the last and validated on the one
    before it; shorter users lend everything to training.

    "time" (global time point): the last `share` of all events by time is the test period, the same share of what
    is before it the validation period. A user with an earlier event is tested on the last event of the test period,
    and validated on the last one of the validation period, with everything before it as history; training sees
    nothing that happened from the start of the validation period on. This is the protocol nearest to use: nobody
    learns from the future of others. Source: Gusak et al., RecSys 2025 ("Time to Split"), target "last".

    Args:
        share: Share of the events in the test period, in (0, 0.5); used by "time" alone.

    Raises:
        ConfigError: `how` or `share` is not one of the above.
        DataError: Nobody can be tested, or "time" is asked of a log without times.
    """
    check_kind("log", log, Log, advice="read one with sasrec.read_log(path)")
    if how not in get_args(How):
        raise ConfigError(f"how: expected 'last-item' or 'time', found {how!r}")
    result = _by_last_item(log) if how == "last-item" else _by_time(log, share)
    if not (result.test_at != _NONE).any():
        users, events = counted(len(log.users), "user"), counted(int(log.histories.lengths.max()), "event")
        raise DataError(
            f"{log.source.name}: nobody can be tested with how='{how}': {users}, the longest history has {events}; "
            "a user needs 3 events, or the time split a later event"
        )
    return result


def _by_last_item(log: Log) -> Split:
    lengths = log.histories.lengths
    testable = lengths >= 3
    return Split(
        log,
        "last-item",
        train_lengths=np.where(testable, lengths - 2, lengths),
        valid_at=np.where(testable, lengths - 2, _NONE),
        test_at=np.where(testable, lengths - 1, _NONE),
        before_test=np.where(testable, lengths - 1, lengths),
        rule="each user's last event is the test, the one before it the validation",
    )


def _by_time(log: Log, share: float) -> Split:
    times = times_of(log)
    check_share("share", share, below=0.5)
    return between(log, share, start_of_last(share, np.sort(times)), None)


def start_of_last(share: float, ordered: np.ndarray) -> Any:
    """Where the last share of some times begins, in ascending order; with the last of them for less than one."""
    place = int(round(len(ordered) * (1 - share), 6))  # 65.99999999999999 is 66
    return ordered[min(place, len(ordered) - 1)]  # of its own type, as the rule of the split names it


def times_of(log: Log) -> np.ndarray:
    """Time of every event, of shape (events,); DataError where the log has none that its users share."""
    times = log.histories.times
    if times is None:
        raise DataError(f"{log.source.name}: a split by time needs times, and this log has none; use how='last-item'")
    if log.source.time_unit == "order":
        raise DataError(
            f"{log.source.name}: its times are places in each user's own history, which no two users share; "
            "use how='last-item', or name a column of real times"
        )
    return times


def between(log: Log, share: float, test_from: float, test_until: float | None) -> Split:
    """The split with this test period, until the end of the log if there is none; the same share before validates."""
    times = times_of(log)
    before = np.sort(times[times < test_from])
    valid_from = start_of_last(share, before) if len(before) else test_from
    # Events are in time order within a user, so the events before a point are a prefix.
    owners, users = log.histories.owners(), len(log.users)
    train = np.bincount(owners[times < valid_from], minlength=users)
    until_test = np.bincount(owners[times < test_from], minlength=users)
    known = log.histories.lengths if test_until is None else np.bincount(owners[times < test_until], minlength=users)
    end = "on" if test_until is None else f"to before {_exactly(log, test_until)}"
    return Split(
        log,
        "time",
        train_lengths=train,
        valid_at=np.where((until_test > train) & (until_test > 1), until_test - 1, _NONE),
        test_at=np.where((known > until_test) & (known > 1), known - 1, _NONE),
        before_test=until_test,
        rule=f"events from {_exactly(log, valid_from)} on are the validation, "
        f"from {_exactly(log, test_from)} {end} the test",
    )


def _exactly(log: Log, time: float) -> str:
    """A time in words that no other has: a rule names its split, and words leave out fractions of a unit."""
    return log.when(time) if time == int(time) else f"{log.when(time)} ({float(time)!r})"
