"""A saved model comes back bit for bit, or not at all and with one clear error."""

import hashlib
import json
import os
import pickle
import re
import resource
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import sasrec
from sasrec import bundle
from sasrec.commands.reading import Reading
from sasrec.data.filters import Filters
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, OutputError
from sasrec.retrieval import loading
from sasrec.retrieval.blend import Blend
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.ease import ease
from sasrec.retrieval.linked import Linked
from sasrec.retrieval.loading import read_bundle
from sasrec.retrieval.recommender import Recommender

FILES = {
    "manifest.json",
    "config.json",
    "record.json",
    "users.parquet",
    "items.parquet",
    "histories.safetensors",
    "weights.safetensors",
}

LARGEST = 2**63 - 1


@pytest.fixture
def saved(small_model, tmp_path):
    path = tmp_path / "model"
    small_model.save(path)
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seal(path, **changes):
    """Writes a manifest that fits the files, as somebody could who means harm; `changes` go into it."""
    names = FILES - {"manifest.json"}
    sums = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in contents(path).items()
        if name in names
    }
    manifest = {"format": "sasrec-model", "version": 1, "kind": "sasrec", "files": sums} | changes
    text = json.dumps(manifest, sort_keys=True, indent=1)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(f'{{"checksum": "{checksum}",\n"manifest": {text}}}\n')


def flip_bits(path, flips, seed):
    """Flips one random bit of the model at a time; returns those that were loaded all the same."""
    rng = np.random.default_rng(seed)
    whole = contents(path)
    accepted = []
    for _ in range(flips):
        name = rng.choice(sorted(whole))
        data = bytearray(whole[name])
        bit = int(rng.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(data)
        try:
            read_bundle(path)
        except BundleError:
            pass
        else:
            accepted.append((name, bit))
        (path / name).write_bytes(whole[name])
    return accepted


# What comes back


def test_a_bundle_holds_what_its_description_says(saved):
    assert {path.name for path in saved.iterdir()} == FILES


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series(["", " a", "007", "NA", "\n", "e\u0301", "null", "\u00e9", "\U0001f600"]).sort(),
        pl.Series([-(2**63), -1, 0, 2**53 + 1, 2**63 - 1]),
        pl.Series([0, 2**63, 2**64 - 1], dtype=pl.UInt64),
    ],
    ids=["text", "integers", "large-integers"],
)
def test_everything_comes_back_bit_for_bit(tmp_path, ids):
    tensors = {"a": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), "b": torch.arange(5).t()}
    histories = Sequences.of([[row, 0] for row in range(len(ids))])
    record = {
        "data": "x\u00e9",
        "best": {"ndcg": 0.1 + 0.2, "hit_rate": 0.5, "epoch": 3},
        "exclude_seen": False,
        "notes": [None, "a"],
    }
    made = bundle.Bundle(
        "markov",
        {"width": 8, "rate": 1e-3},
        Vocabulary(ids, "user"),
        Vocabulary(ids, "item"),
        histories,
        tensors,
        record,
    )

    bundle.save(made, tmp_path / "model")
    back = read_bundle(tmp_path / "model")

    assert (back.kind, back.config, back.record) == (made.kind, made.config, made.record)
    assert back.users.ids.equals(ids, check_dtypes=True)
    assert back.items.ids.equals(ids, check_dtypes=True)
    np.testing.assert_array_equal(back.histories.items, histories.items, strict=True)
    np.testing.assert_array_equal(back.histories.offsets, histories.offsets, strict=True)
    assert back.tensors.keys() == tensors.keys()
    assert all(torch.equal(back.tensors[name], tensors[name]) for name in tensors)


