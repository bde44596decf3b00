"""An exported model is read, asked and served in a process that has no torch, and is trusted with nothing."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ScoreError
from sasrec.export.exporting import exported
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.plain_onnx import check_plain

PATIENCE = 60  # seconds for what takes one on a quiet machine
# Python imports no module whose entry is None: whoever tried would end with an error.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from sasrec.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def saved(small_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "walks.onnx.sasrec"
    sasrec.export_onnx(small_model, path)
    return path


@pytest.fixture
def server(saved, tmp_path):
    with served(saved, data=tmp_path / "data") as running:
        yield running


@contextmanager
def served(model, *, data):
    """The address of a server that has no torch, and the process."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "serve", model, "--port", "0", "--data", data]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert select.select([running.stdout], [], [], PATIENCE)[0], "the server did not start"
        lines = [running.stdout.readline() for _ in range(3)]
        found = re.fullmatch(r"at (http://127\.0\.0\.1:\d+)\n", lines[2])
        assert found, (lines, running.stderr.read())
        yield found[1], running
    finally:
        running.kill()
        running.communicate()


def ask(url, operation, body=None):
    patient = {} if operation == "/v1/events" else {"deadline_ms": 10_000}  # however busy the machine is
    data = None if body is None else json.dumps(body | patient).encode()
    request = urllib.request.Request(url + operation, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def items_of(answer):
    return [one["item"] for one in answer["items"]]


def test_a_server_without_torch_answers_as_torch_does(server, small_model):
    url, running = server
    history = ["i03", "i07", "i05"]
    everything = small_model.continue_from(history, k=25, exclude_seen=False)["item_id"].to_list()

    facts = ask(url, "/v1/model")
    known = ask(url, "/v1/recommend", {"user": "u07", "k": 5})
    unseen = ask(url, "/v1/recommend", {"history": history, "k": 5, "deny": ["i00"]})
    unknown = ask(url, "/v1/recommend", {"user": "nobody", "k": 5})
    counted = ask(url, "/v1/recommend", {"history": history, "scorer": "markov"})
    ranked = ask(url, "/v1/rank", {"history": history, "candidates": ["i01", "i02"]})
    similar = ask(url, "/v1/similar?item=i03&k=5&deadline_ms=10000")
    why = ask(url, "/v1/explain", {"history": history, "item": "i20", "exclude_seen": False})

    assert (facts["kind"], facts["scorers"]) == ("onnx", ["onnx", "markov", "popularity"])
    assert items_of(known) == small_model.recommend(["u07"], k=5)["item_id"].to_list()
    assert items_of(unseen) == small_model.continue_from(history, k=5, deny=["i00"])["item_id"].to_list()
    assert unknown["source"] == "popular"
    assert len(counted["items"]) == 10
    assert items_of(ranked) == sorted(["i01", "i02"], key=everything.index)
    assert items_of(similar) == small_model.similar("i03", k=5)["item_id"].to_list()
    assert sum(one["attention"] for one in why["events"]) == pytest.approx(1, abs=1e-4)
    assert why["rank"] == 1 + everything.index("i20")

    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=PATIENCE) == ("stopped\n", "")


def test_a_server_without_torch_tells_the_network_the_times(timed_model, tmp_path):
    sasrec.export_onnx(timed_model, tmp_path / "timed.onnx")
    history, times, later = ["i03", "i07"], [1_000_000_000, 1_000_086_400], 1_100_000_000
    told = {"history": history, "times": times, "time": later}
    with served(tmp_path / "timed.onnx", data=tmp_path / "data") as (url, _):
        ask(url, "/v1/events", {"events": [{"id": "1", "user": "u07", "item": "i03", "time": later - 60}]})

        facts = ask(url, "/v1/model")
        unseen = ask(url, "/v1/recommend", {**told, "k": 15})
        known = ask(url, "/v1/recommend", {"user": "u07", "time": later, "k": 15})
        why = ask(url, "/v1/explain", {**told, "item": "i09", "exclude_seen": False})

    def answer(items, when):
        return timed_model.continue_from(items, times=when, at=later, k=15)["item_id"].to_list()

    row = timed_model.users.ids.to_list().index("u07")
    span = slice(*timed_model.histories.offsets[row : row + 2])
    before = timed_model.items.raw(timed_model.histories.items[span]).to_list()
    assert (facts["kind"], facts["reads_times"]) == ("onnx", True)
    assert items_of(unseen) == answer(history, times)
    assert items_of(known) == answer([*before, "i03"], [*timed_model.histories.times[span], later - 60])
    assert sum(one["attention"] for one in why["events"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="tells what is mapped by /proc")
def test_no_library_of_torch_is_mapped_into_the_server(server):
    url, running = server
    ask(url, "/v1/recommend", {"history": ["i03"]})

    with open(f"/proc/{running.pid}/maps") as file:
        mapped = file.read()

    assert "onnxruntime" in mapped
    assert "libtorch" not in mapped


def without_torch(*arguments, code=WITHOUT_TORCH):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def items_in(table):
    return [one["item_id"] for one in json.loads(table)]


def test_the_command_line_recommends_without_torch(saved, small_model):
    done = without_torch("recommend", saved, "--user", "u07", "-k", "3", "--format", "json")
    near = without_torch("similar", saved, "i03", "-k", "3", "--format", "json")

    assert (done.returncode, done.stderr) == (0, "")
    assert items_in(done.stdout) == small_model.recommend(["u07"], k=3)["item_id"].to_list()
    assert items_in(near.stdout) == small_model.similar("i03", k=3)["item_id"].to_list()


def test_a_model_that_needs_torch_says_so(small_model, tmp_path):
    small_model.save(tmp_path / "walks.sasrec")

    done = without_torch("similar", tmp_path / "walks.sasrec", "i03")

    assert done.returncode == BundleError.exit_code
    assert "a model of kind 'sasrec' needs the package torch, which is not installed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_runtime_is_named(saved):
    done = without_torch("similar", saved, "i03", code=WITHOUT_TORCH.replace("'torch'", "'onnxruntime'"))

    assert done.returncode == BundleError.exit_code
    assert "needs the package onnxruntime; pip install 'sasrec[onnx]'" in done.stderr


# Hostile files


def model_of(nodes, arrays=(), *, functions=(), items=4):
    graph = helper.make_graph(
        nodes,
        "harm",
        [helper.make_tensor_value_info("items", TensorProto.INT64, ["b", "l"])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", items]),
            helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [items, 1]),
        ],
        list(arrays),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, functions=functions)
    return made.SerializeToString()


