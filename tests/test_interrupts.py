"""Ctrl-C and SIGTERM wait until a training's state is whole, then end it with the best that it has."""

import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import sasrec
from sasrec.errors import TrainingError
from sasrec.evaluation.ranking import rank_targets
from sasrec.training.interrupts import held_back, terminable
from sasrec.training.steps import Training


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(autouse=True)
def usual_handlers():
    """Those of a program in the foreground, wherever the tests run: a job in the background ignores Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def signalled(monkeypatch):
    """Lets a signal come while the training makes a step, counted from 1."""

    def install(step, number=signal.SIGINT):
        real, made = Training._step, []

        def interrupted(self, batch):
            made.append(batch)
            if len(made) == step:
                signal.raise_signal(number)
            return real(self, batch)

        monkeypatch.setattr(Training, "_step", interrupted)

    yield install
    monkeypatch.undo()


def equal_weights(first, second):
    first, second = first.scorer.network.state_dict(), second.scorer.network.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_an_interrupt_waits_for_the_end_of_what_must_be_whole():
    with held_back() as interrupts:
        signal.raise_signal(signal.SIGINT)
        whole = True
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()

    assert whole


def test_an_interrupt_is_raised_where_it_does_no_harm():
    with held_back() as interrupts:
        interrupts.check()
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_came_before_is_raised_where_it_does_no_harm():
    with held_back() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            pytest.fail("the block began")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, lambda number, frame: None])
def test_a_handler_of_the_callers_own_stays(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with held_back(), terminable():
            during = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert during is handler


def test_the_handlers_of_before_return():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with terminable(), held_back():
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not {*during} & {*before}


def test_termination_is_left_alone_where_nobody_asked_for_it():
    with held_back():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_training_works_in_a_thread(data, small_config):
    made = []
    thread = threading.Thread(target=lambda: made.append(sasrec.train(data, replace(small_config, epochs=1))))
    thread.start()
    thread.join()

    assert made[0].record["stopped"] == "all epochs trained"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_keeps_its_best_and_can_go_on_to_the_same_bits(
    data, small_config, tmp_path, signalled, monkeypatch, number
):
    config, path = replace(small_config, epochs=4), tmp_path / "walks.training"
    whole, two = sasrec.train(data, config), sasrec.train(data, replace(config, epochs=2))
    steps = whole.record["steps"] // 4

    signalled(2 * steps + 2, number)
    with terminable():
        best = sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path))
    monkeypatch.undo()
    made = sasrec.Checkpoint(path).read().values["training"]["step"]
    again = sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path, resume=True))

    assert (best.record["stopped"], best.record["epochs"]) == ("interrupted", 2)
    assert equal_weights(best, two)
    assert made == 2 * steps + 2, "the step that was being made is whole, and the last"
    assert equal_weights(again, whole)
    assert again.record["history"] == whole.record["history"]


def test_a_training_interrupted_while_it_is_judged_goes_on_to_the_same_bits(data, small_config, tmp_path, monkeypatch):
    path, whole, calls = tmp_path / "walks.training", sasrec.train(data, small_config), []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the interrupt waited for the end of the validation")
        return rank_targets(*args, **options)

    monkeypatch.setattr("sasrec.evaluation.ranking.rank_targets", interrupted)
    best = sasrec.train(data, small_config, checkpoint=sasrec.Checkpoint(path))
    monkeypatch.undo()
    again = sasrec.train(data, small_config, checkpoint=sasrec.Checkpoint(path, resume=True))

    assert best.record["epochs"] == 1
    assert equal_weights(again, whole)
    assert again.record["history"] == whole.record["history"]


def test_a_training_interrupted_before_there_is_anything_to_keep_can_go_on(
    data, small_config, tmp_path, signalled, monkeypatch
):
    path = tmp_path / "walks.training"
    signalled(1)

    with pytest.raises(TrainingError, match="there is nothing to keep; resume=True goes on with it"):
        sasrec.train(data, small_config, checkpoint=sasrec.Checkpoint(path))
    monkeypatch.undo()
    again = sasrec.train(data, small_config, checkpoint=sasrec.Checkpoint(path, resume=True))

    assert equal_weights(again, sasrec.train(data, small_config))


def test_an_interrupt_after_the_last_step_of_a_finished_training_is_kept_from_doing_harm(
    data, small_config, monkeypatch
):
    def epoch(result):
        if result.epoch == small_config.epochs:
            signal.raise_signal(signal.SIGINT)

    told = SimpleNamespace(step=lambda *_: None, epoch=epoch)
    monkeypatch.setattr("sasrec.training.training.watched", lambda *_, **__: nullcontext(told))

    model = sasrec.train(data, small_config)

    assert model.record["epochs"] == small_config.epochs
    assert equal_weights(model, sasrec.train(data, small_config))
