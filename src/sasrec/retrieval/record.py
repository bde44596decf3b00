"""What a model's record may hold, so that nobody who looks something up in a loaded one finds another thing there."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sasrec.data.filters import BadRows, Duplicates
from sasrec.data.log import DateOrder, TimeUnit
from sasrec.data.splits import How
from sasrec.errors import BundleError

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Best(msgspec.Struct):
    ndcg: float
    hit_rate: float
    epoch: _Count = 0
    recent: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0


class _Epoch(msgspec.Struct):
    epoch: _Count
    loss: float
    ndcg: float | None  # of an epoch that was not validated there is none
    hit_rate: float | None = None


class _Refit(msgspec.Struct):
    events: _Count
    seconds: float


class _Taken(msgspec.Struct):
    taken: _Count
    through: _Count
    store: str = ""


class _Interval(msgspec.Struct, forbid_unknown_fields=True):
    difference: float
    low: float
    high: float
    level: float


class _Part(msgspec.Struct):
    name: str
    kind: str
    weight: float
    ndcg: float
    adds: _Interval
    best: _Best | msgspec.UnsetType = msgspec.UNSET


class _New(msgspec.Struct):
    items: _Count
    weight: float
    costs: _Interval


class _Table(msgspec.Struct):
    sha256: str = ""


class _Reading(msgspec.Struct, forbid_unknown_fields=True):
    """The flags of `sasrec.commands.reading` and no others: a command takes what stands here as if it were typed."""

    user: str = ""
    item: str = ""
    time: str = ""
    weight: str = ""
    format: str = ""
    time_unit: TimeUnit | DateOrder = "s"
    min_weight: float = 0.0
    duplicates: Duplicates = "keep"
    user_core: _Count = 0
    item_core: _Count = 0
    bad_rows: BadRows = "refuse"
    named: str = ""
    split: How = "last-item"
    share: float = 0.1
    new_items: float = 0.0
    new_seed: _Count = 0


class _Record(msgspec.Struct):
    """What others look up in a record; each may be missing, as models are made in several ways."""

    log: str = ""
    data: str = ""
    split: str = ""
    exclude_seen: bool = True
    time_unit: TimeUnit | None = None
    stopped: str = ""
    epochs: _Count = 0
    steps: _Count = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: _Count | None = None
    automatic: dict[str, str] = {}
    reading: _Reading = msgspec.field(default_factory=_Reading)
    history: list[_Epoch] = []
    tried: list[dict[str, Any]] = []
    parts: list[_Part] = []
    best: _Best | msgspec.UnsetType = msgspec.UNSET
    refit: _Refit | msgspec.UnsetType = msgspec.UNSET
    events: _Taken | msgspec.UnsetType = msgspec.UNSET
    new: _New | None = None
    added: _Count = 0
    features: str | None = None
    item_table: _Table | None = None


def check_record(record: dict[str, Any]) -> None:
    """Refuse a record that holds something else where others look something up; BundleError."""
    try:
        msgspec.convert(record, _Record)
    except (msgspec.ValidationError, OverflowError) as error:
        raise BundleError(f"record.json holds what no model's does: {error}") from None
