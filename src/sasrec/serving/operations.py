"""Everything that can be asked over HTTP: what each operation takes and gives, how it may fail, and what it does."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import msgspec

from sasrec.errors import ServingError
from sasrec.serving import api, metrics, openapi
from sasrec.serving.answering import LOGGER, Asked, Request
from sasrec.serving.batching import FULL, Batcher
from sasrec.serving.problems import (
    AWAY,
    BUSY,
    CONFLICT,
    DRAINING,
    HEADERS,
    INTERNAL,
    INVALID,
    LATE,
    MALFORMED,
    MISDIRECTED,
    NO_JSON,
    NO_ROOM,
    SLOW,
    TOO_LARGE,
    UNKNOWN_ITEM,
    Fault,
    Kind,
    Problem,
    unwritten,
)
from sasrec.serving.reading import Reader
from sasrec.serving.service import Service
from sasrec.serving.store import Event
from sasrec.serving.timing import microseconds

_DAY = 86_400.0
_LATEST = 100  # events that are remembered to be shown
_READ_SECONDS = 5.0  # for what is read of events, where the request has no deadline
_QUERY = (MALFORMED, SLOW, MISDIRECTED, INVALID, HEADERS, INTERNAL, BUSY)
_BODY = (*_QUERY, TOO_LARGE, NO_JSON)
_SCORED = (*_BODY, LATE, AWAY)


@final
class Desk:
    """What operations work with.

    Attributes:
        service: Model, events and data folder.
        batcher: The queue before the model.
        metrics: What is counted.
        latest: The events stored last, the newest first.
        reader: What reads events.
    """

    def __init__(self, service: Service, batcher: Batcher, counted: metrics.Metrics) -> None:
        self.service, self.batcher, self.metrics = service, batcher, counted
        self.latest: deque[api.LatestEvent] = deque(maxlen=_LATEST)
        self.reader = Reader()

    async def ask(self, requests: Sequence[Request], deadline_ms: int, *, within: str | None = None) -> list[Any]:
        """Answers from one version of the model, in the order of the requests.

        Args:
            within: JSON pointer to the list of the requests; None where one is all that was sent.

        Raises:
            Problem: As `Batcher.ask` and `Reader.read`; or the first of what is wrong with a request.
        """
        begun, seconds = time.monotonic(), deadline_ms / 1000
        asked: Sequence[Asked] = requests
        if self.service.store.remote and any(_user_of(one) is not None for one in requests):
            # What may take long is read before, lest all who wait for the model wait for a database.
            if not self.batcher.has_room(len(requests), seconds=seconds):
                raise Problem(BUSY, FULL)
            asked = await self.reader.inform(self.service.served, requests, seconds=seconds)
        answers = await self.batcher.ask(asked, seconds=seconds - (time.monotonic() - begun))
        for at, one in enumerate(answers):
            if isinstance(one, Problem):
                raise one if within is None else one.within(f"{within}/{at}")
            if isinstance(one, api.Recommendation):
                self.metrics.popular.add(amount=one.source == "popular")
                self.metrics.unknown.add(amount=len(one.unknown_items))
        return answers


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        method, path: Where; names in braces are fields of what it takes.
        handle: Does it; the first line of its docstring is its summary in the OpenAPI document.
        takes: The request: the body of a POST, else path and query.
        gives: The answer.
        problems: Every kind of problem that it may answer with.
        media_type: Of the answer.
    """

    method: str
    path: str
    handle: Callable[[Desk, Any], Awaitable[Any]]
    takes: type[msgspec.Struct]
    gives: Any
    problems: tuple[Kind, ...]
    media_type: str = "application/json"

    @property
    def route(self) -> str:
        """What it is called in the metrics."""
        return f"{self.method} {self.path}"

    @property
    def queued(self) -> bool:
        """Whether it waits for the model."""
        return LATE in self.problems


async def recommend(desk: Desk, asked: api.Recommend) -> api.Recommendation:
    """The next items for a user, after a history, or both."""
    return (await desk.ask([asked], asked.deadline_ms))[0]


async def recommend_batch(desk: Desk, asked: api.RecommendBatch) -> api.Recommendations:
    """Several recommendations from one version of the model."""
    answers = await desk.ask(asked.requests, asked.deadline_ms, within="/requests")
    return api.Recommendations(answers, answers[0].model_version)


