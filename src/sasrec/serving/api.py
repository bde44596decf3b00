"""What is asked and answered over HTTP, as types, which check every request and make the OpenAPI document."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

BODY = 2**20  # bytes of a request's body at most

Text = Annotated[str, Meta(min_length=1, max_length=1024, pattern="^[^\\x00]*$", description="A raw id as text.")]
Id = (
    Text
    | Annotated[
        int,
        Meta(
            ge=-(2**63),
            le=2**63 - 1,
            description="An integer id; the same as its decimal text, as which it is answered.",
        ),
    ]
)
"""A raw id in a request. Answers have text alone: a browser would round integers beyond 2^53."""

K = Annotated[int, Meta(ge=1, le=500, description="Items wanted; fewer come where fewer may be recommended.")]
Deadline = Annotated[
    int, Meta(ge=1, le=10_000, description="Milliseconds after which the answer is of no use; then status 504 or 503.")
]
History = Annotated[list[Id], Meta(max_length=1000, description="Items that somebody had, the oldest first.")]
Time = Annotated[float, Meta(ge=-1e11, le=1e11, description="Seconds since 1970.")]
Times = Annotated[
    Annotated[list[Time], Meta(max_length=1000)] | None,
    Meta(
        description="When each item of `history` was had, none before the one before it. A model that reads times "
        "needs them; others check that they fit, and do not use them."
    ),
]
Asked = Annotated[
    Time | None,
    Meta(
        description="When the answer is wanted; null is now, and before the last event it is the time of that. Only "
        "models that read times look at it."
    ),
]
Choice = Annotated[list[Id], Meta(max_length=10_000)]
Source = Annotated[
    Literal["model", "popular"],
    Meta(
        description="popular: nothing known of the user is known to the model, so the answer is what is most popular."
    ),
]
Unknown = Annotated[list[str], Meta(description="Items that the request names and the model does not know.")]
ScorerName = Annotated[
    str | None,
    Meta(description="What ranks: one of the scorers that /v1/model lists; null is the first of them, the model."),
]
Version = Annotated[str, Meta(description="The version of the model that the whole answer is from.")]


class Recommend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to recommend to, and what may be recommended.

    The history is what is known of the user, followed by `history`. With neither, popular items are the answer.
    """

    user: Id | None = None
    history: History = []
    times: Times = None
    time: Asked = None
    k: K = 10
    exclude_seen: bool | None = None
    allow: Choice | None = None
    deny: Choice = []
    scorer: ScorerName = None
    deadline_ms: Deadline = 1000


class RecommendBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several recommendations at once, all from one version of the model."""

    requests: Annotated[list[Recommend], Meta(min_length=1, max_length=256)]
    deadline_ms: Deadline = 1000


class Rank(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Candidates to put in order for a user, after a history, or both. Nothing is left out as seen."""

    candidates: Annotated[list[Id], Meta(min_length=1, max_length=1000)]
    user: Id | None = None
    history: History = []
    times: Times = None
    time: Asked = None
    scorer: ScorerName = None
    deadline_ms: Deadline = 1000


class Similar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item, and how many others are wanted."""

    item: Text
    k: K = 10
    scorer: ScorerName = None
    deadline_ms: Deadline = 1000


class Explain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item, and whom it would be recommended to.

    User, history, times and scorer are understood as for a recommendation.
    """

    item: Id
    user: Id | None = None
    history: History = []
    times: Times = None
    time: Asked = None
    exclude_seen: bool | None = None
    scorer: ScorerName = None
    events: Annotated[
        int, Meta(ge=1, le=50, description="The latest so many events are explained; each costs a recommendation.")
    ] = 20
    deadline_ms: Deadline = 1000


class NewEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody did something."""

    id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            pattern="^[^\\x00]*$",
            description="Names the event: sent again, it is not stored again.",
        ),
    ]
    user: Id
    item: Id
    time: Annotated[
        Annotated[float, Meta(ge=-1e11)] | None,
        Meta(description="Seconds since 1970; left out, it is when the event arrives. At most a day from now."),
    ] = None


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events to store."""

    events: Annotated[list[NewEvent], Meta(min_length=1, max_length=1000)]