def test_a_model_loaded_and_saved_again_is_the_same_model(saved, tmp_path):
    sasrec.load(saved).save(tmp_path / "again")

    assert contents(tmp_path / "again") == contents(saved)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_every_file_of_a_model_may_be_read_as_the_caller_has_it(small_model, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        small_model.save(tmp_path / "model")
    finally:
        os.umask(before)

    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == dict.fromkeys(
        FILES, mode
    )


# Damage


def test_no_flipped_bit_is_accepted(saved):
    assert flip_bits(saved, 300, seed=0) == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_may_be_cut_lengthened_emptied_or_missing(saved, name):
    data = (saved / name).read_bytes()

    for damaged in (data[:-1], data[: len(data) // 2], data + b"\n", b""):
        (saved / name).write_bytes(damaged)
        with pytest.raises(BundleError, match=name):
            sasrec.load(saved)
    (saved / name).unlink()
    with pytest.raises(BundleError, match=name):
        sasrec.load(saved)


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_files_of_two_models_do_not_mix(saved, small_model, tmp_path, name):
    other = Recommender(
        Markov.of(small_model.histories, items=len(small_model.items)),
        users=Vocabulary(pl.Series(range(len(small_model.users))), "user"),
        items=Vocabulary(pl.Series(range(len(small_model.items))), "item"),
        histories=Sequences.of([[0]] * len(small_model.users)),
        record={"data": "another"},
    )
    other.save(tmp_path / "other")

    (saved / name).write_bytes((tmp_path / "other" / name).read_bytes())

    with pytest.raises(BundleError, match=f"{name}: is damaged"):
        sasrec.load(saved)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_regular_files_are_read(saved, tmp_path, name, kind):
    (saved / name).rename(tmp_path / name)
    {
        "link": lambda: (saved / name).symlink_to(tmp_path / name),
        "folder": (saved / name).mkdir,
        "pipe": lambda: os.mkfifo(saved / name),
    }[kind]()

    with pytest.raises(BundleError, match=f"{name}: is not a regular file"):
        sasrec.load(saved)


# What is no model of ours


def test_a_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(BundleError, match="nowhere: does not exist or cannot be entered; a sasrec model is a folder"):
        sasrec.load(tmp_path / "nowhere")


def test_a_folder_that_must_not_be_entered_is_one_clear_error(saved):
    before = os.geteuid()
    os.chmod(saved.parent, 0o000)
    try:
        if before == 0:
            os.seteuid(65534)
        with pytest.raises(BundleError, match="does not exist or cannot be entered"):
            sasrec.load(saved)
    finally:
        os.seteuid(before)
        os.chmod(saved.parent, 0o700)


def test_a_file_that_must_not_be_read_is_one_clear_error(saved, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)

    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read: Permission denied"):
        sasrec.load(saved)


@pytest.mark.parametrize("most", [1, 2**40], ids=["mapped", "copied"])
def test_weights_that_are_damaged_or_missing_are_not_called_whole(saved, monkeypatch, most):
    weights = saved / "weights.safetensors"
    monkeypatch.setattr(loading, "_MAPPED_BYTES", most)
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)

    with pytest.raises(BundleError) as damaged:
        sasrec.load(saved)
    weights.unlink()
    with pytest.raises(BundleError) as missing:
        sasrec.load(saved)

    assert str(damaged.value) == f"{weights}: is damaged ({len(data):,} bytes do not match the manifest); save it again"
    assert str(missing.value) == f"{saved}: weights.safetensors is missing; save the model again"


def test_a_file_is_no_model(saved):
    with pytest.raises(BundleError, match=r"weights\.safetensors: is not a folder"):
        sasrec.load(saved / "weights.safetensors")


def test_a_folder_without_a_manifest_is_no_model(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")

    with pytest.raises(BundleError, match=r"is not a sasrec model: it holds no manifest\.json"):
        sasrec.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "\xff\xfe",
        '{"name": "a web page", "icons": []}',
        '{"manifest": []}',
        '{"manifest": {"format": "another"}}',
        '{"manifest": {"format": "sasrec-model"}}',
        '{"manifest": {"format": "sasrec-model", "version": "1"}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_a_foreign_manifest_is_no_model(saved, text):
    (saved / "manifest.json").write_text(text, encoding="latin-1")

    with pytest.raises(BundleError, match=r"manifest\.json: is damaged or not of a sasrec model"):
        sasrec.load(saved)


def test_a_newer_format_says_to_update(saved):
    seal(saved, version=2, files={"unheard.of": {"length": 3}}, signature="new")

    with pytest.raises(BundleError, match="has format version 2, this sasrec reads up to 1; update sasrec"):
        sasrec.load(saved)


@pytest.mark.parametrize("changes", [{"version": 0.5}, {"version": True}, {"kind": 3}, {"more": 1}, {"files": {}}])
def test_a_manifest_of_another_shape_is_refused(saved, changes):
    seal(saved, **changes)

    with pytest.raises(BundleError):
        sasrec.load(saved)


def test_a_manifest_that_names_files_elsewhere_is_refused(saved):
    entry = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    names = FILES - {"manifest.json"}

    for name in ("../outside", "/etc/hostname", "weights.pkl"):
        seal(saved, files=dict.fromkeys([*names, name], entry))
        with pytest.raises(BundleError, match=r"manifest\.json: is damaged"):
            sasrec.load(saved)


def test_an_unknown_kind_of_model_names_the_known_ones(saved):
    seal(saved, kind="oracle")

    with pytest.raises(
        BundleError, match="holds a model of kind 'oracle'; this sasrec knows sasrec, popularity, markov, "
    ):
        sasrec.load(saved)


# Whole, but hostile: every checksum fits


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_pickle_is_never_run(saved, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for harmful in (pickle.dumps(Harm()), torch_file(Harm())):
        (saved / name).write_bytes(harmful)
        (saved / "weights.pkl").write_bytes(harmful)
        if name != "manifest.json":
            seal(saved)

        with pytest.raises(BundleError):
            sasrec.load(saved)

    assert not (tmp_path / "harmed").exists()


def torch_file(value):
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["sasrec", "popularity", "markov", "rules", "ease", "blend"])
def test_weights_that_are_not_finite_are_refused(kind, value, model_of, tmp_path):
    model_of(kind).save(tmp_path / "model")
    path = tmp_path / "model"
    tensors = safetensors.torch.load((path / "weights.safetensors").read_bytes())
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            rewrite_weights(path, tensors | {name: tensor.index_fill(0, torch.tensor([0]), value)}, kind)
            with pytest.raises(
                BundleError, match=r"model: (weights are not finite|counts do not fit|the links are not finite)"
            ):
                sasrec.load(path)


@pytest.mark.parametrize("kind", ["sasrec", "popularity", "markov", "rules", "ease", "blend"])
def test_weights_of_another_shape_type_or_name_are_refused(kind, model_of, tmp_path):
    model_of(kind).save(tmp_path / "model")
    path = tmp_path / "model"
    tensors = safetensors.torch.load((path / "weights.safetensors").read_bytes())
    for name, tensor in tensors.items():
        without = {other: kept for other, kept in tensors.items() if other != name}
        for hostile in (
            tensors | {name: tensor[:-1].clone()},
            tensors | {name: tensor.unsqueeze(0)},
            tensors | {name: tensor.to(torch.float64 if tensor.is_floating_point() else torch.uint8)},
            tensors | {name: tensor.to(torch.bfloat16)},
            without,
            without | {"another": tensor},
        ):
            rewrite_weights(path, hostile, kind)
            with pytest.raises(BundleError):
                sasrec.load(path)
    rewrite_weights(path, tensors | {"another": torch.zeros(1)}, kind)
    with pytest.raises(BundleError):
        sasrec.load(path)


def safetensors_of(entries):
    """A file of weights that says of each entry whatever type and shape it is given, as no library would."""
    header, body = {}, b""
    for name, (dtype, shape, data) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entries_of(weights):
    """The other way round."""
    end = 8 + int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8:end])
    header.pop("__metadata__", None)
    body = weights[end:]
    return {
        name: (one["dtype"], one["shape"], body[slice(*one["data_offsets"])]) for name, one in sorted(header.items())
    }


@pytest.mark.parametrize(
    "shape",
    [[], [0], [2**62, 0], [0, LARGEST, LARGEST], [0, 2**64 - 1], [1] * 60],
    ids=["no axis", "nothing", "nothing of much", "nothing of too much", "nothing of more than any", "many axes"],
)
@pytest.mark.parametrize("kind", ["sasrec", "markov", "rules", "ease", "blend"])
def test_weights_of_a_shape_that_no_array_of_a_model_has_are_refused_in_words(kind, shape, model_of, tmp_path):
    path = tmp_path / "model"
    model_of(kind).save(path)
    whole = entries_of((path / "weights.safetensors").read_bytes())
    sizes = {"F32": 4, "I64": 8, "I32": 4, "BOOL": 1, "U8": 1}
    more = {"users.weight": ("F32", [1], bytes(4)), "items.values": ("F32", [1], bytes(4))}
    for name, (dtype, _, data) in (more | whole).items():
        content = data[: sizes[dtype]] if 0 not in shape else b""
        changed = safetensors_of({**without(whole, name), name: (dtype, shape, content)})
        (path / "weights.safetensors").write_bytes(changed)
        seal(path, kind=kind)

        with pytest.raises(BundleError, match=re.escape(f"{path}: ")):
            sasrec.load(path)


def rewrite_weights(path, tensors, kind):
    (path / "weights.safetensors").write_bytes(safetensors.torch.save(tensors))
    seal(path, kind=kind)


@pytest.fixture
def model_of(small_model):
    def build(kind):
        if kind == "sasrec":
            return small_model
        made = {
            name: one.of(small_model.histories, items=len(small_model.items))
            for name, one in {"markov": Markov, "popularity": Popularity, "rules": Linked}.items()
        }
        made["ease"] = ease(small_model.histories, items=len(small_model.items))
        made["blend"] = Blend({"network": (0.5, small_model.scorer), "rules": (0.5, made["rules"])})
        scorer = made[kind]
        return Recommender(scorer, users=small_model.users, items=small_model.items, histories=small_model.histories)

    return build


@pytest.mark.parametrize(
    ("items", "offsets"),
    [
        ([0, 1, 2], [0, 1, 2, 4]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 2], [1, 1, 2, 3]),
        ([0, 1, 2], [0, 2, 1, 3]),
        ([0, 1, 2], [0, 1, 1, 3]),
        ([0, 1, 2], [0, -1, 2, 3]),
        ([0, 1, 25], [0, 1, 2, 3]),
        ([0, -1, 2], [0, 1, 2, 3]),
    ],
)
def test_histories_that_do_not_fit_users_and_items_are_refused(saved, items, offsets):
    (saved / "users.parquet").write_bytes(parquet(["a", "b", "c"]))
    rewrite_histories(saved, np.array(items, np.int32), np.array(offsets, np.int64))

    with pytest.raises(BundleError, match="its files are whole but do not fit together: histories"):
        sasrec.load(saved)


