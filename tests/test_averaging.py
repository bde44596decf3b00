"""An average is that of its formula; it is judged and kept, and learning goes on as if there were none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import sasrec
from sasrec.evaluation.metrics import ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.training.averaging import Average
from sasrec.training.beginning import begin
from sasrec.training.settling import settled

DECAY = 0.7


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


def training_of(data, config):
    return begin(data.train, items=len(data.log.items), config=settled(config, data.train, items=25))


def weights_of(network):
    return {name: one.detach().clone() for name, one in network.state_dict().items()}


def by_hand(data, config, *, epochs):
    """The average of a training without one, worked out step by step from the weights that it had."""
    training = training_of(data, config)
    average, step = weights_of(training.network), 0

    def note(*_):
        nonlocal step
        step += 1
        decay = min(DECAY, step / (step + 9))
        for name, now in weights_of(training.network).items():
            average[name] = decay * average[name] + (1 - decay) * now

    for number in range(1, epochs + 1):
        training.epoch(number, note)
    return average


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-7)


def test_an_average_worked_by_hand():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 5.0)
    average = Average(network, decay=0.15)

    for step, weight in enumerate([1.0, 2.0], start=1):
        torch.nn.init.constant_(network.weight, weight)
        average.add(step)

    # 0.1 * 5 + 0.9 * 1 = 1.4; the second step would have a decay of 2 / 11, which is more than 0.15.
    assert average.weights["weight"].item() == pytest.approx(0.15 * 1.4 + 0.85 * 2)
    assert network.weight.item() == 2.0


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_a_trained_model_has_the_average_of_its_weights(data, small_config, loss):
    config = replace(small_config, epochs=2, loss=loss, average=DECAY)

    model = sasrec.train(data, config)

    epochs = model.record["best"]["epoch"]
    assert_close(weights_of(model.scorer.network), by_hand(data, replace(config, average=0.0), epochs=epochs))


def test_what_is_judged_is_what_is_kept(data, small_config):
    model = sasrec.train(data, replace(small_config, average=0.99))

    ranks = rank_targets(model.scorer, data.valid, exclude_seen=model.record["exclude_seen"]).ranks
    assert model.record["best"]["ndcg"] == float(ndcg(ranks, 10).mean())


def test_learning_goes_on_as_if_there_were_no_average(data, small_config):
    plain, averaged = (training_of(data, replace(small_config, average=average)) for average in (0.0, DECAY))

    losses = []
    for training in (plain, averaged):
        for number in (1, 2):
            losses.append(training.epoch(number))
            with training.judged() as network:
                judged = weights_of(network)

    now = weights_of(averaged.network)
    assert losses[:2] == losses[2:]
    assert all(torch.equal(now[name], weight) for name, weight in weights_of(plain.network).items())
    assert not any(torch.equal(now[name], judged[name]) for name in now)


def test_the_weights_come_back_when_judging_fails(data, small_config):
    training = training_of(data, replace(small_config, average=DECAY))
    training.epoch(1)
    before = weights_of(training.network)

    with pytest.raises(ValueError, match="no judge"), training.judged():
        raise ValueError("no judge")

    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(training.network).items())


def test_a_refit_has_the_average_too(data, small_config):
    config = replace(small_config, average=DECAY)
    model = sasrec.train(data, config)

    again = sasrec.refit(model, data)

    refit = SimpleNamespace(train=data.refit.train, log=data.log)
    expected = by_hand(refit, replace(config, average=0.0), epochs=model.record["best"]["epoch"])
    assert_close(weights_of(again.scorer.network), expected)
