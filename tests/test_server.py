"""The server as a process: how it starts, refuses to start and sheds load."""

import gc
import http.client
import json
import os
import re
import resource
import shutil
import socket
import sys
import threading
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

import sasrec
from sasrec.client import Client
from sasrec.errors import ConfigError, OutputError, ServingError
from sasrec.serving import server
from sasrec.serving.answering import Served
from sasrec.serving.connections import CONNECTIONS

PATIENCE = 60  # seconds for what takes one or two on a quiet machine


@pytest.fixture(scope="module")
def saved(tmp_path_factory, small_model):
    path = tmp_path_factory.mktemp("saved") / "walks.sasrec"
    small_model.save(path)
    return path


def test_too_much_at_once_is_refused_quickly_and_the_rest_answered(
    serving, small_model, held_model, tmp_path, monkeypatch
):
    monkeypatch.setattr("sasrec.serving.batching.WAITING", 8)
    go_on, begun = held_model
    with serving(small_model, data=tmp_path / "data") as running:
        outcomes, told = [], threading.Semaphore(0)

        def work():
            connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=PATIENCE)
            body = json.dumps({"user": "u07", "deadline_ms": 10_000})
            connection.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            outcomes.append((reply.status, reply.headers["retry-after"]))
            told.release()
            reply.read()
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(30)]
        threads[0].start()
        assert begun.wait(PATIENCE)
        for thread in threads[1:]:
            thread.start()
        for _ in range(21):
            assert told.acquire(timeout=PATIENCE)
        refused = list(outcomes)
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE)

    assert refused == [(503, "1")] * 21
    assert sorted(outcomes) == [(200, None)] * 9 + [(503, "1")] * 21


def test_a_fault_of_ours_is_a_problem_without_a_trace(serving, small_model, tmp_path, monkeypatch, caplog):
    def fault(self, requests):
        raise ZeroDivisionError("internal words")

    monkeypatch.setattr(Served, "answer", fault)
    with serving(small_model, data=tmp_path / "data") as running, Client(running.url) as client:
        with pytest.raises(ServingError, match="The server made a mistake") as refused:
            client.recommend("u07")
        assert client.model().items == 25

    assert refused.value.status == 500
    assert "internal words" not in str(refused.value)
    assert "internal words" in caplog.text


def test_a_taken_port_is_an_error(saved, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ServingError, match=f"port {port} of 127.0.0.1: cannot be listened on.*--port"):
            sasrec.serve(saved, sasrec.Place(port=port, data=tmp_path / "data"))

    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "a" * 70, "a\0b"])
def test_a_host_that_is_not_ours_is_an_error(saved, tmp_path, host):
    with pytest.raises(ServingError, match=f"host {re.escape(host)}: is no address of this machine"):
        sasrec.serve(saved, sasrec.Place(host=host, data=tmp_path / "data"))


def test_the_root_of_all_folders_is_no_model():
    with pytest.raises(sasrec.BundleError, match=r"^/: "):
        sasrec.serve("/", sasrec.Place(port=0))