def test_offsets_whose_differences_overflow_are_refused(saved):
    # Each step looks harmless when it is subtracted: the differences wrap around to positive numbers.
    offsets = np.array([0, LARGEST, -LARGEST - 1, -1, 4], np.int64)
    (saved / "users.parquet").write_bytes(parquet(["a", "b", "c", "d"]))
    rewrite_histories(saved, np.zeros(4, np.int32), offsets)

    with pytest.raises(BundleError, match="histories are empty, overlap, have gaps or name items beyond"):
        sasrec.load(saved)


@pytest.mark.parametrize(
    "changes",
    [{0: 1}, {3: -1}, {5: 10**6}, {-1: 10**6}, {-1: 0}, {1: LARGEST, 2: -LARGEST - 1, 3: -1}],
    ids=["late start", "negative", "descending", "late end", "early end", "overflow"],
)
def test_markov_steps_that_lie_outside_the_counts_are_refused(model_of, tmp_path, changes):
    path = tmp_path / "model"
    model_of("markov").save(path)
    tensors = safetensors.torch.load((path / "weights.safetensors").read_bytes())
    for place, offset in changes.items():
        tensors["offsets"][place] = offset
    rewrite_weights(path, tensors, "markov")

    with pytest.raises(BundleError, match="point beyond the catalogue"):
        sasrec.load(path)


