"""The client against a real server: typed answers, errors in words, and connections that the server closed."""

import re
import socket
import threading
import urllib.request

import numpy as np
import pytest

from sasrec.client import Client
from sasrec.errors import ConfigError, ServingError
from sasrec.serving.api import NewEvent, Recommend


@pytest.fixture(scope="module")
def url(serving, small_model, tmp_path_factory):
    with serving(small_model, data=tmp_path_factory.mktemp("server") / "data") as running:
        yield running.url


@pytest.fixture
def client(url):
    with Client(url) as client:
        yield client


def ids(answer):
    return [one.item for one in answer.items]


def test_what_the_client_gets_is_what_the_model_says(client, small_model):
    user, history = "u19", ["i03", "i05"]

    assert ids(client.recommend(user, k=3)) == small_model.recommend([user], k=3)["item_id"].to_list()
    after = small_model.continue_from(history, k=4, allow=["i01", "i02", "i03"], deny=["i02"], exclude_seen=False)
    chosen = client.recommend(history=history, k=4, allow=["i01", "i02", "i03"], deny=["i02"], exclude_seen=False)
    assert ids(chosen) == after["item_id"].to_list()
    ordered = small_model.score(history, ["i07", "i08", "i09"]).sort("rank")["item_id"].to_list()
    assert ids(client.rank(["i07", "i08", "i09"], history=history)) == ordered
    assert ids(client.similar("i03", k=2)) == small_model.similar("i03", k=2)["item_id"].to_list()
    batch = client.recommend_batch([Recommend(user, k=3), Recommend(history=history)])
    assert ids(batch[0]) == ids(client.recommend(user, k=3))
    assert ids(batch[1]) == ids(client.recommend(history=history))


def test_times_of_a_history_and_of_the_request_go_with_it(serving, timed_model, tmp_path):
    start, later = 1_000_000_000, 1_050_000_000
    items, times = ["i03", "i05"], [start, start + 0.5]
    events = zip(items, times, strict=True)  # whatever can be gone through once
    with serving(timed_model, data=tmp_path / "data") as running, Client(running.url) as client:
        answer = client.recommend(history=events, k=3, time=later)
        ranked = client.rank(["i07", "i08"], history=[*zip(items, times, strict=True)], time=later)
        why = client.explain("i07", history=[*zip(items, times, strict=True)], time=later)
        [batch] = client.recommend_batch([Recommend(history=items, times=times, time=later, k=3)])
        reads = client.model().reads_times

    expected = timed_model.score(items, ["i07", "i08"], times=times, at=later)
    assert reads
    assert ids(answer) == timed_model.continue_from(items, times=times, at=later, k=3)["item_id"].to_list()
    assert batch == answer
    assert ids(ranked) == expected.sort("rank")["item_id"].to_list()
    assert why.score == pytest.approx(expected["score"][0], rel=1e-5)


def test_events_go_in_and_out(client):
    first = client.add("a/b ü", "i03", time=1_700_000_000, event="one")
    again = client.add("a/b ü", "i03", time=1_700_000_000, event="one")
    client.add("a/b ü", "i04")

    history = client.history("a/b ü")

    assert (first.stored, again.stored, again.duplicates) == (1, 0, 1)
    assert [(one.item, one.id == "one") for one in history.events] == [("i03", True), ("i04", False)]
    assert client.forget("a/b ü").events == 2
    assert client.history("a/b ü").events == []


def test_items_are_found(client):
    assert [one.item for one in client.search("i0", limit=3).items] == ["i00", "i01", "i02"]
    assert client.model().kind == "sasrec"


def test_a_refusal_is_an_error_in_words(client):
    with pytest.raises(
        ServingError, match=r"/v1/recommend: The request does not fit the schema: /k: Expected"
    ) as refused:
        client.recommend("u19", k=0)

    assert refused.value.status == 422
    assert client.recommend("u19").items


def test_nobody_there_is_an_error(url):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen: a port that was let go could be another server's by now
        port = held.getsockname()[1]

        with pytest.raises(ServingError, match=f"127.0.0.1:{port}: cannot be reached") as refused:
            Client(f"http://127.0.0.1:{port}").model()

    assert refused.value.status is None


