"""A server under load changes its model, or is told to stop: nobody's request fails."""

import http.client
import json
import random
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final
from urllib.parse import urlsplit

import sasrec
from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import PATIENCE, Ground, served
from sasrec.client import Client
from sasrec.serving.administration import Command, send
from sasrec.serving.api import Recommend, Recommendation
from sasrec.serving.versions import fingerprint

CLIENTS = 3
USERS = ["u19", "u07", "u39"]
BETWEEN = 15  # answers before and after each swap at least


@final
class Clients:
    """Some that ask a server all the time, one of them in batches; every answer is to be that of the version it names.

    Attributes:
        faults: What was not as it is to be, in words.
        seen: The version of every answer.
    """

    def __init__(self, url: str, right: Mapping[str, list[list[str]]]) -> None:
        """Begin to ask.

        Args:
            right: The best items of `USERS`, by version.
        """
        self.faults: list[str] = []
        self.seen: list[str] = []
        self._url, self._right = url, right
        self._done, self._answered = threading.Event(), threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._work, args=[number]) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def wait(self, answers: int) -> None:
        """Until so many more have come, or one was not right."""
        enough, before = len(self.seen) + answers, len(self.faults)
        while len(self.seen) < enough and len(self.faults) == before:
            self._answered.acquire(timeout=PATIENCE)

    def end(self) -> None:
        """Ask no more, once what was asked is answered."""
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _work(self, number: int) -> None:
        with Client(self._url, timeout=PATIENCE) as client:
            while not self._done.is_set():
                try:
                    if number:
                        self._judge([client.recommend(USERS[0], k=3)])
                    else:
                        self._judge(client.recommend_batch([Recommend(user, k=3) for user in USERS]))
                except Exception as error:  # noqa: BLE001  # whatever it is, `wait` is not to wait for this client
                    self.faults.append(f"{type(error).__name__}: {error}")
                self._answered.release()

    def _judge(self, answers: Sequence[Recommendation]) -> None:
        versions = {one.model_version for one in answers}
        items = [[item.item for item in one.items] for one in answers]
        if len(versions) > 1 or items != self._right[answers[0].model_version][: len(items)]:
            self.faults.append(f"{items} from {versions}")
        self.seen.extend(versions)


def swapped(ground: Ground, tries: int) -> Iterator[Try]:
    """Activate one model after the other while clients ask."""
    data, models = ground.fresh("swaps") / "data", [ground.models[name] for name in ("one", "two", "markov")]
    right = {fingerprint(model): _offline(model) for model in models}
    with served(models[0], data=data) as (_, url):
        clients = Clients(url, right)
        try:
            for swap in range(tries):
                faults, seen = len(clients.faults), len(clients.seen)
                clients.wait(BETWEEN)
                send(Command("activate", str(models[(swap + 1) % len(models)])), data)
                clients.wait(BETWEEN)
                if swap == tries - 1:
                    clients.end()
                yield Try("; ".join(clients.faults[faults:]), {"answers": len(clients.seen) - seen})
        finally:
            clients.end()


def _offline(model: Path) -> list[list[str]]:
    loaded = sasrec.load(model)
    return [loaded.recommend([user], k=3)["item_id"].to_list() for user in USERS]


def drained(ground: Ground, tries: int) -> Iterator[Try]:
    """Send SIGTERM under load: what was begun is answered, /readyz says that the server goes, and it leaves with 0."""
    chances = random.Random(10)
    for _ in range(tries):
        with served(ground.models["one"], "--drain", "0.5", data=ground.fresh("drains") / "data") as (running, url):
            yield _terminated(running, urlsplit(url).netloc, after=chances.randrange(20, 100))


def _terminated(running: "subprocess.Popen[str]", place: str, *, after: int) -> Try:
    faults: list[str] = []
    answers: list[int] = []
    begun = threading.Semaphore(0)

    def work(number: int) -> None:
        connection, closed = http.client.HTTPConnection(place, timeout=PATIENCE), False
        try:
            while not closed:  # until it is told that the server is about to stop
                body = json.dumps({"user": USERS[number], "deadline_ms": 10_000})
                connection.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                if answer.status != 200 or json.loads(answer.read())["source"] != "model":
                    faults.append(f"an answer with status {answer.status}")
                closed = answer.headers["connection"] == "close"
                answers.append(answer.status)
                begun.release()
            connection.request("GET", "/readyz")
            if (status := connection.getresponse().status) != 503:
                faults.append(f"/readyz answered {status}")
        except (OSError, http.client.HTTPException) as error:
            faults.append(f"a request without an answer: {error!r}")
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for _ in range(after):
        begun.acquire(timeout=PATIENCE)
    running.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(PATIENCE)
    out, errors = running.communicate(timeout=PATIENCE)
    if (running.returncode, out, errors) != (0, "stopped\n", ""):
        faults.append(f"it left with {running.returncode}: {out!r} {errors!r}")
    return Try("; ".join(faults), {"answers": len(answers)})


CLAIMS = (
    Claim("swaps", "another model activated under load: no request failed, no answer of two versions", 20, 4, swapped),
    Claim("drains", "SIGTERM under load: everything begun is answered, then the server leaves with 0", 10, 1, drained),
)