@pytest.mark.parametrize("follower", [-1, 25, LARGEST])
def test_markov_followers_beyond_the_catalogue_are_refused(model_of, tmp_path, follower):
    path = tmp_path / "model"
    model_of("markov").save(path)
    tensors = safetensors.torch.load((path / "weights.safetensors").read_bytes())
    tensors["followers"][3] = follower
    rewrite_weights(path, tensors, "markov")

    with pytest.raises(BundleError, match="point beyond the catalogue"):
        sasrec.load(path)


@pytest.mark.parametrize(
    ("items", "offsets"), [(np.int64, np.int64), (np.int32, np.int32), (np.float32, np.int64), (np.int32, np.uint64)]
)
def test_histories_of_another_type_are_refused(saved, items, offsets):
    histories = sasrec.load(saved).histories
    rewrite_histories(saved, histories.items.astype(items), histories.offsets.astype(offsets))

    with pytest.raises(BundleError, match="histories do not fit the users"):
        sasrec.load(saved)


def rewrite_histories(path, items, offsets):
    (path / "histories.safetensors").write_bytes(safetensors.numpy.save({"items": items, "offsets": offsets}))
    seal(path)


def parquet(ids, name="id", **options):
    buffer = BytesIO()
    pl.DataFrame({name: pl.Series(ids, **options)}).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        parquet(["b", "a"]),
        parquet(["a", "a"]),
        parquet(["a", None]),
        parquet(["a", "b"], name="other"),
        parquet([0.5, 1.5]),
        parquet([True, False]),
        parquet([1, 2], dtype=pl.Int16),
        parquet([["a"], ["b"]]),
        parquet(["a", "b"], dtype=pl.Categorical),
        parquet([None, None]),
        b"PAR1",
        b"user\na\n",
    ],
)
@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
def test_vocabularies_that_are_none_are_refused(saved, name, data):
    (saved / name).write_bytes(data)
    seal(saved)

    with pytest.raises(BundleError, match="do not fit together"):
        sasrec.load(saved)


@pytest.mark.parametrize(
    "text",
    ["[]", "3", "", '{"width": 8', '{"width": "8"}', '{"width": 16}', '{"widht": 8}', '{"width": NaN}', "[" * 100_000],
    ids=lambda text: text[:20],
)
def test_a_config_that_is_none_is_refused(saved, text):
    (saved / "config.json").write_text(text)
    seal(saved)

    with pytest.raises(BundleError):
        sasrec.load(saved)


@pytest.mark.parametrize("text", ["[]", "", "null", '{"a":' * 100_000], ids=lambda text: text[:20])
def test_a_record_that_is_none_is_refused(saved, text):
    (saved / "record.json").write_text(text)
    seal(saved)

    with pytest.raises(BundleError, match="do not fit together"):
        sasrec.load(saved)


