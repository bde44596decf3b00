"""A generated interaction log whose best possible recommendation is known.

An invented library is lent out for two years. Four short chapters, in reading order:

* **World**: works of one or several parts, each with a genre, a general appeal, a day of release (the parts of a
  series follow one another), and a wave of fashion that lifts and drops it.
* **Crowd**: readers with a lasting taste over genres, who come in sessions.
* **One step**: what a reader takes next is drawn from one explicit distribution over the catalogue. A part of it goes
  to the next part of every series begun, most to the series read last; the rest to all that is out and unread, by
  its appeal on that day times the reader's appetite, a mixture of taste and of the mood of the session, which drifts
  with what is read.
* **Oracle**: since that distribution is known, so is the best ranking that anybody could give.

No reader takes an item twice, so recommendations on this log rightly exclude seen items.
All chance comes from `Generator.random` of one PCG64 stream, the method that numpy keeps stable.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from sasrec.data.sequences import offsets_of
from sasrec.errors import ConfigError

FIRST_DAY = date(2023, 1, 1)
DAYS = 730
DAY_SECONDS = 86_400

# How strongly a series calls for its next part just after a part was read, in units of all exploring together, and
# what is left of that call after one event spent elsewhere: the last item alone does not tell what comes next.
CALL = 0.8
PATIENCE = 0.8
# Share of the session's mood in a reader's appetite, and share of one event in the mood.
SWAY = 0.6
DRIFT = 0.4
# Share of events that open a session.
OPENING = 0.2
# Share of works that stand alone; a series has 2 to `PARTS` parts. Few readers begin one in its middle.
ALONE = 0.33
PARTS = 10
MIDDLE = 0.1
# How far a wave of fashion and the time after its release lift an item.
FASHION = 4.0
NOVELTY = 3.0
# Taste is a power of uniform draws: the higher, the fewer genres matter to a reader.
TASTE_POWER = 8
_TOGETHER = 64  # readers whose probabilities stay in the cache

GENRES = {
    "mystery": "Alibi Cipher Clue Footprint Inquest Ledger Locket Riddle Shadow Verdict Witness Whisper",
    "fantasy": "Amulet Crown Dragon Griffin Kingdom Oracle Phoenix Prophecy Rune Sorcerer Throne Wand",
    "space": "Asteroid Comet Eclipse Galaxy Nebula Orbit Planet Pulsar Quasar Satellite Starship Supernova",
    "romance": "Bouquet Courtship Embrace Engagement Heart Kiss Letter Promise Rose Serenade Summer Waltz",
    "history": "Banner Cathedral Dynasty Empire Fortress Harvest Legion Manuscript Regent Siege Treaty Voyage",
    "nature": "Badger Falcon Fern Glacier Heron Meadow Orchard Otter River Thicket Tundra Willow",
    "seafaring": "Anchor Captain Compass Cutter Harbour Island Lagoon Lighthouse Mast Reef Schooner Tide",
    "comedy": "Banana Bicycle Butler Goose Hat Marmalade Parrot Picnic Pudding Teapot Trombone Umbrella",
    "horror": "Attic Cellar Crypt Fog Gargoyle Ghost Mirror Moor Mummy Raven Scarecrow Tomb",
    "cookery": "Almond Basil Cinnamon Dumpling Fig Honey Kitchen Lemon Pepper Saffron Soup Truffle",
}
ADJECTIVES = (
    "Amber Ancient Autumn Azure Borrowed Brass Bright Broken Copper Crimson Crooked Distant Emerald Endless Fading "
    "Final First Forgotten Frozen Gentle Gilded Golden Hidden Hollow Invisible Ivory Last Little Lonely Lost Lucky "
    "Midnight Moonlit Northern Painted Patient Quiet Restless Scarlet Second Secret Silent Silver Sleeping Stolen "
    "Unwritten Velvet Wandering"
).split()


@dataclass(frozen=True, eq=False)
class World:
    """The catalogue. V items in S works and G genres; the items of a work are neighbours, in reading order.

    Attributes:
        titles: Title of each work, (S,).
        first: First item of each work, int64 (S,).
        parts: Number of parts of each work, int64 (S,).
        work: Work of each item, int64 (V,).
        genre: Genre of each item, int64 (V,).
        released: Day of release of each item, int64 (V,); negative before the log begins.
        appeal: Weight of each item for a reader who explores on a day, (DAYS, V); 0 before its release.
    """

    titles: list[str]
    first: np.ndarray
    parts: np.ndarray
    work: np.ndarray
    genre: np.ndarray
    released: np.ndarray
    appeal: np.ndarray


@dataclass(frozen=True, eq=False)
class Crowd:
    """U readers and when they come; events lie flat, reader after reader, as in `Sequences`.

    Attributes:
        taste: Lasting share of each genre in a reader's appetite, (U, G); rows sum to one.
        offsets: Events of reader u are `offsets[u]:offsets[u + 1]`, int64 (U + 1,).
        seconds: Time of each event since the log's first midnight, int64 (events,); rises for each reader.
        opens: True where an event opens a session, (events,).
    """

    taste: np.ndarray
    offsets: np.ndarray
    seconds: np.ndarray
    opens: np.ndarray


@dataclass(frozen=True, eq=False)
class State:
    """What the next step of some readers depends on, besides their taste and the day. Changed in place.

    Attributes:
        unread: True where a reader has not yet taken an item, (U, V).
        mood: Share of each genre in the mood of the session, (U, G); rows sum to one.
        call: How much each work calls the reader back, (U, S).
        ahead: The part that would come next in each work, (U, S); 0 where it is not begun.
    """

    unread: np.ndarray
    mood: np.ndarray
    call: np.ndarray
    ahead: np.ndarray


def make_world(items: int, rng: np.random.Generator) -> World:
    """Draw a catalogue of exactly `items` items."""
    # A third of the works stand alone, the others have 2 to 10 parts; the last work is cut to fit.
    spread = rng.random(items)
    parts = np.where(spread < ALONE, 1, 2 + np.floor((spread - ALONE) / (1 - ALONE) * (PARTS - 1))).astype(np.int64)
    works = int(np.searchsorted(np.cumsum(parts), items)) + 1
    parts = parts[:works]
    parts[-1] -= parts.sum() - items
    first = np.cumsum(parts) - parts
    work = np.repeat(np.arange(works), parts)
    part = np.arange(items) - first[work]

    nouns = [noun for words in GENRES.values() for noun in words.split()]
    stems = _shuffle(len(ADJECTIVES) * len(nouns), rng)[:works]
    titles = [f"The {ADJECTIVES[stem // len(nouns)]} {nouns[stem % len(nouns)]}" for stem in stems.tolist()]
    genre = (stems % len(nouns) // (len(nouns) // len(GENRES)))[work]

    # Works begin evenly from six years before the log to its end, so that there is always something to read.
    begun = np.floor((_shuffle(works, rng) / works * 4 - 3) * DAYS)
    pause = 20 + np.floor(80 * rng.random(works))
    released = (begun[work] + pause[work] * part).astype(np.int64)
    # A series that would outlast the log had begun earlier.
    final = released[first + parts - 1]
    released -= np.maximum(final - (DAYS - 30), 0)[work]

    quality = (0.03 + rng.random(works)) ** -1.0
    quality = quality[work] * (0.5 + rng.random(items)) * np.where(part == 0, 1.0, MIDDLE)
    peak = DAYS * rng.random(items)
    width = 20 + 60 * rng.random(items)
    age = np.arange(DAYS)[:, None] - released
    fashion = 1 + FASHION / (1 + ((age + released - peak) / width) ** 2)
    novelty = 1 + NOVELTY / (1 + (age / 20) ** 2)
    appeal = np.where(age >= 0, quality * fashion * novelty, 0.0)
    return World(titles, first, parts, work, genre, released, appeal)


def make_crowd(users: int, longest: int, rng: np.random.Generator) -> Crowd:
    """Draw readers with 5 to `longest` events each, about 27 on average."""
    lengths = np.minimum(5 - np.floor(22.5 * np.log(1 - rng.random(users))), longest).astype(np.int64)
    offsets = offsets_of(lengths)
    # A power of uniform draws leaves each reader two or three genres that matter.
    taste = rng.random((users, len(GENRES))) ** TASTE_POWER
    taste /= taste.sum(axis=1, keepdims=True)

    events = int(offsets[-1])
    reader = np.repeat(np.arange(users), lengths)
    opens = rng.random(events) < OPENING
    opens[offsets[:-1]] = True
    # Minutes between the events of a session, days between sessions.
    pause = np.where(opens, DAY_SECONDS * (0.5 + 8 * rng.random(events)), 60 + 7200 * rng.random(events))
    pause = np.floor(pause).astype(np.int64)
    pause[offsets[:-1]] = 0
    since = np.cumsum(pause)
    since -= since[offsets[:-1]][reader]
    room = np.maximum(DAYS * DAY_SECONDS - 1 - since[offsets[1:] - 1], 0)
    joined = np.floor(room * np.sqrt(rng.random(users))).astype(np.int64)
    return Crowd(taste, offsets, joined[reader] + since, opens)


def chances(world: World, taste: np.ndarray, state: State, days: np.ndarray) -> np.ndarray:
    """The probability of every item to be taken next, float64 (U, V); rows sum to one.

    Args:
        taste: Taste of each of the U readers, (U, G).
        days: Day of each reader's next event, int64 (U,).
    """
    appetite = (1 - SWAY) * taste + SWAY * state.mood
    weight = world.appeal[days]
    weight *= appetite[:, world.genre]
    weight *= state.unread
    weight /= weight.sum(axis=1, keepdims=True)
    reader, work = np.nonzero((state.call > 0) & (state.ahead < world.parts))
    item = world.first[work] + state.ahead[reader, work]
    out = world.released[item] <= days[reader]
    # The next parts of one reader belong to different works, so no place is added to twice.
    weight[reader[out], item[out]] += state.call[reader[out], work[out]]
    weight /= weight.sum(axis=1, keepdims=True)
    return weight


def live(world: World, crowd: Crowd, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Let every reader take one item after the other.

    Returns:
        The item of every event, int64 (events,), and `chances` before each reader's last event, (U, V).
    """
    draws = rng.random(len(crowd.seconds))
    taken = np.empty(len(draws), dtype=np.int64)
    last = np.empty((len(crowd.taste), len(world.genre)))
    # Readers of like length together, the longest first, so that those who go on are always the first rows.
    order = np.argsort(-np.diff(crowd.offsets), kind="stable")
    for start in range(0, len(order), _TOGETHER):
        readers = order[start : start + _TOGETHER]
        lengths = crowd.offsets[readers + 1] - crowd.offsets[readers]
        state = _fresh_state(world, crowd.taste[readers])
        for step in range(int(lengths[0])):
            going = readers[lengths > step]
            event = crowd.offsets[going] + step
            here = State(*(one[: len(going)] for one in (state.unread, state.mood, state.call, state.ahead)))
            opens = crowd.opens[event]
            here.mood[opens] = crowd.taste[going][opens]
            chance = chances(world, crowd.taste[going], here, crowd.seconds[event] // DAY_SECONDS)
            ends = lengths[: len(going)] == step + 1
            last[going[ends]] = chance[ends]
            total = np.cumsum(chance, axis=1)
            taken[event] = (total <= (draws[event] * total[:, -1])[:, None]).sum(axis=1)
            _remember(world, here, taken[event])
    return taken, last


def _fresh_state(world: World, taste: np.ndarray) -> State:
    readers, works = len(taste), len(world.parts)
    unread = np.ones((readers, len(world.genre)), dtype=bool)
    return State(unread, taste.copy(), np.zeros((readers, works)), np.zeros((readers, works), dtype=np.int64))


def _remember(world: World, state: State, item: np.ndarray) -> None:
    """What taking `item`, one for each reader, changes in the state."""
    rows, work = np.arange(len(item)), world.work[item]
    state.unread[rows, item] = False
    state.mood[:] *= 1 - DRIFT
    state.mood[rows, world.genre[item]] += DRIFT
    state.call[:] *= PATIENCE
    state.call[rows, work] = CALL
    state.ahead[rows, work] = np.maximum(state.ahead[rows, work], item - world.first[work] + 1)


def best_possible(chance: np.ndarray, target: np.ndarray) -> dict[str, tuple[float, float]]:
    """What ranking by the true chances reaches on the held-out events, ties at their expected rank.

    The oracle knows each reader's taste, mood and calling series and the day of the event, so it is a bound for every
    model that sees only the log. Items already read have chance 0 and are never recommended.

    Args:
        chance: True chance of every item before each reader's last event, (U, V).
        target: The item that was taken, (U,).

    Returns:
        Mean over readers and standard error of "NDCG@10" and "HR@10".
    """
    own = chance[np.arange(len(target)), target][:, None]
    rank = (chance > own).sum(axis=1) + ((chance == own).sum(axis=1) - 1) / 2
    scores = {"NDCG@10": np.where(rank < 10, 1 / np.log2(rank + 2), 0.0), "HR@10": (rank < 10).astype(float)}
    return {
        name: (float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
        for name, values in scores.items()
    }


@dataclass(frozen=True, eq=False)
class Demo:
    """The generated log.

    Attributes:
        log: Columns user_id, item_id (text) and timestamp (seconds since 1970), sorted by time.
        items: Columns item_id, title, genre, released (date), one row an item.
        best: What the best possible ranking reaches on every user's last event; see `best_possible`.
    """

    log: pl.DataFrame
    items: pl.DataFrame
    best: dict[str, tuple[float, float]]

    def sha256(self) -> str:
        """Hex digest of log and items as CSV: the same on every machine for the same arguments of `generate`."""
        digest = hashlib.sha256()
        for table in (self.log, self.items):
            digest.update(table.write_csv().encode())
        return digest.hexdigest()


def generate(*, users: int = 3000, items: int = 1200, seed: int = 0) -> Demo:
    """Generate a log of about 27 events a user.

    Args:
        users: Readers, 2 to 10,000,000.
        items: Size of the catalogue, 50 to 5,000.
        seed: Another seed gives another log of the same kind.

    Raises:
        ConfigError: An argument is out of range.
    """
    if not 2 <= users <= 10_000_000 or not 50 <= items <= 5000 or seed < 0:
        raise ConfigError(
            f"a demo needs 2 to 10,000,000 users, 50 to 5,000 items and a seed of 0 or more; "
            f"found users={users}, items={items}, seed={seed}"
        )
    rng = np.random.default_rng(seed)
    world = make_world(items, rng)
    crowd = make_crowd(users, items // 4, rng)
    taken, last = live(world, crowd, rng)
    # Shuffled names, so that no id tells its neighbours in a series.
    names = np.array([f"b{number:04}" for number in _shuffle(items, rng)])
    readers = np.array([f"reader-{number:04}" for number in range(1, users + 1)])
    start = int((FIRST_DAY - date(1970, 1, 1)).total_seconds())
    log = pl.DataFrame(
        {
            "user_id": readers[np.repeat(np.arange(users), np.diff(crowd.offsets))],
            "item_id": names[taken],
            "timestamp": start + crowd.seconds,
        }
    ).sort("timestamp", maintain_order=True)
    best = best_possible(last, taken[crowd.offsets[1:] - 1])
    return Demo(log, _described(world, names), best)


def _described(world: World, names: np.ndarray) -> pl.DataFrame:
    part = np.arange(len(names)) - world.first[world.work] + 1
    series = world.parts[world.work] > 1
    titles = [
        world.titles[work] + (f", Part {number}" if serial else "")
        for work, number, serial in zip(world.work, part, series, strict=True)
    ]
    genres = np.array(list(GENRES))
    released = [FIRST_DAY + timedelta(days=day) for day in world.released.tolist()]
    table = {"item_id": names, "title": titles, "genre": genres[world.genre], "released": released}
    return pl.DataFrame(table).sort("item_id")


def _shuffle(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.argsort(rng.random(count), kind="stable")