class Latest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many events are wanted."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class UserHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose history is wanted, and how much of it."""

    user: Text
    limit: Annotated[int, Meta(ge=1, le=1000, description="The latest so many events.")] = 100


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user."""

    user: Text


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an item's id or title contains, whatever the case of its letters."""

    q: Annotated[str, Meta(min_length=1, max_length=200)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without content."""


class Scored(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item and its score; only scores of one answer can be compared. The title is there where it is known."""

    item: str
    score: float
    title: str | None = None


class Recommendation(msgspec.Struct, frozen=True):
    """Items, the best first."""

    items: list[Scored]
    source: Source
    used_history: Annotated[int, Meta(description="Events of the history whose items the model knows.")]
    unknown_items: Unknown
    model_version: Version


class Recommendations(msgspec.Struct, frozen=True):
    """An answer for each request, in their order."""

    answers: list[Recommendation]
    model_version: Version


class Similars(msgspec.Struct, frozen=True):
    """The items most like one item, by cosine, the best first."""

    items: list[Scored]
    model_version: Version


class ExplainedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of the history, and what it does for the item.

    Without the only event that is known the answer would be what is popular: there is a rank then, but no score that
    could be compared.
    """

    item: str
    attention: Annotated[
        float | None,
        Meta(
            description="Share of what the network looks at after the history, whatever the item: the mean over blocks "
            "and heads; null where nothing looks."
        ),
    ]
    score_without: Annotated[float | None, Meta(description="The item's score if this event had not been.")]
    rank_without: Annotated[int, Meta(description="The item's rank if this event had not been.")]
    title: str | None = None


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an item is recommended: its place with the whole history, and without each of its latest events."""

    item: str
    score: float
    rank: Annotated[
        int,
        Meta(
            description="1 is the best, among the items that may be recommended; of equal scores the item that the "
            "model learnt of first comes first."
        ),
    ]
    events: Annotated[list[ExplainedEvent], Meta(description="Of items that the model knows, the oldest first.")]
    source: Source
    used_history: Annotated[int, Meta(description="Events of the history whose items the model knows.")]
    unknown_items: Unknown
    model_version: Version
    title: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """An event that was not stored, by its place in the request."""

    index: int
    id: str
    detail: str


class EventsStored(msgspec.Struct, frozen=True):
    """What became of events. Those stored are on the disk, and in every later answer."""

    stored: int
    duplicates: Annotated[int, Meta(description="Events that were there already.")]
    rejected: Annotated[list[Rejected], Meta(description="Events whose id belongs to another event.")]
    unknown_items: Unknown


class LatestEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that was stored."""

    id: str
    user: str
    item: str
    arrived: Annotated[float, Meta(description="Seconds since 1970.")]
    title: str | None = None


class LatestEvents(msgspec.Struct, frozen=True):
    """The events that this server stored last, the newest first; none from before it started."""

    events: list[LatestEvent]
    model_version: Version


class PastEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of a history; what the model was trained on has no id, and a time only if the model reads times."""

    item: str
    time: Annotated[float | None, Meta(description="Seconds since 1970.")]
    id: str | None
    title: str | None = None


class PastEvents(msgspec.Struct, frozen=True):
    """The latest events of a user, the oldest first.

    Those of the training data, then those that were sent, by time; where the model reads times, all of them by time.
    """

    user: str
    events: list[PastEvent]
    model_version: Version


class Forgotten(msgspec.Struct, frozen=True):
    """The user is forgotten: events are erased, and what the model was trained on of the user is not used again."""

    user: str
    events: Annotated[int, Meta(description="Events that were erased.")]


class FoundItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item, with its title where that is known."""

    item: str
    title: str | None = None


class Found(msgspec.Struct, frozen=True):
    """Items found: an id that is equal first, then what begins with the words, then what contains them."""

    items: list[FoundItem]
    model_version: Version


class ModelFacts(msgspec.Struct, frozen=True):
    """The model that answers."""

    model_version: Version
    kind: str
    items: int
    users: int
    scorers: Annotated[
        list[str],
        Meta(description="What can rank: the model, the parts of a blend, then what counts the same histories."),
    ]
    exclude_seen: Annotated[bool, Meta(description="Whether seen items are left out unless a request says otherwise.")]
    reads_times: Annotated[
        bool, Meta(description="Whether answers depend on when events happened and on when they are asked for.")
    ]
    ids: Annotated[dict[str, Literal["text", "integer"]], Meta(description="What raw ids are, of users and of items.")]
    trained: Annotated[dict[str, str | int | float], Meta(description="How it came to be, as far as it is recorded.")]
    activated: Annotated[float, Meta(description="When it began to answer, in seconds since 1970.")]
    earlier: Annotated[list[str], Meta(description="Versions to go back to, the latest first.")]


class Health(msgspec.Struct, frozen=True):
    """The server is well."""

    status: Literal["alive", "ready"]