@pytest.mark.parametrize("value", [[1], {"a": [1]}], ids=str)
@pytest.mark.parametrize("name", ["best", "refit", "events", "parts", "automatic", "seconds", "epochs", "new", "data"])
def test_a_record_that_holds_what_no_models_does_is_refused(saved, name, value):
    record = json.loads((saved / "record.json").read_text())
    (saved / "record.json").write_text(json.dumps(record | {name: value}))
    seal(saved)

    with pytest.raises(BundleError, match=rf"record\.json holds what no model's does: .*\$\.{name}"):
        sasrec.load(saved)


ADDS = {"difference": 0.1, "low": 0.0, "high": 0.2, "level": 0.95}
PART = {"name": "rules", "kind": "rules", "weight": 0.5, "ndcg": 0.1, "adds": ADDS}
EPOCH = {"epoch": 1, "loss": 2.5, "ndcg": 0.1, "hit_rate": 0.2}
NOT_VALIDATED = {"epoch": 2, "ndcg": None, "hit_rate": None}
NEW = {"items": 2, "weight": 0.5, "costs": ADDS}


def without(whole, name):
    return {other: value for other, value in whole.items() if other != name}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"exclude_seen": "no"}, "exclude_seen"),
        ({"exclude_seen": None}, "exclude_seen"),
        ({"time_unit": "weeks"}, "time_unit"),
        ({"events": {"taken": 1, "through": 1, "store": 7}}, "events.store"),
        ({"features": ["genre"]}, "features"),
        ({"item_table": "genre"}, "item_table"),
        ({"item_table": ["genre"]}, "item_table"),
        ({"item_table": {"sha256": 7}}, "item_table.sha256"),
        ({"parts": [PART, PART | {"adds": 0.1}]}, "parts[1].adds"),
        ({"parts": [PART | {"adds": ADDS | {"more": 1}}]}, "parts[0].adds"),
        ({"parts": [PART | {"best": {"ndcg": "high"}}]}, "parts[0].best.ndcg"),
        *[({"best": {"ndcg": 0.1, "hit_rate": 0.2, "recent": share}}, "best.recent") for share in ("x", 0.0, 1.5)],
        *[({"parts": [without(PART, name)]}, "parts[0]") for name in PART],
        *[({"parts": [PART | {"adds": without(ADDS, name)}]}, "parts[0].adds") for name in ADDS],
        ({"new": NEW | {"costs": {"difference": "little"}}}, "new.costs.difference"),
        *[({"new": without(NEW, name)}, "new") for name in NEW],
        ({"history": [{}]}, "history[0]"),
        *[({"history": [EPOCH, without(EPOCH, name)]}, "history[1]") for name in ("epoch", "loss", "ndcg")],
        ({"history": [EPOCH | {"ndcg": "high"}]}, "history[0].ndcg"),
        ({"history": [EPOCH | {"loss": None}]}, "history[0].loss"),
        ({"history": [EPOCH | {"loss": 10**400}]}, "history[0].loss"),
        ({"epochs": 2**63}, "epochs"),
        *[({name: value}, name) for name in ("cpu_seconds", "peak_memory") for value in ("x", [1], 10**400)],
    ],
    ids=str,
)
def test_a_record_of_another_shape_within_is_refused(saved, changes, where):
    record = json.loads((saved / "record.json").read_text())
    (saved / "record.json").write_text(json.dumps(record | changes))
    seal(saved)

    with pytest.raises(
        BundleError, match=re.escape("record.json holds what no model's does: ") + f".*{re.escape(where)}"
    ):
        sasrec.load(saved)


@pytest.mark.parametrize(
    ("reading", "where"),
    [
        ({"json": "victim.txt"}, "unknown field `json`"),
        ({"replace": True}, "unknown field `replace`"),
        ({"events": "postgresql://elsewhere"}, "unknown field `events`"),
        ({"out": "x"}, "unknown field `out`"),
        ({"*": 1}, "unknown field"),
        ({"user": ["a"]}, "reading.user"),
        ({"user": None}, "reading.user"),
        ({"time": True}, "reading.time"),
        ({"split": "other"}, "reading.split"),
        ({"time_unit": {"a": 1}}, "reading.time_unit"),
        ({"user_core": 2**63}, "reading.user_core"),
        ({"user_core": "5"}, "reading.user_core"),
        ({"share": "0.1"}, "reading.share"),
        ({"min_weight": 10**400}, "reading.min_weight"),
    ],
    ids=str,
)
def test_a_record_sets_no_flag_but_those_that_say_how_a_log_is_read_and_split(saved, reading, where):
    record = json.loads((saved / "record.json").read_text())
    (saved / "record.json").write_text(json.dumps(record | {"reading": reading}))
    seal(saved)

    with pytest.raises(BundleError, match=re.escape(where)):
        read_bundle(saved)


