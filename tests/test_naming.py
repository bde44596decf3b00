"""A server answers to names that are its own, and to addresses: a page of another site does not get at it by a name."""

import http.client
import json
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from sasrec.serving.naming import is_loopback, names_of

PATIENCE = 60  # seconds for what takes none on a quiet machine


def answer_to(running, *hosts, version=11):
    """Status and document of the answer to a request that bears these names."""
    address = urlsplit(running.url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=PATIENCE)
    connection._http_vsn_str = f"HTTP/{version // 10}.{version % 10}"
    connection.putrequest("GET", "/v1/model", skip_host=True)
    for host in hosts:
        connection.putheader("host", host)
    connection.endheaders()
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document


@pytest.fixture(scope="module")
def named(serving, small_model, tmp_path_factory):
    """Servers on the loopback, on every address, and each with a name of its own."""
    folder = tmp_path_factory.mktemp("named")
    given = {
        "loopback": {},
        "everywhere": {"host": "0.0.0.0"},
        "loopback known": {"known_as": ("Shop.example", "other.example")},
        "everywhere known": {"host": "0.0.0.0", "known_as": ("Shop.example",)},
    }
    with ExitStack() as held:
        yield {
            name: held.enter_context(serving(small_model, data=folder / name, **options))
            for name, options in given.items()
        }


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "localhost.", "127.0.0.1", "127.0.0.1:8000", "192.0.2.7:1", "[::1]", "[::1]:8000"],
)
def test_a_request_for_this_machine_or_an_address_is_answered_by_every_server(named, host):
    assert [answer_to(running, host)[0] for running in named.values()] == [200] * 4


@pytest.mark.parametrize("server", ["loopback", "everywhere"])
def test_a_request_says_once_whom_it_is_for_unless_it_is_of_http_1_0(named, server):
    both = ("localhost", "evil.example")

    assert answer_to(named[server], version=10)[0] == 200
    assert answer_to(named[server], "")[0] == 200
    for hosts, found in (((), "none"), (both, "2"), (both[::-1], "2")):
        status, problem = answer_to(named[server], *hosts)

        assert (status, problem["type"]) == (400, "/problems/malformed")
        assert problem["detail"] == f"a request has one Host header, found {found}"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[evil", "1", "\xe9"],
)
def test_a_page_that_has_its_own_name_lead_to_the_loopback_reads_nothing(named, host):
    status, problem = answer_to(named["loopback"], host.encode("latin-1"))

    assert (status, problem["type"]) == (421, "/problems/misdirected")
    assert "--known-as" in problem["detail"]
    assert answer_to(named["everywhere"], host.encode("latin-1"))[0] == 200


def test_a_server_answers_to_the_names_that_it_is_given(named):
    hosts = ("shop.example", "SHOP.example:443", "other.example", "evil.example")

    found = {
        name: [answer_to(named[f"{name} known"], host)[0] for host in hosts] for name in ("loopback", "everywhere")
    }

    assert found == {"loopback": [200, 200, 200, 421], "everywhere": [200, 200, 421, 421]}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_every_way_to_write_the_loopback_guards_names(address):
    assert names_of(address, address, ()) == {"", "localhost"}


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::ffff:10.0.0.1"])
def test_other_addresses_answer_to_any_name(address):
    assert names_of(address, address, ()) is None


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_what_others_cannot_reach_is_told_by_the_address(address, own):
    assert is_loopback(address) is own
