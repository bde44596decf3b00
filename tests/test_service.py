"""Versions of the model: activated whole or not at all, gone back to, and found again after a restart."""

import asyncio
import gc
import json
import logging
import os
import shutil
import socket
import sqlite3
import stat
import threading
import urllib.request
import weakref
from contextlib import ExitStack, contextmanager
from unittest.mock import Mock

import numpy as np
import pytest

import sasrec
from sasrec import bundle
from sasrec.client import Client
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, ConfigError, DataError, OutputError, ScoreError, ServingError
from sasrec.retrieval.recommender import Recommender
from sasrec.serving import administration
from sasrec.serving.administration import Command, send
from sasrec.serving.api import Recommend
from sasrec.serving.problems import AWAY, Problem
from sasrec.serving.service import Service
from sasrec.serving.store import Event
from sasrec.serving.versions import Course, Folder


@pytest.fixture(scope="module")
def models(tmp_path_factory, small_model, walks, small_config):
    """Three folders of models: two networks and a Markov chain of the same log."""
    folder = tmp_path_factory.mktemp("models")
    other = sasrec.train(sasrec.split(walks), sasrec.Config(**(small_config.to_dict() | {"seed": 2})))
    from sasrec.retrieval.counting import Markov

    markov = Recommender(
        Markov.of(walks.histories, items=25), users=walks.users, items=walks.items, histories=walks.histories
    )
    for name, model in {"one": small_model, "two": other, "three": markov}.items():
        model.save(folder / name)
    return folder


@pytest.fixture
def open_service(tmp_path):
    """Opens the service of one data folder, and closes it at the end or when it is opened again."""
    opened = []

    def start(model, **options):
        close()
        folder = Folder(tmp_path / "data")
        try:
            opened.append(Service(model, folder, **options))
        except BaseException:
            folder.close()
            raise
        return opened[-1]

    def close():
        while opened:
            service = opened.pop()
            service.store.close()
            service.folder.close()

    yield start
    close()


def best(service, user="u19"):
    (answer,) = service.answer([Recommend(user, k=3)])
    return [one.item for one in answer.items]


def offline(path, user="u19"):
    return sasrec.load(path).recommend([user], k=3)["item_id"].to_list()


def test_a_course_goes_forward_and_back():
    a, b, c, d = ("a" * 12, "b" * 12, "c" * 12, "d" * 12)

    course = Course().forward(a, given=a).forward(b).forward(c).forward(d)

    assert course == Course(d, (c, b), a)
    assert course.back() == Course(c, (b,), a)
    assert course.forward(c) == Course(c, (d, b), a)
    with pytest.raises(ServingError, match="no earlier version"):
        Course(a).back()


def test_a_model_is_activated_and_rolled_back(open_service, models):
    service = open_service(models / "one")
    first = service.served.version

    second = service.activate(models / "two")

    assert (service.served.version, best(service)) == (second, offline(models / "two"))
    assert service.rollback() == first
    assert best(service) == offline(models / "one")


@pytest.mark.parametrize("name", ["one", "three"])
def test_a_version_that_is_replaced_goes_without_a_search_for_garbage(open_service, models, name):
    service = open_service(models / name)
    best(service)
    replaced = [weakref.ref(one) for one in (service.served, service.served.finder, service.served.model.scorer)]
    gc.collect()
    gc.disable()
    try:
        service.activate(models / "two")

        assert [one() for one in replaced] == [None, None, None]
    finally:
        gc.enable()


def test_a_request_is_answered_by_the_version_that_its_user_was_read_for(open_service, models):
    service = open_service(models / "one")
    first = service.served
    [read] = first.informed([Recommend("u19", k=3)])
    second = service.activate(models / "two")

    answers = service.answer([read, Recommend("u19", k=3), read])

    assert [one.model_version for one in answers] == [first.version, second, first.version]
    found = [[item.item for item in one.items] for one in answers]
    assert found == [offline(models / name) for name in ("one", "two", "one")]


