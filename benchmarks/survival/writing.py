"""A server is killed while events come in: what it acknowledged is there after the next start, once."""

import random
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import final

from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import PATIENCE, Ground, served
from sasrec.client import Client
from sasrec.errors import ServingError
from sasrec.serving.api import NewEvent
from sasrec.serving.opening import open_store

CLIENTS = 3


@final
class Ledger:
    """What clients sent, and what was acknowledged, request by request."""

    def __init__(self) -> None:
        self.sent: dict[str, tuple[NewEvent, ...]] = {}
        self.acknowledged: set[str] = set()

    def send(self, client: Client, name: str, events: tuple[NewEvent, ...]) -> None:
        """Send a request, under a name; ServingError where it is not acknowledged."""
        self.sent[name] = events
        client.add_all(events)
        self.acknowledged.add(name)

    def faults(self, place: str | Path) -> dict[str, int]:
        """How the events of a store differ from what may be there, read as the server has them."""
        store = open_store(place, writable=False)
        found = [(one.id, one.user, one.item) for one in store.events(through=2**62)]
        store.close()
        sent = {(one.id, one.user, one.item): name for name, events in self.sent.items() for one in events}
        whole = Counter(sent[one] for one in {*found} & sent.keys())
        wanted = {name: len(events) for name, events in self.sent.items()}
        return {
            "acknowledged events lost": sum(wanted[name] - whole[name] for name in self.acknowledged),
            "events that nobody sent": len({*found} - sent.keys()),
            "events stored twice": len(found) - len({*found}),
            "requests stored in part": sum(0 < whole[name] < wanted[name] for name in self.sent),
        }


def killed(ground: Ground, tries: int, *, database: str | None = None) -> Iterator[Try]:
    """Kill the server after some acknowledgements, start it again, and compare; what was in flight is sent again.

    Args:
        database: Address of one for the events, which are in the data folder otherwise.
    """
    data, chances, ledger, acknowledged = ground.fresh("writing") / "data", random.Random(30), Ledger(), 0
    place, flags = (database, ["--events", database]) if database else (data / "events.sqlite", [])
    for number in range(tries + 1):
        with served(ground.models["onnx"], *flags, data=data) as (running, url):
            if number:
                faults = {name: count for name, count in ledger.faults(place).items() if count}
                before = len(ledger.acknowledged)
                with Client(url, timeout=PATIENCE) as client:
                    for name in [*ledger.sent.keys() - ledger.acknowledged]:
                        ledger.send(client, name, ledger.sent[name])
                again = len(ledger.acknowledged) - before
                faults |= {f"{name} after a repetition": n for name, n in ledger.faults(place).items() if n}
                told = ", ".join(f"{count} {name}" for name, count in faults.items())
                yield Try(told, {"requests acknowledged": acknowledged, "in flight, sent again": again})
            if number < tries:
                acknowledged = _loaded(running, url, ledger, number, stop=chances.randrange(20, 120))


def _loaded(running: "subprocess.Popen[str]", url: str, ledger: Ledger, number: int, *, stop: int) -> int:
    """Send events from several clients until so many requests are acknowledged, then kill; how many were."""
    kept, before = threading.Semaphore(0), len(ledger.acknowledged)

    def work(part: int) -> None:
        chances = random.Random(f"{number} {part}")
        with Client(url, timeout=PATIENCE) as client:
            for step in range(10_000):
                name = f"{number}-{part}-{step}"
                events = (
                    NewEvent(f"{name}-{place}", f"reader {part}", f"i{chances.randrange(25):02}")
                    for place in range(chances.randrange(1, 6))
                )
                try:
                    ledger.send(client, name, tuple(events))
                except ServingError:
                    return
                finally:
                    kept.release()

    threads = [threading.Thread(target=work, args=[part]) for part in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for _ in range(stop):
        kept.acquire(timeout=PATIENCE)
    running.kill()
    for thread in threads:
        thread.join(PATIENCE)
    return len(ledger.acknowledged) - before


CLAIMS = (
    Claim(
        "events",
        "server killed while events come in: no acknowledged event lost, none stored twice, in part or from nowhere",
        tries=30,
        few=2,
        tried=killed,
    ),
)