async def rank(desk: Desk, asked: api.Rank) -> api.Recommendation:
    """Given candidates in the order of their scores."""
    candidates = asked.candidates
    question = api.Recommend(
        asked.user,
        asked.history,
        asked.times,
        asked.time,
        k=len(candidates),
        exclude_seen=False,
        allow=candidates,
        scorer=asked.scorer,
    )
    return (await desk.ask([question], asked.deadline_ms))[0]


async def similar(desk: Desk, asked: api.Similar) -> api.Similars:
    """The items most like one item."""
    return (await desk.ask([asked], asked.deadline_ms))[0]


async def explain(desk: Desk, asked: api.Explain) -> api.Explanation:
    """Why an item is recommended: what each event of the history does for it."""
    return (await desk.ask([asked], asked.deadline_ms))[0]


async def store_events(desk: Desk, asked: api.Events) -> api.EventsStored:
    """Store events; those whose id belongs to another event are rejected, the others stay."""
    latest = time.time() + _DAY
    late = [at for at, one in enumerate(asked.events) if one.time is not None and one.time > latest]
    if late:
        detail = "is more than a day after the server's clock"
        errors = tuple(Fault(f"/events/{at}/time", detail) for at in late)
        raise Problem(INVALID, f"{errors[0].pointer}: {detail}; a time is in seconds since 1970", errors=errors)
    events = [
        Event(one.id, str(one.user), str(one.item), None if one.time is None else microseconds(one.time))
        for one in asked.events
    ]
    refusal = "nothing of this request was stored; send it again once there is room"
    unsure = "it is not known whether this was stored; send it again, for nothing is stored twice"
    outcomes = await _written(desk.service.store.add, events, refusal=refusal, unsure=unsure)
    now = time.time()
    for one, outcome in zip(events, outcomes, strict=True):
        desk.metrics.events.add(outcome)
        if outcome == "stored":
            desk.latest.appendleft(api.LatestEvent(one.id, one.user, one.item, now))
    refused = [at for at, outcome in enumerate(outcomes) if outcome == "conflict"]
    detail = "is the id of another event"
    if len(refused) == len(events):
        errors = tuple(Fault(f"/events/{at}/id", detail) for at in refused)
        raise Problem(CONFLICT, f"no event was stored: {events[0].id!r} {detail}", errors=errors)
    kept = (one.item for one, outcome in zip(events, outcomes, strict=True) if outcome != "conflict")
    _, unknown = desk.service.served.items.split(kept)
    return api.EventsStored(
        stored=outcomes.count("stored"),
        duplicates=outcomes.count("duplicate"),
        rejected=[api.Rejected(at, events[at].id, detail) for at in refused],
        unknown_items=list(dict.fromkeys(unknown)),
    )


async def latest_events(desk: Desk, asked: api.Latest) -> api.LatestEvents:
    """The events that this server stored last."""
    served = desk.service.served
    latest = list(desk.latest)
    # Another server may have forgotten a user whose events came in here.
    kept = await desk.reader.read(desk.service.store.kept, [one.id for one in latest], seconds=_READ_SECONDS)
    shown = [one for one in latest if one.id in kept][: asked.limit]
    titled = [msgspec.structs.replace(one, title=served.title_of(one.item)) for one in shown]
    return api.LatestEvents(titled, served.version)


async def user_history(desk: Desk, asked: api.UserHistory) -> api.PastEvents:
    """What is known of a user."""
    served = desk.service.served
    events = await desk.reader.read(served.history, asked.user, seconds=_READ_SECONDS)
    return api.PastEvents(asked.user, events[-asked.limit :], served.version)


async def forget_user(desk: Desk, asked: api.User) -> api.Forgotten:
    """Erase a user's events, and never use again what the model was trained on of the user."""
    refusal = "the user is not forgotten on the disk; send it again once there is room"
    unsure = "it is not known whether the user is forgotten; send it again, for that does no harm"
    erased = await _written(desk.service.store.forget, asked.user, refusal=refusal, unsure=unsure)
    desk.latest = deque((one for one in desk.latest if one.user != asked.user), maxlen=_LATEST)
    return api.Forgotten(asked.user, erased)


async def search_items(desk: Desk, asked: api.Search) -> api.Found:
    """Items whose id or title contains some words."""
    served = desk.service.served
    return api.Found(await asyncio.to_thread(served.find, asked.q, limit=asked.limit), served.version)