def test_what_is_read_before_holds_the_events_acknowledged_until_then(open_service, models):
    service = open_service(models / "one")
    service.store.add([Event("1", "ada", "i03")]).result(60)

    [read] = service.served.informed([Recommend("ada")])
    service.store.add([Event("2", "ada", "i04")]).result(60)
    before, after = service.answer([read, Recommend("ada")])

    assert (before.used_history, after.used_history) == (1, 2)


def test_the_model_is_not_kept_waiting_by_the_store_of_what_was_read_before(open_service, models, monkeypatch):
    service = open_service(models / "one")
    [read] = service.served.informed([Recommend("u19", k=3)])
    monkeypatch.setattr(service.store, "known", Mock(side_effect=AssertionError("asked while the model is at work")))

    (answer,) = service.answer([read])

    assert [one.item for one in answer.items] == offline(models / "one")


def test_users_of_a_batch_are_read_together_and_told_alike_that_the_database_is_away(open_service, models, monkeypatch):
    service = open_service(models / "one")
    away = Mock(side_effect=ServingError("gone", status=503))
    monkeypatch.setattr(service.store, "known", away)

    read = service.served.informed([Recommend("ada"), Recommend(history=["i03"]), Recommend("grace")])
    answers = service.answer(read)

    assert away.call_count == 1
    assert [getattr(one, "kind", None) for one in answers] == [AWAY, None, AWAY]


def test_a_service_is_read_again_as_it_was_left(open_service, models):
    service = open_service(models / "one")
    second = service.activate(models / "two")

    assert open_service(models / "one").served.version == second


def test_another_model_at_the_start_is_activated(open_service, models):
    first = open_service(models / "one").served.version

    service = open_service(models / "three")

    assert service.served.model.scorer.kind == "markov"
    assert service.rollback() == first


def test_a_model_that_was_rolled_back_does_not_come_again_with_the_next_start(open_service, models):
    first = open_service(models / "one").served.version
    open_service(models / "two").rollback()

    assert open_service(models / "two").served.version == first


def test_activating_what_is_served_changes_nothing(open_service, models):
    service = open_service(models / "one")
    before = service.served

    assert service.activate(models / "one") == before.version
    assert service.served is before
    with pytest.raises(ServingError, match="no earlier version"):
        service.rollback()


RULES = [
    Recommend("u19", k=3),
    Recommend("u07", k=30),
    Recommend("u19", k=5, exclude_seen=False),
    Recommend(history=["i03", "i04", "i03"], k=4, deny=["i05", "i06"]),
    Recommend("u19", history=["i10"], k=4, allow=["i01", "i02", "i02", "i11", "i12", "unheard of"]),
    Recommend("u19", k=4, allow=[]),
    Recommend("nobody", k=4),
    Recommend("u19", k=4, scorer="popularity"),
]


def told(answers):
    return [
        (
            one.source,
            one.used_history,
            one.unknown_items,
            [(item.item, pytest.approx(item.score, 1e-5)) for item in one.items],
        )
        for one in answers
    ]


@pytest.mark.parametrize("overlap", [None, 1.0])
def test_answers_by_an_index_are_those_without_one(open_service, models, monkeypatch, overlap):
    asked = RULES * 10  # more than go through the index at once
    plain = open_service(models / "one")
    assert plain.served.model.index is None
    expected = told(plain.answer(asked))

    monkeypatch.setattr("sasrec.serving.service.LARGE", 25)
    service = open_service(models / "one", overlap=overlap)

    assert service.served.model.index is not None
    assert told(service.answer(asked)) == expected
    assert [told(service.answer([one])) for one in RULES] == [[one] for one in expected[: len(RULES)]]


def test_every_version_has_an_index_of_its_own_vectors(open_service, models, monkeypatch):
    monkeypatch.setattr("sasrec.serving.service.LARGE", 25)
    service = open_service(models / "one")

    service.activate(models / "two")
    second = best(service)
    service.activate(models / "three")
    counted = service.served.model.index
    service.rollback()
    service.rollback()

    assert second == offline(models / "two")
    assert counted is None  # what counts has no vectors
    assert best(service) == offline(models / "one")
    assert service.served.model.index is not None