def test_a_record_may_set_every_flag_that_says_how_a_log_is_read_and_split(saved):
    reading = {"user": "a", "item": "b", "time": "", "weight": "w", "format": "csv", "time_unit": "day-first"}
    reading |= {"min_weight": 1, "duplicates": "last", "user_core": 5, "item_core": 0, "bad_rows": "drop"}
    reading |= {"named": "550", "split": "time", "share": 0.2, "new_items": 0.1, "new_seed": 3}
    record = json.loads((saved / "record.json").read_text()) | {"reading": reading}
    (saved / "record.json").write_text(json.dumps(record))
    seal(saved)

    flags = Reading(**dict.fromkeys(("user", "item", "time", "weight", "format", "named", "time_unit"), ""))

    assert reading.keys() == replace(flags, new_items=0.1, filters=Filters(min_weight=1.0)).to_dict().keys()
    assert read_bundle(saved).record == record


@pytest.mark.parametrize(
    "changes",
    [{"parts": [PART]}, {"new": NEW}, {"new": None}, {"item_table": {}}, {"history": [EPOCH, EPOCH | NOT_VALIDATED]}],
    ids=str,
)
def test_a_record_of_the_right_shape_is_taken(saved, changes):
    record = json.loads((saved / "record.json").read_text()) | changes
    (saved / "record.json").write_text(json.dumps(record))
    seal(saved)

    assert sasrec.load(saved).record == record


def test_a_huge_network_is_refused_before_it_takes_any_memory(saved):
    # 64 blocks of width 4096 would take 26 GB.
    (saved / "config.json").write_text('{"width": 4096, "blocks": 64, "length": 10000, "positions": "learned"}')
    seal(saved)

    with pytest.raises(BundleError, match="weights do not fit the config"):
        sasrec.load(saved)


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
@pytest.mark.parametrize(
    "ids",
    [
        pl.repeat("a", 10_000_000, dtype=pl.String, eager=True),
        pl.repeat(1, 10_000_000, dtype=pl.Int64, eager=True),
        pl.Series(["a" * 200_000_000]),
    ],
    ids=["many", "many integers", "long"],
)
def test_a_few_bytes_that_unfold_to_many_are_refused_before_they_take_any_memory(saved, monkeypatch, name, ids):
    (saved / name).write_bytes(parquet(ids))
    seal(saved)
    monkeypatch.setattr(pl, "read_parquet", read_only_small)

    with pytest.raises(BundleError, match=rf"{name} unfolds to more than the ids of [\d,]+ {name.split('.')[0]}"):
        sasrec.load(saved)


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
def test_ids_written_by_what_they_share_are_refused_before_they_take_any_memory(saved, monkeypatch, name):
    ids = pa.table({"id": ["a" * 90_000 + f"{row:03}" for row in range(20)]})
    buffer = BytesIO()
    pq.write_table(ids, buffer, use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY"}, compression="zstd")
    (saved / name).write_bytes(buffer.getvalue())
    seal(saved)
    monkeypatch.setattr(pl, "read_parquet", read_only_small)

    with pytest.raises(BundleError, match="encoded as sasrec encodes none"):
        sasrec.load(saved)


def test_an_id_longer_than_a_log_may_have_is_refused(saved):
    users = pl.read_parquet(saved / "users.parquet")["id"].to_list()

    for last, fits in [("z" * 4096, True), ("z" * 4097, False)]:
        (saved / "users.parquet").write_bytes(parquet([*users[:-1], last]))
        seal(saved)
        if fits:
            assert sasrec.load(saved).users.ids[-1] == last
        else:
            with pytest.raises(BundleError, match=r"users\.parquet holds an id of more than 4,096 bytes"):
                sasrec.load(saved)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_larger_than_it_says_is_refused_unread(saved, name):
    os.truncate(saved / name, 2**40)  # of which the disk holds nothing
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(BundleError, match=rf"{re.escape(name)}: is damaged\D*1,099,511,627,776 bytes"):
        sasrec.load(saved)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "record.json"])
def test_text_that_is_larger_than_any_model_has_is_refused_under_a_fitting_manifest(saved, monkeypatch, name):
    seal(saved)
    monkeypatch.setitem(bundle._LARGEST, name, (saved / name).stat().st_size - 1)

    with pytest.raises(BundleError, match=rf"{name}: is damaged, as [\d,]+ bytes are more than it ever has"):
        sasrec.load(saved)