async def describe_model(desk: Desk, asked: api.Nothing) -> api.ModelFacts:  # noqa: ARG001  # nothing to read
    """What the model is that answers."""
    served, course = desk.service.served, desk.service.course
    model, record = served.model, served.model.record
    plain = {name: record[name] for name in ("log", "data", "stopped", "epochs", "seconds") if name in record}
    best = {f"validation_{name}": record["best"][name] for name in ("ndcg", "hit_rate") if "best" in record}
    taken = {f"events_{name}": record["events"][name] for name in ("taken", "through") if "events" in record}
    return api.ModelFacts(
        model_version=served.version,
        kind=model.kind,
        items=len(model.items),
        users=len(model.users),
        scorers=served.scorers,
        exclude_seen=model.exclude_seen,
        reads_times=model.reads_times,
        ids={one.kind + "s": "integer" if one.integer else "text" for one in (model.users, model.items)},
        trained=msgspec.convert(plain | best | taken, dict[str, str | int | float]),
        activated=served.since,
        earlier=list(course.before),
    )


async def alive(desk: Desk, asked: api.Nothing) -> api.Health:  # noqa: ARG001
    """Whether the process answers at all."""
    return api.Health("alive")


async def ready(desk: Desk, asked: api.Nothing) -> api.Health:  # noqa: ARG001
    """Whether requests should be sent here."""
    if desk.service.draining:
        raise Problem(DRAINING, "the server finishes what it has begun, and then stops")
    return api.Health("ready")


async def show_metrics(desk: Desk, asked: api.Nothing) -> str:  # noqa: ARG001
    """Counts and times for Prometheus."""
    batcher, counted = desk.batcher, desk.metrics
    counted.batches.values[()], counted.scored.values[()] = batcher.batches, batcher.scored
    return counted.text(waiting=batcher.waiting, version=desk.service.served.version)


async def show_openapi(desk: Desk, asked: api.Nothing) -> dict[str, Any]:  # noqa: ARG001
    """This document."""
    return openapi.document(OPERATIONS)


async def _written(write: Callable[[Any], Any], what: object, *, refusal: str, unsure: str) -> Any:
    """What a write to the store gives once it is durable.

    Args:
        refusal: What to say where there is no room.
        unsure: What to say where nobody knows whether it is.
    """
    try:
        return await asyncio.wrap_future(write(what))
    except ServingError as error:
        # The message names files and hosts, which are nobody else's business.
        LOGGER.error("%s", error)
        raise unwritten(error, no_room=refusal, unsure=unsure) from None


def _user_of(request: Request) -> api.Id | None:
    return None if isinstance(request, api.Similar) else request.user


OPERATIONS = (
    Operation("POST", "/v1/recommend", recommend, api.Recommend, api.Recommendation, _SCORED),
    Operation("POST", "/v1/recommend:batch", recommend_batch, api.RecommendBatch, api.Recommendations, _SCORED),
    Operation("POST", "/v1/rank", rank, api.Rank, api.Recommendation, _SCORED),
    Operation("GET", "/v1/similar", similar, api.Similar, api.Similars, (*_QUERY, LATE, UNKNOWN_ITEM)),
    Operation("POST", "/v1/explain", explain, api.Explain, api.Explanation, (*_SCORED, UNKNOWN_ITEM)),
    Operation("GET", "/v1/events", latest_events, api.Latest, api.LatestEvents, (*_QUERY, AWAY)),
    Operation("POST", "/v1/events", store_events, api.Events, api.EventsStored, (*_BODY, CONFLICT, AWAY, NO_ROOM)),
    Operation("GET", "/v1/users/{user}/history", user_history, api.UserHistory, api.PastEvents, (*_QUERY, AWAY)),
    Operation("DELETE", "/v1/users/{user}", forget_user, api.User, api.Forgotten, (*_QUERY, AWAY, NO_ROOM)),
    Operation("GET", "/v1/items/search", search_items, api.Search, api.Found, _QUERY),
    Operation("GET", "/v1/model", describe_model, api.Nothing, api.ModelFacts, _QUERY),
    Operation("GET", "/livez", alive, api.Nothing, api.Health, _QUERY),
    Operation("GET", "/readyz", ready, api.Nothing, api.Health, (*_QUERY, DRAINING)),
    Operation("GET", "/metrics", show_metrics, api.Nothing, str, _QUERY, metrics.MEDIA_TYPE),
    Operation("GET", "/openapi.json", show_openapi, api.Nothing, dict[str, Any], _QUERY),
)