def test_a_version_whose_overlap_cannot_be_measured_is_refused_and_the_last_goes_on(
    open_service, models, monkeypatch, tmp_path, small_model
):
    first = Vocabulary(small_model.users.ids[:1], "user")
    scorer, items, histories = small_model.scorer, small_model.items, small_model.histories.take(np.arange(1))
    Recommender(scorer, users=first, items=items, histories=histories).save(tmp_path / "alone")
    monkeypatch.setattr("sasrec.serving.service.LARGE", 25)
    service = open_service(models / "one", overlap=0.9)
    before = service.served

    with pytest.raises(ConfigError, match="at least two users"):
        service.activate(tmp_path / "alone")

    assert service.served is before


def damage(source, target, name="weights.safetensors"):
    shutil.copytree(source, target)
    data = bytearray((target / name).read_bytes())
    data[-3] ^= 1
    (target / name).write_bytes(data)
    return target


def test_a_broken_model_is_refused_and_the_last_good_one_goes_on(open_service, models, tmp_path):
    service = open_service(models / "one")
    before = service.served.version
    broken = damage(models / "two", tmp_path / "broken")

    with pytest.raises(BundleError, match=r"weights.safetensors: is damaged"):
        service.activate(broken)
    with pytest.raises(BundleError, match="does not exist"):
        service.activate(tmp_path / "missing")

    assert (service.served.version, best(service)) == (before, offline(models / "one"))
    assert os.listdir(tmp_path / "data" / "models") == [before]


def test_a_model_that_cannot_be_read_is_named_and_no_copy_of_it_is_left(open_service, models, tmp_path, monkeypatch):
    service = open_service(models / "one")
    monkeypatch.setattr(bundle, "regular", lambda path, name: path / f"{name} of no one")

    with pytest.raises(BundleError, match="of no one: cannot be read: No such file or directory"):
        service.folder.take(models / "two")

    assert os.listdir(tmp_path / "data" / "models") == [service.served.version]


def test_a_model_whose_files_do_not_fit_is_refused_under_its_own_name(open_service, models, tmp_path, small_model):
    scorer, users, items = small_model.scorer, small_model.users, small_model.items
    odd = Recommender(scorer, users=users, items=items, histories=small_model.histories)
    scorer.network.items.weight.data[0, 0] = float("nan")
    try:
        odd.save(tmp_path / "odd")
    finally:
        scorer.network.items.weight.data[0, 0] = sasrec.load(models / "one").scorer.network.items.weight[0, 0]
    service = open_service(models / "one")

    with pytest.raises(BundleError, match=f"{tmp_path / 'odd'}: weights are not finite"):
        service.activate(tmp_path / "odd")

    assert os.listdir(tmp_path / "data" / "models") == [service.served.version]


def test_a_broken_model_at_the_start_leaves_the_last_good_one(open_service, models, tmp_path, caplog):
    before = open_service(models / "one").served.version
    broken = damage(models / "two", tmp_path / "broken")

    with caplog.at_level(logging.ERROR):
        service = open_service(broken)

    assert service.served.version == before
    assert "is damaged" in caplog.text


def test_a_model_whose_scores_are_no_numbers_at_the_start_leaves_the_last_good_one(
    open_service, models, tmp_path, caplog
):
    before = open_service(models / "one").served.version
    huge = sasrec.load(models / "two")
    huge.scorer.network.items.weight.data.fill_(3e38)
    huge.save(tmp_path / "huge")

    with caplog.at_level(logging.ERROR):
        service = open_service(tmp_path / "huge")

    assert (service.served.version, best(service)) == (before, offline(models / "one"))
    assert f"version {before} goes on instead" in caplog.text
    assert os.listdir(tmp_path / "data" / "models") == [before]
    with pytest.raises(ScoreError):
        service.activate(tmp_path / "huge")


def test_a_broken_model_at_the_first_start_is_an_error(open_service, models, tmp_path):
    with pytest.raises(BundleError, match="is damaged"):
        open_service(damage(models / "two", tmp_path / "broken"))


def test_a_damaged_copy_is_stepped_over_where_its_model_is_gone(open_service, models, tmp_path, caplog):
    first = open_service(models / "one").served.version
    service = open_service(models / "two")
    copy = tmp_path / "data" / "models" / service.served.version
    shutil.rmtree(copy)
    damage(models / "two", copy)

    with caplog.at_level(logging.ERROR):
        assert open_service(tmp_path / "gone").served.version == first