def test_a_model_that_could_not_be_loaded_is_not_saved(small_model, tmp_path, monkeypatch):
    monkeypatch.setitem(bundle._LARGEST, "record.json", 10)

    with pytest.raises(OutputError, match=r"model: record\.json would be larger than the 10 bytes"):
        small_model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def read_only_small(file, read=pl.read_parquet):
    """Fails where Parquet is unpacked that takes memory to speak of."""
    frame = read(file)
    assert frame.estimated_size() < 2**20
    return frame


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_random_harm_under_a_fitting_manifest_never_escapes_as_another_error(saved, name, capfd):
    rng = np.random.default_rng(5)
    whole = (saved / name).read_bytes()
    for _ in range(25):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        (saved / name).write_bytes(data)
        seal(saved)

        try:
            model = sasrec.load(saved)
            model.recommend(model.users.ids[:3], k=3)
        except sasrec.SasrecError:
            pass

    capfd.readouterr()


# Where a model may be saved


def test_nothing_is_replaced_unasked(saved, small_model):
    before = contents(saved)

    with pytest.raises(OutputError, match="model: exists already"):
        small_model.save(saved)

    assert contents(saved) == before


def test_a_model_takes_the_place_of_another_when_told_to(saved, model_of):
    model_of("markov").save(saved, replace=True)

    assert sasrec.load(saved).scorer.kind == "markov"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"thesis.txt": "years of work"},
        {"manifest.json": '{"name": "a web page"}', "index.html": "<html>"},
        {"manifest.json": '{"manifest": {"format": "another"}}'},
        {"manifest.json": "no JSON"},
    ],
    ids=["empty", "no manifest", "foreign manifest", "another's manifest", "broken manifest"],
)
def test_a_folder_that_is_no_model_is_never_replaced(small_model, tmp_path, files):
    path = tmp_path / "folder"
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)

    with pytest.raises(OutputError, match="folder: is not a sasrec model, or holds other files too"):
        small_model.save(path, replace=True)

    assert {path.name: path.read_text() for path in path.iterdir()} == files


def test_a_model_that_somebody_put_files_beside_is_never_replaced(saved, small_model):
    (saved / "thesis.txt").write_text("years of work")

    with pytest.raises(OutputError, match="holds other files too"):
        small_model.save(saved, replace=True)

    assert (saved / "thesis.txt").read_text() == "years of work"


def test_a_file_is_never_replaced_by_a_model(small_model, tmp_path):
    (tmp_path / "file").write_text("years of work")

    with pytest.raises(OutputError, match="file: is not a sasrec model"):
        small_model.save(tmp_path / "file", replace=True)

    assert (tmp_path / "file").read_text() == "years of work"


def test_a_model_of_a_newer_format_may_be_replaced(saved, small_model):
    seal(saved, version=2)

    small_model.save(saved, replace=True)

    assert sasrec.load(saved).scorer.kind == "sasrec"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("crash")])
