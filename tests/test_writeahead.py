"""A write-ahead log that is damaged is told from one that a crash cut short."""

import random
import sqlite3

import pytest

from sasrec.errors import ServingError
from sasrec.serving.sqlite import SqliteStore
from sasrec.serving.store import Event
from sasrec.serving.writeahead import is_damaged

FRAME = 24 + 4096


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a kill leaves of twelve transactions, the first two of them in the file already: the file and its log."""
    path = tmp_path_factory.mktemp("left") / "events.sqlite"
    store = SqliteStore(path)
    for number in range(12):
        store.add([Event(f"{number} {part}", "ada", f"item {number}", number) for part in range(9)]).result()
        if number == 1:
            other = sqlite3.connect(path)
            other.execute("PRAGMA wal_checkpoint(RESTART)")
            other.close()
    found = path.read_bytes(), path.with_name("events.sqlite-wal").read_bytes()
    store.close()
    return found


@pytest.fixture
def opened(left, tmp_path):
    """Opens a store whose log is given; gives the number of transactions that it holds."""

    def start(log):
        path = tmp_path / "events.sqlite"
        path.write_bytes(left[0])
        path.with_name("events.sqlite-wal").write_bytes(log)
        path.with_name("events.sqlite-shm").unlink(missing_ok=True)
        store = SqliteStore(path)
        try:
            count, rest = divmod(len(store.history("ada")), 9)
        finally:
            store.close()
        assert rest == 0
        return count

    return start


def test_a_log_is_whole_as_a_kill_leaves_it(opened, left):
    assert opened(left[1]) == 12


def test_no_log_and_an_empty_one_are_whole(tmp_path):
    (tmp_path / "empty").write_bytes(b"")

    assert not is_damaged(tmp_path / "none")
    assert not is_damaged(tmp_path / "empty")


def test_a_log_that_ends_anywhere_is_whole_and_has_what_came_before(opened, left):
    chances = random.Random(4)
    ends = sorted(chances.sample(range(len(left[1])), 40))

    counts = [opened(left[1][:end]) for end in ends]

    assert counts == sorted(counts)
    assert counts[-1] > 8


def test_a_last_transaction_that_a_crash_left_in_part_is_no_damage(opened, left):
    torn = bytearray(left[1])
    torn[-FRAME - 9] ^= 1

    assert opened(bytes(torn)) == 11


def test_what_a_refused_transaction_left_after_a_shorter_one_is_no_damage(opened, left):
    starts = range(32, len(left[1]), FRAME)
    ends = [start for start in starts if left[1][start + 4 : start + 8] != bytes(4)]
    last = left[1][ends[-2] + FRAME :]  # of the same round of the log, with checksums that do not follow

    assert len(last) > FRAME
    assert opened(left[1] + last) == 12


@pytest.mark.parametrize("place", [3, 17, 29, 32 + 5, 32 + 23, 32 + 24, 32 + FRAME + 9, 32 + 5 * FRAME + 4000])
def test_a_flipped_bit_before_whole_transactions_is_damage(opened, left, place):
    flipped = bytearray(left[1])
    flipped[place] ^= 16

    with pytest.raises(ServingError, match=r"events\.sqlite-wal: is damaged; restore it with events\.sqlite, or move"):
        opened(bytes(flipped))


def test_what_is_left_of_an_earlier_round_of_the_log_is_no_damage(tmp_path):
    path = tmp_path / "events.sqlite"
    store = SqliteStore(path)
    for number in range(20):
        store.add([Event(f"{number} {part}", "ada", "i03") for part in range(9)]).result()
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(RESTART)")
    other.close()
    store.add([Event("after", "ada", "i03")]).result()
    log = tmp_path / "copy-wal"
    log.write_bytes(path.with_name("events.sqlite-wal").read_bytes())
    store.close()

    assert log.stat().st_size > 10 * FRAME, "the earlier round is still there"
    assert not is_damaged(log)


def test_a_log_that_is_a_folder_is_an_error(tmp_path):
    (tmp_path / "events.sqlite-wal").mkdir()

    with pytest.raises(ServingError, match=r"events.sqlite-wal: cannot be read: Is a directory; "):
        SqliteStore(tmp_path / "events.sqlite")