@pytest.mark.parametrize(("letters", "error"), [(252, OutputError), (300, sasrec.BundleError)])
def test_a_name_that_is_too_long_for_a_model_or_its_data_is_an_error(saved, tmp_path, letters, error):
    model = tmp_path / ("m" * letters)
    if letters < 256:
        shutil.copytree(saved, model)

    with pytest.raises(error, match="mmm"):
        sasrec.serve(model, sasrec.Place(port=0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_model_in_a_folder_that_nobody_may_enter_is_an_error(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "closed" / "model")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(sasrec.BundleError, match="closed"):
            sasrec.serve(tmp_path / "closed" / "model", sasrec.Place(port=0))
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_mistyped_model_leaves_no_data_folder_behind(tmp_path):
    with pytest.raises(sasrec.BundleError, match="missing: does not exist"):
        sasrec.serve(tmp_path / "missing", sasrec.Place(port=0))

    assert os.listdir(tmp_path) == []


def test_a_server_that_cannot_take_commands_leaves_no_thread_behind(saved, tmp_path):
    (tmp_path / "data" / "control.sock").mkdir(parents=True)
    before = threading.enumerate()

    with pytest.raises(OutputError, match=r"control\.sock"):
        sasrec.serve(saved, sasrec.Place(port=0, data=tmp_path / "data"))

    assert not [one.name for one in threading.enumerate() if one not in before]


def test_a_server_leaves_the_search_for_garbage_as_it_was(saved, tmp_path):
    gc.unfreeze()
    before = gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()
    meanwhile = []

    def look(running):
        meanwhile.append((gc.isenabled(), gc.get_freeze_count()))
        running.stop()

    sasrec.serve(saved, sasrec.Place(port=0, data=tmp_path / "data"), started=look)
    after = gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()

    ((enabled, spared),) = meanwhile
    assert enabled
    assert spared > 10_000, "what is there once the model is: the classes of torch among it"
    assert after == before


def test_what_a_caller_had_set_aside_from_the_search_for_garbage_stays_so(serving, saved, tmp_path):
    gc.freeze()
    before = gc.get_freeze_count()
    try:
        with serving(saved, data=tmp_path / "data"):
            pass

        assert gc.get_freeze_count() > before / 2  # the few that were let go since are no longer counted
    finally:
        gc.unfreeze()


def test_a_server_that_cannot_start_leaves_garbage_collected(tmp_path):
    gc.unfreeze()
    before = gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()

    with pytest.raises(sasrec.BundleError, match="missing: does not exist"):
        sasrec.serve(tmp_path / "missing", sasrec.Place(port=0))

    assert (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_server_that_began_within_the_start_of_another_leaves_the_search_for_garbage_as_it_was(
    serving, saved, small_model, tmp_path, monkeypatch
):
    before = gc.isenabled(), gc.get_threshold()
    first, second, waiting = ExitStack(), ExitStack(), [small_model]

    def load_beside(path):
        if waiting:
            second.enter_context(serving(waiting.pop(), data=tmp_path / "second"))
        return sasrec.load(path)

    monkeypatch.setattr("sasrec.serving.service.load", load_beside)
    first.enter_context(serving(saved, data=tmp_path / "first"))
    with second:
        with first:
            both = gc.isenabled()
        one = gc.isenabled()
    after = gc.isenabled(), gc.get_threshold()

    assert (waiting, both, one) == ([], True, True)
    assert after == before


@pytest.fixture
def search():
    """The search for garbage, which is put back."""
    before = gc.isenabled(), gc.get_threshold()
    yield
    gc.set_threshold(*before[1])
    (gc.enable if before[0] else gc.disable)()


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize(("young", "meanwhile"), [(0, 0), (1_000, 10_000), (50_000, 50_000)])
def test_a_caller_who_wants_little_or_no_search_for_garbage_has_it_so_while_a_server_runs(
    serving, saved, tmp_path, young, meanwhile
):
    gc.disable()
    gc.set_threshold(young)

    with serving(saved, data=tmp_path / "data"):
        enabled, (seldom, *_) = gc.isenabled(), gc.get_threshold()

    assert (enabled, seldom) == (False, meanwhile)
    assert (gc.isenabled(), gc.get_threshold()[0]) == (False, young)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"port": 70000}, {"threads": 0}, {"threads": 99999999999999}, {"port": -1}),
        *(
            {"known_as": one}
            for one in ("shop.example", "shop", ("https://shop.example",), ("shop.example:443",), ("",))
        ),
    ],
)
def test_a_value_out_of_range_is_an_error(saved, wrong):
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}: expected"):
        sasrec.serve(saved, sasrec.Place(**wrong))


def test_the_data_folder_stands_beside_the_model_by_default(serving, saved):
    with serving(saved) as running:
        assert running.data == saved.with_name("walks.sasrec.data")
        assert (running.data / "events.sqlite").exists()


def test_the_missing_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "sasrec.serving.lifetime", None)
    monkeypatch.delitem(sys.modules, "sasrec.serving.lifetime")
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(ServingError, match=r"needs the package uvicorn.*pip install 'sasrec\[serve\]'"):
        server.serve(saved, server.Place(port=0))


def test_a_server_may_open_more_files_than_it_has_connections_and_leaves_the_limit_as_it_was(serving, saved, tmp_path):
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 2 * CONNECTIONS:
        pytest.skip(f"no process may open more than {most} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, most))
    try:
        with serving(saved, data=tmp_path / "data"):
            during = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        after = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))

    assert (during >= 2 * CONNECTIONS, after) == (True, 512)
