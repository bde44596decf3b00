"""A checkpoint is one file that is whole or refused, and the one before stays until it is there."""

import os
import random
import resource
from contextlib import suppress

import pytest
import safetensors.torch
import torch

import sasrec
from sasrec.errors import BundleError, ConfigError, OutputError
from sasrec.training.resuming import State, under

STATE = State(
    {"numbers": [1, 0.1, 2**127 + 1, None], "text": "Brontë"},
    {"a.weight": torch.arange(6.0).reshape(2, 3), "a.step": torch.tensor(7), "b": torch.zeros(0)},
)


@pytest.fixture
def checkpoint(tmp_path):
    return sasrec.Checkpoint(tmp_path / "books.training")


@pytest.fixture
def written(checkpoint):
    checkpoint.write(STATE)
    return checkpoint


def test_what_is_read_is_what_was_written(written):
    found = written.read()

    assert {name: found.values[name] for name in STATE.values} == STATE.values
    assert found.tensors.keys() == STATE.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in STATE.tensors.items())
    assert all(found.tensors[name].dtype == tensor.dtype for name, tensor in STATE.tensors.items())


def test_a_part_comes_back_under_its_own_names():
    state = State({}, {**under("a", {"weight": torch.ones(1)}), **under("ab", {"weight": torch.zeros(1)})})

    assert state.part("a") == {"weight": torch.ones(1)}


def test_what_is_read_no_longer_needs_the_file(written):
    found = written.read()

    written.path.write_bytes(b"\0" * written.path.stat().st_size)

    assert torch.equal(found.tensors["a.weight"], STATE.tensors["a.weight"])


def check_flips(checkpoint, places):
    content = checkpoint.path.read_bytes()
    accepted = []
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        checkpoint.path.write_bytes(flipped)
        with suppress(BundleError):
            accepted.append((place, checkpoint.read()))
    return accepted


def test_no_flipped_bit_is_accepted(written):
    places = random.Random(1).sample(range(8 * written.path.stat().st_size), 300)

    assert check_flips(written, places) == []


@pytest.mark.parametrize("size", [0, 1, 8, 100, -1])
def test_a_file_that_ends_early_is_refused(written, size):
    written.path.write_bytes(written.path.read_bytes()[:size])

    with pytest.raises(BundleError, match=r"books\.training: is damaged or not the state of a training; remove it"):
        written.read()


@pytest.mark.parametrize("header", [None, {"state": "{}"}, {"state": "[]", "sha256": "0"}, {"format": "pt"}])
def test_a_file_of_something_else_is_refused(checkpoint, header):
    safetensors.torch.save_file({"a": torch.ones(2)}, checkpoint.path, metadata=header)

    with pytest.raises(BundleError, match="is damaged or not the state of a training"):
        checkpoint.read()


def test_a_file_of_another_format_version_names_it(written, monkeypatch):
    monkeypatch.setattr("sasrec.training.checkpoint.VERSION", 2)

    with pytest.raises(BundleError, match="has format version 1, this sasrec reads 2; take the sasrec that wrote it"):
        written.read()


def test_a_folder_is_no_place_for_a_checkpoint(tmp_path):
    (tmp_path / "books.training").mkdir()

    with pytest.raises(OutputError, match=r"books\.training: is a folder, which no file takes the place of"):
        sasrec.Checkpoint(tmp_path / "books.training", resume=True).check()


def test_a_link_is_not_followed(written, tmp_path):
    (tmp_path / "other.training").symlink_to(written.path)

    with pytest.raises(BundleError, match=r"other\.training: is not a regular file"):
        sasrec.Checkpoint(tmp_path / "other.training", resume=True).read()


def test_a_disk_that_is_full_is_one_clear_error_and_leaves_the_state_before_whole(written):
    before = written.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # as a full disk does, it refuses what is too much
        with pytest.raises(OutputError) as error:
            written.write(State({}, {"large": torch.ones(10**6)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert str(error.value).startswith(f"{written.path}: the state of the training cannot be written: ")
    assert str(error.value).endswith(
        "the state written before is whole: make room, then pass resume=True to go on with it"
    )
    assert str(error.value).count("cannot be written") == 1
    assert written.path.read_bytes() == before
    assert os.listdir(written.path.parent) == ["books.training"], "nothing temporary is left"


def test_the_first_state_that_a_disk_refuses_leaves_nothing_to_go_on_with(checkpoint):
    checkpoint = sasrec.Checkpoint(checkpoint.path.parent / "nowhere" / "books.training")

    with pytest.raises(OutputError, match=r"nowhere does not exist or cannot be entered.*; make room and train again"):
        checkpoint.write(STATE)


def test_what_killed_writings_left_goes_with_the_next_start_and_nothing_else_does(written, tmp_path):
    for name in (".books.training.a1b2c3d4.tmp", ".books.trainings.a1b2c3d4.tmp", ".books.training.a1b2c3d4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "books.training").write_text("half")

    sasrec.Checkpoint(written.path, resume=True).check()

    assert sorted(os.listdir(tmp_path)) == [
        ".books.training.a1b2c3d4",
        ".books.trainings.a1b2c3d4.tmp",
        "books.training",
    ]


def test_a_checkpoint_that_is_removed_is_gone_and_may_be_gone_already(written):
    written.remove()
    written.remove()

    assert os.listdir(written.path.parent) == []


@pytest.mark.parametrize("every", [0, -1.0, float("nan")])
def test_an_interval_that_is_none_is_refused(tmp_path, every):
    with pytest.raises(ConfigError, match="every: expected a number of minutes above 0, found"):
        sasrec.Checkpoint(tmp_path / "books.training", every=every)
