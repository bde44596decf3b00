"""How the commands read a log, by one set of flags that is kept with the model, and how a model is named."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self

from cyclopts import Group, Parameter

from sasrec.data import splits
from sasrec.data.filters import Filters
from sasrec.data.log import DateOrder, Log, TimeUnit
from sasrec.data.new_items import hold_out_items
from sasrec.data.reading import read_log
from sasrec.data.splits import How, Split
from sasrec.errors import ConfigError, check_share, check_whole


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a log is read and split.

    Attributes:
        user: Column of the user ids; else one of a usual name (user_id, userId, visitorid, ...).
        item: Column of the item ids; else one of a usual name (item_id, movieId, asin, ...).
        time: Column of the times; else one of a usual name (timestamp, datetime, ...).
            An empty name takes none: rows are in order.
        weight: Column of the weights; else one of a usual name (rating, stars, ...), which is left unread where an
            event has none and no least weight is set. An empty name takes none.
        format: Format of the file (csv, tsv, parquet, jsonl, inter, pairs, histories, movielens); else by its suffix.
        time_unit: What numbers in the time column count; else told from their size. Of dates such as 03/04/2024 whether
            they begin with the day or the month; else told from numbers above 12.
        filters: Which events stay.
        named: The filters that a data set's name in FreeRec stands for, as in Amazon2014Beauty_550_LOU.
        split: What is held out: each user's last item, or the last period by time.
        share: Share of the events in the test period, in (0, 0.5); used by the split by time alone.
        new_items: Hold out this share of the items: remove their events from training, validation and histories, so
            that they occur only as test targets.
        new_seed: Fixes which these are.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    weight: str | None = None
    format: str | None = None
    time_unit: TimeUnit | DateOrder | None = None
    filters: Annotated[Filters, Parameter(name="*")] = Filters()
    named: str | None = None
    split: How = "last-item"
    share: float = 0.1
    new_items: float | None = None
    new_seed: int = 0

    @classmethod
    def recorded(cls, flags: Mapping[str, Any]) -> Self:
        """What a model's record tells under "reading", as `to_dict` gave it."""
        filters = {one.name: flags[one.name] for one in fields(Filters) if one.name in flags}
        return cls(**{name: value for name, value in flags.items() if name not in filters}, filters=Filters(**filters))

    def log(self, path: Path) -> Log:
        """The log in a file; errors as `read_log` and `kept`."""
        with warnings.catch_warnings():
            # The summary has a note of the same, and says it once.
            warnings.filterwarnings("ignore", ".*: no column has a usual name of a time")
            return read_log(
                path,
                user=self.user,
                item=self.item,
                time=self.time,
                weight=self.weight,
                format=self.format,
                time_unit=self.time_unit,
                filters=self.kept(),
            )

    def kept(self) -> Filters:
        """Which events stay; ConfigError as `Filters.named`, or where flags contradict the name."""
        filters = self.filters
        if self.named is not None:
            cores = Filters.named(self.named)
            filters = replace(
                filters, min_weight=cores.min_weight, user_core=cores.user_core, item_core=cores.item_core
            )
            if self.filters not in (filters, replace(filters, min_weight=None, user_core=0, item_core=0)):
                raise ConfigError(f"--named {self.named} sets the rating and both cores; leave out flags of these")
        return filters

    def unfiltered(self) -> "Reading":
        """The same, but every event that can be read stays."""
        # Every weight is above this bound, which says that weights will be needed.
        least = None if self.kept().min_weight is None else -math.inf
        return replace(self, filters=Filters(min_weight=least, bad_rows=self.filters.bad_rows), named=None)

    def divided(self, log: Log) -> Split:
        """The log with what is held out; errors as `split` and `hold_out_items`."""
        made = splits.split(log, self.split, share=self.share)
        if self.new_items is None:
            return made
        check_share("new_items", self.new_items)
        check_whole("new_seed", self.new_seed, least=0)
        return hold_out_items(made, self.new_items, seed=self.new_seed)

    def holds_out_as(self, other: "Reading") -> bool:
        """Whether the same events would be held out of a log, whatever its format and columns are called."""
        return self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        """All that decides which events are held out."""
        share = self.share if self.split == "time" else None
        new = None if self.new_items is None else (self.new_items, self.new_seed)
        return replace(self.kept(), bad_rows="drop"), self.time == "", self.split, share, new

    def flags(self) -> list[str]:
        """What to type for a log to be read and split so; nothing that does nothing, as records of models may have."""
        idle = {"share"} if self.split != "time" else set()
        idle |= {"new_seed"} if self.new_items is None else set()
        given = self.to_dict().items() - Reading().to_dict().items()
        return [f"--{name.replace('_', '-')}={value}" for name, value in sorted(given) if name not in idle]

    def to_dict(self) -> dict[str, str | int | float]:
        """The value of every flag that has one, by its name."""
        flags = asdict(self)
        flags |= flags.pop("filters")
        return {name: value for name, value in flags.items() if value is not None}


LogFlags = Annotated[Reading, Parameter(name="*", group=Group("Log", sort_key=1))]
LogFlagsAsTrained = Annotated[
    Reading, Parameter(name="*", group=Group("Log (where not given, as in training)", sort_key=1), show_default=False)
]
ModelFolder = Annotated[
    Path,
    Parameter(help="Folder of a model, as `sasrec train`, `count`, `blend`, `refit`, `retrain` or `export` writes it."),
]
"""What a command that takes any model is given."""