@pytest.mark.parametrize("lost", [False, True])
def test_where_no_copy_can_be_used_the_whole_model_of_the_start_answers(open_service, models, tmp_path, caplog, lost):
    service = open_service(models / "one")
    folder, versions = tmp_path / "data" / "models", [service.served.version, service.activate(models / "two")]
    for version in versions:
        damaged = damage(folder / version, tmp_path / version)
        shutil.rmtree(folder / version)
        if not lost:
            shutil.copytree(damaged, folder / version)

    with caplog.at_level(logging.ERROR):
        again = open_service(models / "one")

    assert (again.served.version, best(again)) == (versions[0], offline(models / "one"))
    assert f"{models / 'one'} goes on instead" in caplog.text
    assert offline(folder / versions[0]) == offline(models / "one")


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_damaged_copy_is_made_again_at_the_start_from_a_model_that_is_whole(
    open_service, models, tmp_path, name, earlier
):
    if earlier:
        open_service(models / "one")
    version = open_service(models / "two").served.version
    copy = tmp_path / "data" / "models" / version
    shutil.rmtree(copy)
    damage(models / "two", copy, name)

    service = open_service(models / "two")

    assert (service.served.version, best(service)) == (version, offline(models / "two"))
    assert len(service.course.before) == earlier
    assert offline(copy) == offline(models / "two")


def test_a_damaged_copy_is_made_again_from_a_model_that_is_whole(open_service, models, tmp_path):
    service = open_service(models / "one")
    second = service.activate(models / "two")
    service.activate(models / "three")
    copy = tmp_path / "data" / "models" / second
    shutil.rmtree(copy)
    damage(models / "two", copy)

    assert service.activate(models / "two") == second
    assert best(service) == offline(models / "two")


def test_a_version_to_go_back_to_stays_when_its_titles_cannot_be_read(open_service, models, tmp_path):
    titles = tmp_path / "items.csv"
    titles.write_text("item_id,title\ni03,Thing\n")
    service = open_service(models / "one", titles=titles)
    first = service.served.version
    service.activate(models / "two")
    titles.write_text("item_id,title\nother,Thing\n")

    with pytest.raises(DataError):
        service.activate(models / "one")

    titles.write_text("item_id,title\ni03,Thing\n")
    assert service.rollback() == first


