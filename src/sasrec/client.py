"""A client of `sasrec serve`, with nothing beyond Python's own HTTP.

with Client("http://127.0.0.1:8000") as shop:
    shop.add("ada", "Alien")
    for one in shop.recommend("ada", k=5).items:
        print(one.item, one.score)
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Self, TypeVar, final
from urllib.parse import urlencode, urlsplit

import msgspec

from sasrec.errors import ConfigError, ServingError, check_kind, is_number
from sasrec.serving.api import (
    BODY,
    EventsStored,
    Explain,
    Explanation,
    Forgotten,
    Found,
    Id,
    LatestEvents,
    ModelFacts,
    NewEvent,
    PastEvents,
    Rank,
    Recommend,
    Recommendation,
    Recommendations,
    Similars,
)
from sasrec.serving.problems import MEDIA_TYPE, TOO_LARGE, Document
from sasrec.serving.sending import Past, check_sent, checked, ids, parted, plain, quoted

_LONGEST = 1e6  # seconds to wait for a server; the system refuses what is far longer
_T = TypeVar("_T")


@final
class Client:
    """One connection to one server, which stays open; for several threads make several clients.

    Ids may be text or integers; answers have them as text. Every method raises `ServingError` where the server cannot
    be reached or refuses; its `status` is the HTTP status, None without an answer. It raises `ConfigError`, and sends
    nothing, where an id is neither text nor an integer, one text stands for a list of ids, a number is not finite or
    JSON has no form for what is to be sent.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, timeout: float = 10.0) -> None:
        """Nothing is sent yet.

        Args:
            url: Address of the server; what stands in front of it may add a path.
            timeout: Seconds to wait for the server at each step; it is told, so that it does not work for nobody.

        Raises:
            ConfigError: The address is none of HTTP, or the timeout is not above 0 and at most 1,000,000.
        """
        check_kind("url", url, str, called="text", advice="give one like 'http://127.0.0.1:8000'")
        if not is_number(timeout) or not 0 < timeout <= _LONGEST:
            raise ConfigError(f"timeout: expected seconds above 0 and at most {_LONGEST:,.0f}, found {timeout!r}")
        self._connection, path = _opened(url, float(timeout))
        self.url = url.rstrip("/")
        self._deadline = max(1, min(10_000, int(1000 * timeout)))
        self._prefix = path.rstrip("/")

    def recommend(
        self,
        user: Id | None = None,
        history: Past = (),
        *,
        k: int = 10,
        exclude_seen: bool | None = None,
        allow: Iterable[Id] | None = None,
        deny: Iterable[Id] = (),
        scorer: str | None = None,
        time: float | None = None,
    ) -> Recommendation:
        """The next items for a user, after a history (oldest first), or after what is known of the user and that.

        Args:
            history: Items; or pairs of an item and its time, which a model needs that reads times, as `model()` tells.
            k: Items wanted; fewer come where fewer may be recommended.
            exclude_seen: Leave out, or keep, what the user had; None does as chosen in training.
            allow: Only these items; None allows all.
            deny: None of these items.
            scorer: What ranks, one of `model().scorers`; None is the model.
            time: For which the items are wanted, in seconds since 1970; None is now. Used by a model that reads times.

        Raises:
            ConfigError: Some items of the history have a time, and others have none; or one is a tuple, but no pair.
        """
        allowed, (items, times) = None if allow is None else ids("allow", allow), parted(history)
        denied, whom = ids("deny", deny), _whom(user)
        asked = Recommend(
            whom, items, times, time, k, exclude_seen, allowed, denied, scorer, deadline_ms=self._deadline
        )
        return self._post("/v1/recommend", asked, Recommendation)

    def recommend_batch(self, requests: Sequence[Recommend]) -> list[Recommendation]:
        """Answers to up to 256 requests, in their order, all from one version of the model."""
        return self._post(
            "/v1/recommend:batch", {"requests": requests, "deadline_ms": self._deadline}, Recommendations
        ).answers

    def rank(
        self,
        candidates: Iterable[Id],
        user: Id | None = None,
        history: Past = (),
        *,
        scorer: str | None = None,
        time: float | None = None,
    ) -> Recommendation:
        """Up to 1,000 candidates in the order of their scores; those that the model does not know are listed.

        Args:
            history, time: As those of `recommend`.
            scorer: What ranks, one of `model().scorers`; None is the model.
        """
        asked = Rank(ids("candidates", candidates), _whom(user), *parted(history), time, scorer, self._deadline)
        return self._post("/v1/rank", asked, Recommendation)

    def explain(
        self,
        item: Id,
        user: Id | None = None,
        history: Past = (),
        *,
        exclude_seen: bool | None = None,
        scorer: str | None = None,
        events: int = 20,
        time: float | None = None,
    ) -> Explanation:
        """Why an item is recommended: what each of the latest events does for it.

        Args:
            history, time: As those of `recommend`.
            exclude_seen: Rank among what the user has not had, or among everything; None does as chosen in training.
            scorer: What ranks, one of `model().scorers`; None is the model.
            events: How many are explained at most.
        """
        about, past = checked("item", item), parted(history)
        asked = Explain(about, _whom(user), *past, time, exclude_seen, scorer, events, self._deadline)
        return self._post("/v1/explain", asked, Explanation)

    def similar(self, item: Id, *, k: int = 10, scorer: str | None = None) -> Similars:
        """The items most like one item.

        Args:
            scorer: What tells how alike they are, one of `model().scorers`; None is the model.
        """
        chosen = {} if scorer is None else {"scorer": scorer}
        return self._get("/v1/similar", {"item": item, "k": k, **chosen, "deadline_ms": self._deadline}, Similars)

    def add(self, user: Id, item: Id, *, time: float | None = None, event: str | None = None) -> EventsStored:
        """Store one event.

        Args:
            time: Seconds since 1970; None is when the event arrives.
            event: Names the event: sent again under the same name, it is stored once. None takes a random name.
        """
        named = checked("user", user), checked("item", item)
        return self.add_all([NewEvent(secrets.token_hex(16) if event is None else event, *named, time)])

    def add_all(self, events: Sequence[NewEvent]) -> EventsStored:
        """Store up to 1,000 events; once this returns they are on the server's disk, and in every later answer."""
        return self._post("/v1/events", {"events": events}, EventsStored)

    def history(self, user: Id, *, limit: int = 100) -> PastEvents:
        """What is known of a user, the oldest first."""
        return self._get(f"/v1/users/{quoted(user)}/history", {"limit": limit}, PastEvents)

    def latest(self, *, limit: int = 20) -> LatestEvents:
        """The events that the server stored last, of whomever, the newest first; none from before it started."""
        return self._get("/v1/events", {"limit": limit}, LatestEvents)

    def forget(self, user: Id) -> Forgotten:
        """Erase a user's events, and let what the model was trained on of the user never be used again."""
        return self._send("DELETE", f"/v1/users/{quoted(user)}", None, Forgotten)

    def search(self, words: str, *, limit: int = 20) -> Found:
        """Items whose id or title contains the words."""
        return self._get("/v1/items/search", {"q": words, "limit": limit}, Found)

    def model(self) -> ModelFacts:
        """What the model is that answers."""
        return self._get("/v1/model", {}, ModelFacts)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, query: Mapping[str, object], kind: type[_T]) -> _T:
        check_sent("query", query)
        return self._send("GET", f"{path}?{urlencode(query)}", None, kind)

    def _post(self, path: str, asked: object, kind: type[_T]) -> _T:
        try:
            check_sent("body", asked)
            body = msgspec.json.encode(asked, enc_hook=plain)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"what is to be sent to {path} has no form in JSON: {error}") from None
        if len(body) > BODY:  # a server that refuses it need not read it, and may not be heard
            raise ServingError(
                f"{self.url}{path}: {TOO_LARGE.title}: {len(body):,} bytes, and a server takes {BODY:,} at most; send "
                "several requests",
                status=TOO_LARGE.status,
            )
        return self._send("POST", path, body, kind)

    def _send(self, method: str, path: str, body: bytes | None, kind: type[_T]) -> _T:
        status, media_type, answer = self._answered(method, self._prefix + path, body)
        try:
            if status == 200:
                return msgspec.json.decode(answer, type=kind)
            if media_type == MEDIA_TYPE:
                problem = msgspec.json.decode(answer, type=Document)
                raise ServingError(f"{self.url}{path}: {problem.title}: {problem.detail}", status=status)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ServingError(f"{self.url}{path}: this is no answer of sasrec: {error}", status=status) from None
        raise ServingError(f"{self.url}{path}: answered with status {status}, not as sasrec does", status=status)

    def _answered(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        """Status, media type and body; a connection that the server closed meanwhile is opened once more.

        That is safe for every request: none does more when it comes twice.
        """
        fresh = self._connection.sock is None
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            try:
                self._connection.request(method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                if self._connection.sock is None:
                    raise
                # Who refuses a body may have answered before its end, and read no more of it.
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            if fresh or isinstance(error, TimeoutError):
                raise ServingError(f"{self.url}: cannot be reached: {error or type(error).__name__}") from None
        return self._answered(method, path, body)


def _whom(user: Id | None) -> Id | None:
    return None if user is None else checked("user", user)


def _opened(url: str, timeout: float) -> tuple[HTTPConnection, str]:
    """A connection that is not made yet, and the path of the address; ConfigError where it is none of HTTP."""
    reason = ""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc or "?" in url or "#" in url:
            # It stands in messages, so it is not shown in this one.
            raise ConfigError(
                "url: holds a user, a password, a query or a fragment, none of which would be sent; leave them out"
            )
        if parts.scheme in ("http", "https") and parts.hostname and re.fullmatch("[!-~]*", parts.path):
            parts.hostname.encode("idna")  # as the system will, where an error is none of ours
            kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
            return kind(parts.hostname, parts.port, timeout=timeout), parts.path
    except ConfigError:
        raise
    except (ValueError, HTTPException) as error:
        reason = f" ({error})"
    raise ConfigError(f"url: expected one like http://127.0.0.1:8000, percent-encoded, found {url!r}{reason}")