def refused_as_no_answer_of_sasrec(answer):
    """Ask a server that answers one request with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak():
            connection, _ = other.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=speak)
        thread.start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ServingError, match="this is no answer of sasrec"):
            client.model()
        thread.join()


def test_a_server_of_something_else_is_an_error():
    refused_as_no_answer_of_sasrec(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")


def test_a_connection_that_the_server_closed_is_opened_again(client):
    client.recommend("u19")
    client._connection.sock.shutdown(socket.SHUT_RDWR)

    assert client.recommend("u19").items


@pytest.mark.parametrize("odd", [("i03", 1.0, 2), ("i03",), ()])
def test_a_tuple_that_is_no_pair_of_item_and_time_is_refused(client, odd):
    with pytest.raises(
        ConfigError, match="history: expected items, or pairs of an item and its time, found"
    ) as refused:
        client.recommend(history=[("i05", 0.5), odd])

    assert str(refused.value).endswith(repr(odd))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"expected one like http://127\.0\.0\.1:8000,.* found 'localhost:8000'"):
        Client("localhost:8000")


@pytest.mark.parametrize(
    "wrong",
    [
        "http://h:99999",
        "http://h:abc",
        "http://[::1",
        "http://a..b",
        f"http://{'a' * 70}.example",
        "http://h/\xe4",
        "http://h h",
        "http://h/a b",
    ],
)
def test_an_address_that_nothing_can_have_is_refused_before_anything_is_sent(wrong):
    with pytest.raises(ConfigError, match="url: expected one like") as refused:
        Client(wrong)

    assert repr(wrong) in str(refused.value)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None, -1, 0, True, "3", 1e10])
def test_a_timeout_that_is_no_time_is_refused(wrong):
    with pytest.raises(ConfigError, match="timeout: expected seconds above 0"):
        Client(timeout=wrong)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "ask",
    [
        lambda shop, time: shop.add("odd", "i01", time=time),
        lambda shop, time: shop.add_all([NewEvent("n1", "odd", "i01"), NewEvent("n2", "odd", "i01", time)]),
        lambda shop, time: shop.recommend("odd", time=time),
        lambda shop, time: shop.recommend_batch([Recommend("odd", time=time)]),
        lambda shop, time: shop.rank(["i01"], time=time),
        lambda shop, time: shop.explain("i01", "odd", time=time),
    ],
)
def test_a_time_that_is_not_finite_is_refused_and_nothing_stored(client, ask, wrong):
    with pytest.raises(ConfigError, match=f"time: expected a finite number, found {wrong}"):
        ask(client, wrong)

    assert client.history("odd").events == []


def test_a_time_of_a_history_that_is_not_finite_is_refused(client):
    with pytest.raises(ConfigError, match="times: expected a finite number, found nan"):
        client.recommend(history=[("i01", 1.0), ("i02", float("nan"))])


@pytest.mark.parametrize(
    "ask",
    [
        lambda shop, id_: shop.add(id_, "i01"),
        lambda shop, id_: shop.add("odd", id_),
        lambda shop, id_: shop.recommend(id_),
        lambda shop, id_: shop.recommend(history=[id_]),
        lambda shop, id_: shop.similar(id_),
        lambda shop, id_: shop.history(id_),
        lambda shop, id_: shop.forget(id_),
        lambda shop, id_: shop.search(id_),
    ],
)
def test_an_id_that_is_no_text_is_refused(client, ask):
    with pytest.raises(ConfigError, match=r"expected text, found '\\udcff'"):
        ask(client, "\udcff")


def test_what_json_cannot_hold_is_refused(client):
    with pytest.raises(ConfigError, match="/v1/recommend has no form in JSON"):
        client.recommend(scorer=object())


@pytest.mark.parametrize("wrong", [777.0, 1.5, True, b"ab", ["ada"], object()])
@pytest.mark.parametrize(
    "ask",
    [
        lambda shop, id_: shop.forget(id_),
        lambda shop, id_: shop.history(id_),
        lambda shop, id_: shop.similar(id_),
        lambda shop, id_: shop.add(id_, "i01"),
        lambda shop, id_: shop.add("odd", id_),
        lambda shop, id_: shop.add_all([NewEvent("n1", "odd", "i01"), NewEvent("n2", id_, "i01")]),
        lambda shop, id_: shop.recommend(id_),
        lambda shop, id_: shop.recommend(deny=["i01", id_]),
        lambda shop, id_: shop.recommend(history=[(id_, 1.0)]),
        lambda shop, id_: shop.recommend_batch([Recommend("u19"), Recommend("u19", allow=[id_])]),
        lambda shop, id_: shop.rank([id_]),
        lambda shop, id_: shop.explain(id_),
    ],
)
def test_what_is_neither_text_nor_an_integer_is_no_id_and_nothing_is_sent(client, ask, wrong):
    before = client.latest(limit=100).events

    with pytest.raises(ConfigError, match="expected an id, text or an integer as in the log, found") as refused:
        ask(client, wrong)

    assert repr(wrong) in str(refused.value)
    assert client.latest(limit=100).events == before


@pytest.mark.parametrize("ask", [Client.forget, Client.history, Client.similar])
def test_nobody_is_no_user_and_nothing_no_item(client, ask):
    with pytest.raises(ConfigError, match=r"(user|item): expected an id.* found None"):
        ask(client, None)


def test_a_user_is_forgotten_under_the_id_that_the_events_have(client):
    client.add(777, "i03")
    client.add(np.int64(777), "i04")

    assert client.forget(np.int64(777)).events == 2
    assert client.history("777").events == []


@pytest.mark.parametrize("text", ["i03", b"i03"])
@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda shop, text: shop.recommend(history=text), "history"),
        (lambda shop, text: shop.recommend(allow=text), "allow"),
        (lambda shop, text: shop.recommend(deny=text), "deny"),
        (lambda shop, text: shop.rank(text), "candidates"),
        (lambda shop, text: shop.explain("i03", history=text), "history"),
        (lambda shop, text: shop.recommend_batch([Recommend(deny=text)]), "deny"),
    ],
)
def test_one_text_is_no_list_of_one_letter_items(client, ask, name, text):
    with pytest.raises(ConfigError) as refused:
        ask(client, text)

    assert str(refused.value) == f"{name}: expected a list of ids, found the single text {text!r}; pass [{text!r}]"


def test_a_body_that_is_too_large_is_refused_as_such_and_not_sent_twice(client, monkeypatch):
    events = [NewEvent(f"large-{number}", "u" * 1000, "i" * 1000) for number in range(1000)]

    with pytest.raises(ServingError, match="/v1/events: The body is too large: 2,") as refused:
        client.add_all(events)
    monkeypatch.setattr("sasrec.client.BODY", 2**30)  # of a server that takes less than the client knows
    before = requests(client)
    with pytest.raises(ServingError, match="The body is too large: a body has at most") as told:
        client.add_all(events)

    assert (refused.value.status, told.value.status) == (413, 413)
    assert requests(client) - before == 2  # this one, and that of the figures before it


def requests(client):
    with urllib.request.urlopen(f"{client.url}/metrics") as answer:
        found = re.findall(r"^sasrec_requests_total{.*} (\S+)$", answer.read().decode(), re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"200 OK", b'{"model_version": "\xff\xfe", "kind": 1}'),
        (
            b"503 X\r\ncontent-type: application/problem+json",
            b'{"type":"x","title":"\xff","status":503,"detail":"d","instance":"i"}',
        ),
    ],
)
def test_an_answer_that_is_no_text_is_an_error_of_the_server(head, body):
    refused_as_no_answer_of_sasrec(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body))


@pytest.mark.parametrize("more", ["user:secret@h", "user@h", "h?key=secret", "h/#secret"])
def test_an_address_with_what_would_not_be_sent_is_refused_and_not_shown(more):
    with pytest.raises(ConfigError, match="none of which would be sent") as refused:
        Client(f"http://{more}")

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "found"), [(None, "None"), (5, "an int"), (b"http://127.0.0.1", "a bytes"), (["a"], "a list")]
)
def test_an_address_that_is_no_text_is_refused(wrong, found):
    with pytest.raises(ConfigError, match=f"url: expected a text, found {found}; give one like 'http"):
        Client(wrong)


def test_an_event_without_a_name_of_its_own_has_a_random_one_and_one_of_nothing_is_refused(client):
    with pytest.raises(ServingError, match="Expected str of length") as error:
        client.add("ulla", "i03", event="")
    assert error.value.status == 422
    assert [client.add("ulla", "i03", event="once").stored for _ in range(2)] == [1, 0]
    assert [client.add("ulla", "i03").stored for _ in range(2)] == [1, 1]


def test_numbers_and_text_of_numpy_are_sent_as_what_they_are(url, client):
    with Client(url, timeout=np.int64(5)) as patient:
        assert ids(patient.recommend("u19", k=np.int64(3))) == ids(client.recommend("u19", k=3))
    event = NewEvent("of numpy", np.str_("una"), np.str_("i03"), np.float64(1.7e9))
    assert client.add_all([event]).stored == 1
    assert [one.time for one in client.history(np.str_("una")).events] == [1.7e9]
    assert client.recommend_batch([Recommend(user=np.str_("u19"), k=3)])[0] == client.recommend("u19", k=3)


@pytest.mark.parametrize("ask", [Client.forget, Client.history])
def test_nobody_has_an_empty_id(client, ask):
    with pytest.raises(ConfigError, match="user: expected an id, found ''"):
        ask(client, "")


def test_the_item_of_an_event_that_was_not_stored_is_not_told_as_unknown(client):
    client.add("uwe", "i03", event="taken")

    answer = client.add_all([NewEvent("taken", "uwe", "nothing"), NewEvent("free", "uwe", "anything")])

    assert (answer.stored, [one.index for one in answer.rejected], answer.unknown_items) == (1, [0], ["anything"])