def torn(text):
    return text[: len(text) // 2]


def of_another_digit(name):
    """Changes a digit of a version that the course names."""

    def change(text):
        course = json.loads(text)
        course[name] = ("1" if course[name][0] == "0" else "0") + course[name][1:]
        return json.dumps(course)

    return change


@pytest.mark.parametrize(
    "change", [torn, of_another_digit("version"), of_another_digit("given"), lambda _: '{"version": "../../etc"}']
)
def test_a_course_that_cannot_be_read_is_told_and_costs_no_version(open_service, models, tmp_path, caplog, change):
    first = open_service(models / "one").served.version
    second = open_service(models / "one").activate(models / "two")
    current = tmp_path / "data" / "current.json"
    current.write_text(change(current.read_text()))
    kept = {first, second}

    with caplog.at_level(logging.WARNING):
        service = open_service(models / "one")

    assert f"{current}: is damaged" in caplog.text
    assert best(service) == offline(models / "one")
    assert {*os.listdir(tmp_path / "data" / "models")} == kept
    assert service.rollback() == second
    assert open_service(models / "one").served.version == second


def test_a_course_without_a_seal_is_that_of_an_earlier_server(open_service, models, tmp_path):
    first = open_service(models / "one").served.version
    second = open_service(models / "one").activate(models / "two")
    course = {"version": second, "before": [first], "given": first}
    (tmp_path / "data" / "current.json").write_text(json.dumps(course))

    service = open_service(models / "one")

    assert (service.served.version, service.course) == (second, Course(second, (first,), first))


def test_a_start_that_fails_deletes_no_version(open_service, models, tmp_path):
    service = open_service(models / "one")
    version = service.served.version
    extra = tmp_path / "data" / "models" / "0123456789ab"
    shutil.copytree(models / "two", extra)
    shutil.rmtree(tmp_path / "data" / "models" / version)

    with pytest.raises(BundleError):
        open_service(tmp_path / "gone")

    assert extra.is_dir()


def test_only_as_many_versions_stay_as_can_be_gone_back_to(open_service, models, tmp_path):
    service = open_service(models / "one")
    for name in ("two", "three", "one", "two"):
        service.activate(models / name)

    kept = {service.course.version, *service.course.before}
    assert set(os.listdir(tmp_path / "data" / "models")) == kept
    assert len(kept) == 3


def test_what_a_killed_server_left_half_written_is_swept_away(open_service, models, tmp_path):
    service = open_service(models / "one")
    for draft in (".current.json.x.tmp", "models/.abc.x.tmp", "models/0123456789ab"):
        (tmp_path / "data" / draft).mkdir()
        (tmp_path / "data" / draft / "file").write_text("half")

    open_service(models / "one")

    assert os.listdir(tmp_path / "data" / "models") == [service.served.version]
    assert not (tmp_path / "data" / ".current.json.x.tmp").exists()


def test_a_data_folder_has_one_server(open_service, models, tmp_path):
    open_service(models / "one")

    with pytest.raises(ServingError, match="another server uses this data folder"):
        Folder(tmp_path / "data")


def test_a_data_folder_is_its_owner_s_alone(open_service, models, tmp_path):
    open_service(models / "one")

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("mode", [0o755, 0o2770])
def test_what_is_in_a_data_folder_is_its_owner_s_alone_whatever_the_folder_s_mode(open_service, models, tmp_path, mode):
    data, before = tmp_path / "data", os.umask(0)
    try:
        data.mkdir()
        data.chmod(mode)
        service = open_service(models / "one")
        service.store.add([Event("1", "u19", "i03")]).result()

        found = modes(data)
    finally:
        os.umask(before)

    assert {name: bits & 0o777 for name, bits in found.items()} == {
        **dict.fromkeys(["events.sqlite", "events.sqlite-wal", "events.sqlite-shm", "current.json", "lock"], 0o600),
        "models": 0o700,
    }
    assert stat.S_IMODE(data.stat().st_mode) == mode


def test_what_an_earlier_server_left_open_to_others_is_closed_and_goes_on(open_service, models, tmp_path):
    service = open_service(models / "one")
    service.store.add([Event("1", "u19", "i03")]).result()
    for path in (tmp_path / "data").iterdir():
        path.chmod(0o775 if path.is_dir() else 0o664)

    service = open_service(models / "one")

    assert not [bits for bits in modes(tmp_path / "data").values() if bits & 0o077]
    assert [one.id for one in service.store.history("u19")] == ["1"]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["notes.txt", "log.csv", "a", "b", "models/x"], r"a, b, log\.csv, \.\.\."),
        (["lock", "notes.txt"], r"notes\.txt"),
        (["models/mine.sasrec"], r"models/mine\.sasrec"),
    ],
)
def test_a_folder_of_other_things_is_no_data_folder_and_stays_as_it_is(tmp_path, files, named):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("dear")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(OutputError, match=f"holds what is not of a server's data: {named}; choose a new or empty"):
        Folder(tmp_path)

    assert sorted(tmp_path.rglob("*")) == before


def test_a_data_folder_that_came_from_a_copy_without_its_lock_is_taken(open_service, models, tmp_path):
    second = open_service(models / "one").activate(models / "two")
    (tmp_path / "data" / "lock").unlink()

    assert open_service(models / "one").served.version == second


def test_a_volume_and_a_data_folder_that_somebody_put_a_copy_into_are_taken(tmp_path):
    (tmp_path / "data" / "lost+found").mkdir(parents=True)
    (tmp_path / "data" / ".snapshots").mkdir()
    Folder(tmp_path / "data").close()
    (tmp_path / "data" / "copy.sqlite").write_text("copy")

    Folder(tmp_path / "data").close()

    assert (tmp_path / "data" / "copy.sqlite").read_text() == "copy"