@pytest.mark.parametrize("place", range(6))  # of the files that Python writes; the weights are next
def test_a_crash_while_saving_leaves_the_old_model_whole(saved, model_of, monkeypatch, error, place):
    before = contents(saved)
    written = 0
    write = Path.write_bytes

    def crash(path, data):
        nonlocal written
        if written == place:
            write(path, data[: len(data) // 2])
            raise error
        written += 1
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", crash)

    with pytest.raises((OutputError, KeyboardInterrupt, RuntimeError)):
        model_of("markov").save(saved, replace=True)

    monkeypatch.undo()
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"], "nothing temporary is left"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("crash")])
def test_a_crash_while_saving_the_weights_leaves_the_old_model_whole(saved, model_of, monkeypatch, error):
    before = contents(saved)

    def crash(tensors, path):
        path.write_bytes(b"half of the weights")
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", crash)

    with pytest.raises(type(error)):
        model_of("markov").save(saved, replace=True)

    monkeypatch.undo()
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"], "nothing temporary is left"


def test_a_disk_that_refuses_the_weights_is_one_clear_error_and_leaves_the_old_model_whole(saved, monkeypatch):
    before = contents(saved)
    model = sasrec.load(saved)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(model.scorer.network.items, "weight", torch.nn.Parameter(torch.ones(25, 100_000)))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # as a full disk does, it refuses what is too much
        with pytest.raises(OutputError, match=r"model: cannot be written: .*(too large|limit)"):
            model.save(saved, replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"], "nothing temporary is left"


# Weights that stay in their file


@pytest.fixture
def mapped(saved, monkeypatch):
    """A saved model whose weights count as large."""
    monkeypatch.setattr(loading, "_MAPPED_BYTES", 1)
    return saved


def test_large_weights_are_views_of_their_file(mapped):
    tensors = read_bundle(mapped).tensors
    places = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    own = [line[0].split("-") for line in places if line[-1] == str(mapped / "weights.safetensors")]

    assert own
    for tensor in tensors.values():
        assert any(int(low, 16) <= tensor.data_ptr() < int(high, 16) for low, high in own)


def test_a_model_whose_weights_stay_in_their_file_is_the_same_model(mapped, small_model):
    model = sasrec.load(mapped)

    for name, tensor in small_model.scorer.network.state_dict().items():
        assert torch.equal(model.scorer.network.state_dict()[name], tensor)
    users = small_model.users.ids[:5]
    assert model.recommend(users, k=3).equals(small_model.recommend(users, k=3))


def test_a_model_whose_file_is_replaced_or_removed_answers_as_before(mapped, model_of):
    model = sasrec.load(mapped)
    users = model.users.ids[:5]
    before = model.recommend(users, k=3)

    model_of("markov").save(mapped, replace=True)
    shutil.rmtree(mapped)

    assert model.recommend(users, k=3).equals(before)


def test_what_is_changed_in_mapped_weights_never_reaches_the_file(mapped):
    before = contents(mapped)
    model = sasrec.load(mapped)

    with torch.no_grad():
        model.scorer.network.items.weight.add_(1.0)

    assert contents(mapped) == before
    assert (model.scorer.network.items.weight != sasrec.load(mapped).scorer.network.items.weight).all()


def test_no_flipped_bit_of_mapped_weights_is_accepted(mapped):
    whole = (mapped / "weights.safetensors").read_bytes()

    for bit in np.random.default_rng(0).integers(8 * len(whole), size=50).tolist():
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        (mapped / "weights.safetensors").write_bytes(data)
        with pytest.raises(BundleError, match=r"weights\.safetensors: is damaged"):
            read_bundle(mapped)


@pytest.mark.parametrize("data", [b"", b"none", bytes(100), b"\xff" * 100])
def test_a_file_of_mapped_weights_that_is_none_is_refused(mapped, data):
    (mapped / "weights.safetensors").write_bytes(data)
    seal(mapped)

    with pytest.raises(BundleError, match="do not fit together"):
        sasrec.load(mapped)


def test_mapped_weights_that_change_between_their_check_and_their_mapping_are_refused(mapped, monkeypatch):
    load = safetensors.torch.load_file

    def swapped(path):
        other = Path(path).with_name("other")
        other.write_bytes(Path(path).read_bytes())
        other.replace(path)
        return load(path)

    monkeypatch.setattr(safetensors.torch, "load_file", swapped)

    with pytest.raises(BundleError, match=r"weights\.safetensors: was changed while it was loaded"):
        sasrec.load(mapped)


def test_a_link_in_place_of_mapped_weights_is_refused(mapped, tmp_path):
    (mapped / "weights.safetensors").rename(tmp_path / "elsewhere")
    (mapped / "weights.safetensors").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BundleError, match=r"weights\.safetensors: is not a regular file"):
        sasrec.load(mapped)


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "half \ud800",
        float("nan"),
        float("inf"),
        10**5000,
        nested(1500),
        {1, 2},
        np.float32(1),
        b"a",
        {("a",): 1},
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("place", ["record", "config"])
def test_what_could_never_be_read_back_is_not_written(saved, tmp_path, place, value):
    read = read_bundle(saved)
    before = contents(saved)
    hostile = replace(read, **{place: getattr(read, place) | {"note": value}})

    for path, again in ((tmp_path / "new", False), (saved, True)):
        with pytest.raises(OutputError, match=rf"{path}/{place}\.json: would hold what cannot be read back: "):
            bundle.save(hostile, path, replace=again)

    assert contents(saved) == before
    assert sorted(tmp_path.iterdir()) == [saved]


def test_a_missing_parent_folder_is_one_clear_error(small_model, tmp_path):
    with pytest.raises(OutputError, match=r"model: the folder .*nowhere does not exist"):
        small_model.save(tmp_path / "nowhere" / "model")


def test_a_file_that_memory_has_no_room_for_is_refused_in_words(saved):
    file, size = saved / "histories.safetensors", 2**36
    os.truncate(file, size)  # which takes no room on the disk
    taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, before[1]))
    try:
        with pytest.raises(
            BundleError, match=rf"histories\.safetensors: cannot be read: there is no memory for {size:,}"
        ):
            bundle.read(saved, file.name, size=size)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_model_whose_replacement_was_cut_short_is_named_with_its_place(saved):
    place = saved.parent / f".{saved.name}.abcdefgh.old"
    place.mkdir()
    saved.rename(place / saved.name)

    with pytest.raises(BundleError, match="is missing, as replacing it was cut short") as refused:
        sasrec.load(saved)

    assert str(refused.value).endswith(f"; it is in {place / saved.name}: move it back")