def refused(graph, match, *, items=4):
    with pytest.raises(BundleError, match=match):
        Exported(graph, sasrec.Config(width=8, length=50, positions="learned"), items)


def with_last(path, *nodes, arrays=()):
    """Puts nodes that make the scores of `before` behind an exported network; gives the bytes."""
    model = onnx.load(path / "model.onnx")
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["before" if name == "scores" else name for name in names]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.array([one]), name) for name, one in arrays)
    return model.SerializeToString()


ODD = {
    "the first history alone": (helper.make_node("Slice", ["before", "zero", "one", "zero"], ["scores"]), 2),
    "every history twice": (helper.make_node("Concat", ["before", "before"], ["scores"], axis=0), 1),
}


@pytest.mark.parametrize("name", ODD)
def test_scores_of_another_shape_than_the_file_says_are_refused(saved, small_model, name):
    node, histories = ODD[name]
    graph = with_last(saved, node, arrays=[("zero", 0), ("one", 1)])
    odd = Exported(graph, small_model.scorer.config, len(small_model.items))

    with pytest.raises(ScoreError, match=r"model.onnx: scores for . histories are float32 of shape .*, expected"):
        odd.scores(Sequences.of([[0]] * histories))


def test_a_network_that_can_answer_one_history_alone_is_not_served(saved, tmp_path):
    odd = sasrec.load(saved)
    node, _ = ODD["the first history alone"]
    odd.scorer.graph = with_last(saved, node, arrays=[("zero", 0), ("one", 1)])
    odd.save(tmp_path / "odd")

    with pytest.raises(ScoreError, match="scores for 2 histories"):
        sasrec.serve(tmp_path / "odd", sasrec.Place(port=0, data=tmp_path / "data"))


def test_data_in_another_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(16))
    for place in ("secret", str(tmp_path / "secret"), "../secret"):
        outside = TensorProto(name="vectors", data_type=TensorProto.FLOAT, dims=[4, 1])
        outside.data_location = TensorProto.EXTERNAL
        outside.external_data.add(key="location", value=place)

        refused(model_of([], [outside]), "a field that no exported network needs: number 1[34] of a tensor")


def test_programs_are_refused():
    branch = helper.make_graph([], "branch", [], [])
    inside = helper.make_node("Relu", ["items"], ["scores"])
    inside.attribute.append(helper.make_attribute("then_branch", branch))
    foreign = helper.make_node("Relu", ["items"], ["scores"], domain="com.microsoft")
    function = helper.make_function("", "Relu", ["x"], ["y"], [], [helper.make_opsetid("", 20)])

    refused(model_of([helper.make_node("Loop", ["a", "b"], ["c"])]), "an operator that .* needs: b'Loop'")
    refused(model_of([helper.make_node("ConstantOfShape", ["a"], ["c"])]), "b'ConstantOfShape'")
    refused(model_of([inside]), "number 6 of a node's attribute")
    refused(model_of([foreign]), "number 7 of a node")
    refused(model_of([], functions=[function]), "number 25 of a model")


def chain(operator, first, more=(), *, size=24, **attributes):
    """Nodes that each take twice what the one before gives, and a last that joins it to what is asked about."""
    nodes, name = [], first
    for place in range(size):
        taken = [name, *more] if more else [name, name]
        nodes.append(helper.make_node(operator, taken, [f"{operator}{place}"], **attributes))
        name = f"{operator}{place}"
    return [*nodes, helper.make_node("Add", ["items", name], ["scores"])]


@pytest.fixture
def never_opened(monkeypatch):
    """ONNX Runtime computes of constants while it opens a model, so it must not be given such a one."""
    monkeypatch.setattr("sasrec.retrieval.exported._session", lambda *_: pytest.fail("was opened"))