def test_a_data_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match="data folder cannot be written"):
        Folder(tmp_path / "file" / "data")


def test_titles_that_fit_no_item_are_refused(open_service, models, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\nother,Thing\n")

    with pytest.raises(DataError, match="no item of it is known"):
        open_service(models / "one", titles=tmp_path / "items.csv")


@pytest.mark.parametrize("model", ["one", "two"])
def test_titles_that_cannot_be_read_are_told_once_and_nothing_goes_on(open_service, models, tmp_path, caplog, model):
    before = open_service(models / "one").served.version

    with pytest.raises(DataError, match=r"nope\.csv: no such file"):
        open_service(models / model, titles=tmp_path / "nope.csv")

    assert caplog.text == ""
    assert os.listdir(tmp_path / "data" / "models") == [before]


def trained_on_events(service, models, path, through):
    """A model whose record says that its training data held the events up to a place."""
    model = sasrec.load(models / "one")
    model.record["events"] = {"store": service.store.id, "taken": 1, "through": through}
    model.save(path)
    return path


def test_events_that_a_model_was_trained_on_are_not_counted_twice(open_service, models, tmp_path):
    service = open_service(models / "one")
    service.store.add([Event("1", "u19", "i03")]).result()
    through = service.store.last()
    service.store.add([Event("2", "u19", "i04")]).result()
    own = len(service.served.model.histories[19])

    service.activate(trained_on_events(service, models, tmp_path / "new", through))

    assert [one.item for one in service.served.history("u19")[own:]] == ["i04"]


def test_who_was_forgotten_stays_so_until_a_model_was_trained_afterwards(open_service, models, tmp_path):
    service = open_service(models / "one")
    service.store.forget("u19").result()
    through = service.store.last()

    service.activate(trained_on_events(service, models, tmp_path / "before", through - 1))
    before = service.served.history("u19")
    service.activate(trained_on_events(service, models, tmp_path / "after", through))
    after = service.served.history("u19")

    assert before == []
    assert len(after) == len(service.served.model.histories[19])


def test_a_damaged_row_fails_its_own_user_alone(open_service, models, tmp_path):
    service = open_service(models / "one")
    service.store.add([Event("1", "ada", "i03"), Event("2", "grace", "i03")]).result()
    other = sqlite3.connect(tmp_path / "data" / "events.sqlite")
    other.execute("UPDATE events SET item = 'i04' WHERE id = '1'")
    other.commit()
    other.close()

    damaged, whole = service.answer([Recommend("ada"), Recommend("grace")])

    assert isinstance(damaged, Problem)
    assert damaged.kind.status == 500
    assert whole.used_history == 1


def test_integer_ids_are_their_decimal_text(open_service, log_of, small_config, tmp_path):
    log = log_of({user: [(user + step) % 30 - 2 for step in range(8)] for user in range(-3, 40)})
    sasrec.train(sasrec.split(log), small_config).save(tmp_path / "integers")
    service = open_service(tmp_path / "integers")
    service.store.add([Event("1", "-3", "7"), Event("2", "-3", "07"), Event("3", "-3", "-1")]).result()

    asked = [Recommend(-3, [5]), Recommend("-3", ["5"]), Recommend(None, ["007", "+7", "7.0", "7", " 7"])]
    first, second, third = service.answer(asked)

    assert first == second
    assert first.used_history == 8 + 2 + 1
    assert all(isinstance(one.item, str) for one in first.items)
    assert (third.used_history, third.unknown_items) == (1, ["007", "+7", "7.0", " 7"])


# A running server


def test_a_running_server_takes_commands_over_a_socket_of_its_owner(serving, models, tmp_path):
    data = tmp_path / "data"
    with serving(models / "one", data=data) as running, Client(running.url) as client:
        second = send(Command("activate", str(models / "two")), data)
        described = client.model()
        with pytest.raises(ServingError, match=f"missing: does not exist.*; version {second} goes on"):
            send(Command("activate", str(tmp_path / "missing")), data)
        first = send(Command("rollback"), data)

        assert stat.S_IMODE((data / "control.sock").stat().st_mode) == 0o600
        assert (described.model_version, described.earlier) == (second, [running.version])
        assert client.model().model_version == first == running.version
    with pytest.raises(ServingError, match="no server answers on this data folder"):
        send(Command("rollback"), data)


def test_the_socket_of_a_killed_server_is_no_obstacle(serving, models, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "control.sock").write_text("")

    with serving(models / "one", data=tmp_path / "data") as running:
        assert send(Command("activate", str(models / "one")), tmp_path / "data") == running.version


def test_the_course_is_plain_to_read(open_service, models, tmp_path):
    service = open_service(models / "one")

    written = json.loads((tmp_path / "data" / "current.json").read_text())

    assert written.pop("seal")
    assert written == {"version": service.served.version, "before": [], "given": service.served.version}


def test_a_model_that_raises_what_nobody_expects_is_refused_and_leaves_nothing(serving, models, tmp_path, monkeypatch):
    data = tmp_path / "data"
    with serving(models / "one", data=data) as running:
        with monkeypatch.context() as hostile:
            hostile.setattr("sasrec.serving.service.load", Mock(side_effect=TypeError("no length")))
            with pytest.raises(ServingError, match=r"TypeError: no length.*; version"):
                send(Command("activate", str(models / "two")), data)
        left = os.listdir(data / "models")
        second = send(Command("activate", str(models / "two")), data)

    assert left == [running.version]
    assert second != running.version


@contextmanager
def half_a_command(data):
    """A connection to the socket of a data folder on which a line has begun."""
    with socket.socket(socket.AF_UNIX) as connection, administration._short(data) as place:
        connection.settimeout(60)
        connection.connect(place)
        connection.sendall(b'{"do": "roll')
        yield connection


def test_a_command_that_does_not_come_is_not_waited_for(serving, models, tmp_path, monkeypatch):
    monkeypatch.setattr(administration, "_LINE_SECONDS", 0.05)
    with serving(models / "one", data=tmp_path / "data"), half_a_command(tmp_path / "data") as connection:
        assert connection.recv(1) == b""


def test_whoever_waits_for_a_command_is_told_that_the_server_is_at_work(serving, models, tmp_path, monkeypatch):
    monkeypatch.setattr(administration, "_BEAT", 0.01)
    data = tmp_path / "data"
    with serving(models / "one", data=data):
        with socket.socket(socket.AF_UNIX) as connection, administration._short(data) as place:
            connection.settimeout(60)
            connection.connect(place)
            connection.sendall(b'{"do": "activate", "model": "%b"}\n' % os.fsencode(models / "two"))
            beats = connection.recv(1)
        known = send(Command("activate", str(models / "two")), data)

    assert beats == b"\n"
    assert known != ""


def test_a_server_that_stands_still_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(administration, "_PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as still, administration._short(tmp_path) as place:
        still.bind(place)
        still.listen()

        with pytest.raises(ServingError, match="has said nothing for 0 s; see whether it stands still"):
            send(Command("rollback"), tmp_path)


def test_a_model_whose_path_is_no_text_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"bad\?: a path of bytes that are no UTF-8; rename the folder"):
        send(Command("activate", os.fsdecode(b"/bad\xff")), tmp_path)


def test_a_command_that_was_not_given_to_its_end_is_none(serving, models, tmp_path):
    data = tmp_path / "data"
    with serving(models / "one", data=data) as running:
        with half_a_command(data) as connection:
            connection.shutdown(socket.SHUT_WR)
            told = connection.recv(1)
        with urllib.request.urlopen(f"{running.url}/metrics") as answer:
            counted = answer.read().decode()

    assert told == b""
    assert "sasrec_activations_total{" not in counted


def test_a_server_stops_without_a_word_while_a_command_is_on_its_way(serving, models, tmp_path, caplog, monkeypatch):
    begun, line = threading.Event(), asyncio.StreamReader.readline

    async def readline(reader):
        begun.set()
        return await line(reader)

    monkeypatch.setattr(asyncio.StreamReader, "readline", readline)
    with ExitStack() as held, serving(models / "one", data=tmp_path / "data"):
        held.enter_context(half_a_command(tmp_path / "data"))
        assert begun.wait(60)

    assert caplog.text == ""