LITTLE = helper.make_tensor("little", TensorProto.INT64, [1, 8], bytes(64), raw=True)
PLACES = helper.make_tensor("places", TensorProto.INT64, [8], bytes(64), raw=True)
ONE = helper.make_tensor("one", TensorProto.INT64, [1], bytes(8), raw=True)
LARGE = helper.make_tensor("large", TensorProto.INT64, [4096], bytes(8 * 4096), raw=True)
CONSTANTS = "computes of constants alone what no exported network does"


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        (chain("Concat", "little", axis=0), f"{CONSTANTS}: b'Concat'"),
        (chain("Add", "little"), f"{CONSTANTS}: b'Add'"),
        (chain("MatMul", "little"), f"{CONSTANTS}: b'MatMul'"),
        (chain("Gather", "little", ["places"], axis=0), f"{CONSTANTS}: b'Gather'"),
        ([helper.make_node("Shape", ["items"], ["s"]), *chain("Concat", "s", axis=0)], f"{CONSTANTS}: b'Concat'"),
        ([helper.make_node("Relu", ["items"], ["r"]), helper.make_node("Shape", ["r"], ["s"])], f"{CONSTANTS}: b'Sh"),
        (chain("Neg", "large", ["one"]), "unfolds to 78.,... bytes of constants, more than fit here"),
        (chain("Slice", "large", ["one", "one"]), "unfolds to"),
        (chain("Concat", "little", axis=0)[::-1], "takes what none before it gives: b'Concat23'"),
        ([helper.make_node("Relu", ["items"], ["little"])], "gives the same value twice: b'little'"),
    ],
)
def test_little_that_would_unfold_to_much_is_refused_before_it_does(nodes, match):
    refused(model_of(nodes, [LITTLE, PLACES, ONE, LARGE]), match)


@pytest.mark.usefixtures("never_opened")
def test_what_onnx_runtime_would_read_otherwise_is_refused_before_it_does():
    whole = model_of(chain("Concat", "little", axis=0), [LITTLE])
    node = helper.make_node("Concat", ["little", "little"], ["c"], axis=0).SerializeToString()
    node += b"\x08\x05"  # a number among the names of what a node takes, which is passed over
    graph = b"\x0a" + bytes([len(node)]) + node

    refused(model_of([], [LITTLE, LITTLE]), "gives the same value twice: b'little'")
    refused(whole + model_of([], [ONE]), "it holds 2 graphs, expected one")
    refused(b"\x3a" + bytes([len(graph)]) + graph, "model.onnx is no ONNX model$")


def test_cutting_and_taking_one_of_a_table_is_no_unfolding():
    nodes = [
        helper.make_node("Shape", ["items"], ["s"]),
        helper.make_node("Neg", ["s"], ["n"]),
        helper.make_node("Slice", ["large", "n", "n", "one"], ["cut"]),
        helper.make_node("Gather", ["cut", "one"], ["last"]),
        helper.make_node("Add", ["items", "last"], ["scores"]),
    ]

    check_plain(model_of(nodes, [LARGE, ONE]))


@pytest.mark.parametrize("damage", [b"", b"\xff" * 30, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b"])
def test_bytes_that_are_no_model_are_refused(damage):
    refused(damage, "model.onnx")


def test_every_shortened_or_flipped_model_is_refused_or_still_a_model(small_model):
    graph = exported(small_model.scorer).graph
    items = len(small_model.items)
    for place in range(400):
        changed = bytearray(graph)
        changed[place] ^= 1 << place % 8
        for one in (bytes(changed), graph[: place * len(graph) // 400]):
            with suppress(BundleError):
                Exported(one, small_model.scorer.config, items)


def test_a_model_of_another_catalogue_or_other_settings_is_refused(small_model):
    scorer = small_model.scorer
    graph = exported(scorer).graph

    refused(graph, "does not fit the catalogue of 4 items", items=4)
    with pytest.raises(BundleError, match="does not fit"):
        Exported(graph, sasrec.Config(width=8, length=50, positions="learned", user_width=4), len(small_model.items))


@pytest.mark.parametrize("name", ["length", "width", "positions"])
def test_settings_that_leave_open_what_a_network_has_are_refused(small_model, name):
    config, parts = exported(small_model.scorer).to_parts()

    with pytest.raises(
        BundleError, match=f"config.json: {name}: an exported network has one that is settled, found 'auto'"
    ):
        Exported.from_parts(len(small_model.items), config | {name: "auto"}, parts)


def test_what_is_written_is_plain_onnx_that_others_can_read(saved):
    model = onnx.load(saved / "model.onnx")

    onnx.checker.check_model(model, full_check=True)
    assert [one.name for one in model.graph.input] == ["items"]
    assert [one.name for one in model.graph.output] == ["scores", "vectors", "attention"]


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "manifest.json"])
def test_a_flipped_bit_is_noticed(saved, tmp_path, name):
    path = tmp_path / "flipped"
    sasrec.load(saved).save(path)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (path / name).write_bytes(content)

    with pytest.raises(BundleError):
        sasrec.load(path)
