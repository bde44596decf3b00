"""Losses agree with their definitions in float64, gradients included, where others lose them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.config import Config
from sasrec.training import losses
from sasrec.training.batches import Negatives
from sasrec.training.losses import ExactCrossEntropy
from sasrec.training.negatives import sampled


def drawn(positions, items, *, width=5, spread=1.0, dtype=torch.float64, seed=0):
    """States, a table and targets; the first two collect gradients."""
    generator = torch.Generator().manual_seed(seed)
    states = (torch.randn(positions, width, generator=generator, dtype=torch.float64) * spread).to(dtype)
    table = torch.randn(items, width, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, items, (positions,), generator=generator)
    return states.requires_grad_(), table.requires_grad_(), targets


def value_and_gradients(loss, states, table):
    return loss.detach(), *torch.autograd.grad(loss, (states, table))


def reference(states, table, targets):
    """The same in float64, by torch."""
    states, table = (one.detach().double().requires_grad_() for one in (states, table))
    return value_and_gradients(torch.nn.functional.cross_entropy(states @ table.t(), targets), states, table)


@pytest.mark.parametrize("positions", [1, 2, 63, 64, 65, 128, 131, 300])
@pytest.mark.parametrize("items", [1, 2, 97])
def test_exact_cross_entropy_is_torchs_in_value_and_gradients(positions, items):
    states, table, targets = drawn(positions, items)

    found = value_and_gradients(ExactCrossEntropy()(states, table, targets), states, table)

    for ours, theirs in zip(found, reference(states, table, targets), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("raised", "logarithm"), [(torch.exp, 1.0), (torch.exp2, np.log(2))])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_powers_of_either_base_give_the_same_loss_and_gradients(monkeypatch, raised, logarithm, smoothing):
    monkeypatch.setattr(losses, "_raised", raised)
    monkeypatch.setattr(losses, "_LN", logarithm)
    for spread in (1.0, 300.0):  # the second leaves the number range, and is shifted
        states, table, targets = drawn(131, 97, spread=spread)
        entropy = torch.nn.functional.cross_entropy(states @ table.t(), targets, label_smoothing=smoothing)
        expected = value_and_gradients(entropy, states, table)

        found = value_and_gradients(ExactCrossEntropy(smoothing=smoothing)(states, table, targets), states, table)

        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.05, 0.3, 0.99])
@pytest.mark.parametrize("positions", [1, 64, 131])
@pytest.mark.parametrize("items", [1, 2, 97])
@pytest.mark.parametrize("weighted", [False, True])
def test_label_smoothing_is_torchs_in_value_and_gradients(smoothing, positions, items, weighted):
    states, table, targets = drawn(positions, items)
    weights = torch.linspace(0.5, 3.0, positions, dtype=torch.float64) if weighted else None
    each = torch.nn.functional.cross_entropy(states @ table.t(), targets, label_smoothing=smoothing, reduction="none")
    expected = value_and_gradients((each if weights is None else each * weights / weights.mean()).mean(), states, table)

    loss = ExactCrossEntropy(smoothing=smoothing)
    found = value_and_gradients(loss(states, table, targets, weights), states, table)

    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_label_smoothing_adds_up_in_float32_where_products_are_in_bfloat16():
    states, table, targets = drawn(300, 500, dtype=torch.float32)
    kinds = (ExactCrossEntropy(kind, smoothing=0.1) for kind in (torch.bfloat16, torch.float32))

    low, full = (value_and_gradients(loss(states, table, targets), states, table) for loss in kinds)

    for ours, theirs in zip(low, full, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=0.01 * theirs.abs().max().item())


@given(
    sizes=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 40)), min_size=2, max_size=5), seed=st.integers(0, 99)
)
@settings(max_examples=20)
def test_buffers_kept_from_larger_and_smaller_steps_leave_no_trace(sizes, seed):
    loss = ExactCrossEntropy()

    for positions, items in sizes:
        states, table, targets = drawn(positions, items, seed=seed)
        found = value_and_gradients(loss(states, table, targets), states, table)
        for ours, theirs in zip(found, reference(states, table, targets), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [60.0, 200.0, 2_000.0])
def test_a_target_without_any_probability_left_has_its_exact_loss_and_gradients(dtype, gap):
    # Scores 0 and -gap: the target's probability is exp(-gap), beyond every number format.
    states = torch.tensor([[1.0], [1.0]], dtype=dtype, requires_grad=True)
    table = torch.tensor([[0.0], [-gap]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([1, 0])

    loss, d_states, d_table = value_and_gradients(ExactCrossEntropy()(states, table, targets), states, table)

    assert loss.item() == pytest.approx(gap / 2, rel=1e-6)
    assert d_states.flatten().tolist() == pytest.approx([gap / 2, 0.0], rel=1e-6)
    assert d_table.flatten().tolist() == pytest.approx([0.5, -0.5], rel=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [-500.0, -90.0, 90.0, 500.0])
def test_scores_whose_exponentials_leave_the_number_range_have_their_loss_and_gradients(level, precision):
    # All scores of the second position lie about `level`, those of the first about 0.
    states = torch.tensor([[0.0, 1.0], [1.0, 0.5]], requires_grad=True)
    table = torch.tensor([[level, 0.25], [level, -1.5], [level, 2.0]], requires_grad=True)
    targets = torch.tensor([1, 2])

    found = value_and_gradients(ExactCrossEntropy(precision)(states, table, targets), states, table)
    exact = reference(states, table, targets)

    # In bfloat16 the scores themselves are rounded to 1/256 of their size, so only float32 tells them apart here.
    rough = precision == torch.bfloat16
    assert all(one.isfinite().all() for one in found)
    assert found[0].item() == pytest.approx(exact[0].item(), abs=abs(level) / 200 if rough else 1e-5)
    if not rough:
        for ours, theirs in zip(found, exact, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_float32_is_exact_to_its_rounding(spread):
    states, table, targets = drawn(200, 50, spread=spread, dtype=torch.float32)

    found = value_and_gradients(ExactCrossEntropy()(states, table, targets), states, table)

    for ours, theirs in zip(found, reference(states, table, targets), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def test_bfloat16_products_stay_within_one_percent_of_float32():
    states, table, targets = drawn(3_000, 400, width=16, dtype=torch.float32)

    found = value_and_gradients(ExactCrossEntropy(torch.bfloat16)(states, table, targets), states, table)
    exact = reference(states, table, targets)

    assert all(one.dtype == torch.float32 for one in found)
    assert found[0].item() == pytest.approx(exact[0].item(), rel=1e-3)
    for ours, theirs in zip(found[1:], exact[1:], strict=True):
        assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_a_target_without_any_probability_left_is_finite_in_bfloat16():
    states, table, targets = drawn(300, 40, spread=60.0, dtype=torch.float32)

    loss = ExactCrossEntropy(torch.bfloat16)(states, table, targets)

    assert loss.item() == pytest.approx(reference(states, table, targets)[0].item(), rel=0.02)


def test_the_loss_of_equal_scores_is_the_logarithm_of_the_catalogue():
    states, table, targets = torch.zeros(9, 4), torch.ones(1_000, 4), torch.arange(9)

    assert ExactCrossEntropy()(states, table, targets).item() == pytest.approx(np.log(1_000), rel=1e-6)


def test_a_factor_on_the_loss_scales_its_gradients():
    states, table, targets = drawn(70, 11)
    loss = ExactCrossEntropy()

    once = torch.autograd.grad(loss(states, table, targets), (states, table))
    thrice = torch.autograd.grad(3 * loss(states, table, targets), (states, table))

    for single, triple in zip(once, thrice, strict=True):
        torch.testing.assert_close(3 * single, triple, rtol=1e-12, atol=1e-14)


def test_a_gradient_once_given_does_not_change_when_the_next_loss_is_computed():
    states, table, targets = drawn(5, 7)
    loss = ExactCrossEntropy()

    loss(states, table, targets).backward()
    kept = table.grad.clone()
    loss(states.detach() * 3, table.detach(), targets)

    assert torch.equal(table.grad, kept)


def test_the_same_loss_can_be_differentiated_twice():
    states, table, targets = drawn(5, 7)
    loss = ExactCrossEntropy()(states, table, targets)

    first = torch.autograd.grad(loss, (states, table), retain_graph=True)
    second = torch.autograd.grad(loss, (states, table))

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_loss_overtaken_by_the_next_one_is_refused_instead_of_wrong():
    states, table, targets = drawn(5, 7)
    loss = ExactCrossEntropy()
    overtaken = loss(states, table, targets)
    loss(states * 2, table, targets)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        overtaken.backward()


def test_gradients_add_up_over_steps_as_torchs_do():
    states, table, targets = drawn(30, 7)
    loss = ExactCrossEntropy()

    for _ in range(3):
        loss(states, table, targets).backward()
    _, d_states, d_table = reference(states, table, targets)

    torch.testing.assert_close(states.grad, 3 * d_states, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(table.grad, 3 * d_table, rtol=1e-10, atol=1e-13)


def test_products_in_bfloat16_meet_few_numbers_of_rows():
    # Each number of rows costs a compiled kernel that stays in memory.
    rows = set()

    class Rows(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.mm.out:
                rows.add(len(args[0]))
            return function(*args, **(kwargs or {}))

    with Rows():
        for positions in range(1, 600, 7):
            ExactCrossEntropy(torch.bfloat16)(*drawn(positions, 9, dtype=torch.float32))

    assert rows
    assert len(rows) <= 4


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_memory_never_holds_the_scores_of_all_positions(precision):
    positions, items, width = 2_048, 500, 4
    states, table, targets = drawn(positions, items, width=width, dtype=torch.float32)
    loss = ExactCrossEntropy(precision)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for one in result if isinstance(result, tuple | list) else (result,):
                if isinstance(one, torch.Tensor):
                    largest = max(largest, one.untyped_storage().nbytes() // one.element_size())
            return result

    with Largest():
        loss(states, table, targets).backward()

    assert 0 < largest <= 256 * 512 < positions * items


def binary(states, table, targets, others):
    return sampled(Config(loss="bce"), states, table, targets, Negatives(others))


@given(seed=st.integers(0, 10_000), positions=st.integers(1, 30), negatives=st.integers(1, 4))
@settings(max_examples=30)
def test_binary_cross_entropy_is_its_formula_in_value_and_gradients(seed, positions, negatives):
    states, table, targets = drawn(positions, 9, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    others = (targets.unsqueeze(1) + torch.randint(1, 9, (positions, negatives), generator=generator)) % 9

    positive = (states * table[targets]).sum(dim=1)
    negative = torch.stack([(states * table[others[:, n]]).sum(dim=1) for n in range(negatives)], dim=1)
    formula = (-torch.sigmoid(positive).log() - (1 - torch.sigmoid(negative)).log().mean(dim=1)).mean()
    found = value_and_gradients(binary(states, table, targets, others), states, table)

    for ours, theirs in zip(found, value_and_gradients(formula, states, table), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_one_negative_gives_the_papers_sum_worked_by_hand():
    # Scores ln 3 of the target and -ln 4 of the negative: sigmoids 3/4 and 1/5.
    states = torch.tensor([[1.0]], dtype=torch.float64)
    table = torch.tensor([[np.log(3.0)], [-np.log(4.0)]], dtype=torch.float64)

    loss = binary(states, table, torch.tensor([0]), torch.tensor([[1]]))

    assert loss.item() == pytest.approx(-np.log(3 / 4) - np.log(4 / 5), rel=1e-12)


@pytest.mark.parametrize("score", [17.0, 20.0, 100.0, 1_000.0])
def test_a_confident_mistake_keeps_its_full_gradient(score):
    states = torch.ones(1, 1, requires_grad=True)
    table = torch.tensor([[-score], [score]], requires_grad=True)

    loss = binary(states, table, torch.tensor([0]), torch.tensor([[1]]))
    loss.backward()

    assert loss.item() == pytest.approx(2 * score, rel=1e-5)
    assert table.grad.flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)


def test_a_user_who_owns_every_item_lends_the_target_alone():
    states, table, _ = drawn(2, 9)
    targets, others = torch.tensor([7, 8]), torch.tensor([[-1, -1], [4, 5]])

    loss = binary(states, table, targets, others)
    positive = torch.nn.functional.softplus(-(states * table[targets]).sum(dim=1))
    negative = torch.nn.functional.softplus(states[1] @ table[[4, 5]].t()).mean()

    torch.testing.assert_close(loss, (positive.sum() + negative) / 2)
    assert torch.autograd.grad(loss, table)[0].any(dim=1).nonzero().flatten().tolist() == [4, 5, 7, 8]


# Weighted, and over drawn negatives: the published formulas, term by term


def weights_of(positions, seed=3):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(positions, generator=generator, dtype=torch.float64) * 3
    weights[::4] = 0.0
    return weights


@pytest.mark.parametrize("positions", [1, 5, 64, 130])
def test_weighted_cross_entropy_is_the_weighted_mean_of_torchs_in_value_and_gradients(positions):
    states, table, targets = drawn(positions, 17)
    weights = weights_of(positions) + (positions == 1)

    found = value_and_gradients(ExactCrossEntropy()(states, table, targets, weights), states, table)
    each = torch.nn.functional.cross_entropy(states @ table.t(), targets, reduction="none")
    expected = value_and_gradients((each * weights).sum() / weights.sum(), states, table)

    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_weights_all_alike_change_nothing():
    states, table, targets = drawn(70, 11)

    plain = value_and_gradients(ExactCrossEntropy()(states, table, targets), states, table)
    alike = value_and_gradients(
        ExactCrossEntropy()(states, table, targets, torch.full((70,), 2.5).double()), states, table
    )

    for ours, theirs in zip(alike, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", ["softmax", "bce", "gbce", "bpr", "sampled-softmax"])
def test_a_step_whose_targets_all_weigh_nothing_teaches_nothing(loss):
    states, table, targets = drawn(6, 9)
    nothing = torch.zeros(6, dtype=torch.float64)
    others = Negatives((targets.unsqueeze(1) + 1) % 9)

    value = (
        ExactCrossEntropy()(states, table, targets, nothing)
        if loss == "softmax"
        else sampled(Config(loss=loss), states, table, targets, others, nothing)
    )

    assert [one.abs().sum().item() for one in value_and_gradients(value, states, table)] == [0.0, 0.0, 0.0]


def test_a_loss_of_zero_still_counts_in_the_mean():
    # One target is certain: its loss is 0 in float64, and the mean is over both.
    states = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    table = torch.tensor([[1000.0], [0.0]], dtype=torch.float64)

    loss = ExactCrossEntropy()(states, table, torch.tensor([0, 0]))

    assert loss.item() == pytest.approx(np.log(2) / 2, rel=1e-12)


def negatives_for(targets, count, items=9, seed=0):
    """Drawn evenly from the items that are not the target."""
    generator = torch.Generator().manual_seed(seed)
    return (targets.unsqueeze(1) + torch.randint(1, items, (len(targets), count), generator=generator)) % items


def by_formula(config, states, table, targets, others, each):
    """Position by position, in plain Python over torch scalars; `each` is the loss of one target."""
    scores = states @ table.t()
    rows = [
        each(scores[row, targets[row]], [scores[row, one] for one in others[row] if one >= 0])
        for row in range(len(targets))
    ]
    return torch.stack(rows).mean()


def same_as_formula(config, each, *, count=3, others=None):
    states, table, targets = drawn(8, 9)
    others = negatives_for(targets, count) if others is None else others

    found = value_and_gradients(sampled(config, states, table, targets, Negatives(others)), states, table)
    formula = by_formula(config, states, table, targets, others, each)

    for ours, theirs in zip(found, value_and_gradients(formula, states, table), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("calibration", [0.0, 0.2, 0.75, 1.0])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_gbce_is_the_papers_formula(calibration, count):
    # Petrov & Macdonald: alpha = N / (V - 1), beta = alpha (t (1 - 1/alpha) + 1/alpha), -log sigma(s+)^beta - ...
    alpha = count / 8
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)

    def each(positive, negatives):
        return -torch.log(torch.sigmoid(positive) ** beta) - sum(torch.log(1 - torch.sigmoid(one)) for one in negatives)

    same_as_formula(Config(loss="gbce", negatives=count, calibration=calibration), each, count=count)


def test_gbce_without_calibration_is_binary_cross_entropy_summed_over_negatives():
    states, table, targets = drawn(8, 9)
    others = negatives_for(targets, 1)

    calibrated = sampled(Config(loss="gbce", calibration=0.0), states, table, targets, Negatives(others))

    torch.testing.assert_close(calibrated, binary(states, table, targets, others))


@pytest.mark.parametrize("count", [1, 4])
def test_bpr_is_the_mean_over_negatives_of_its_formula(count):
    def each(positive, negatives):
        return -sum(torch.log(torch.sigmoid(positive - one)) for one in negatives) / len(negatives)

    same_as_formula(Config(loss="bpr", negatives=count), each, count=count)


@pytest.mark.parametrize("count", [1, 5])
def test_sampled_softmax_is_cross_entropy_over_the_target_and_what_was_drawn(count):
    def each(positive, negatives):
        return torch.nn.functional.cross_entropy(torch.stack([positive, *negatives])[None], torch.tensor([0]))

    same_as_formula(Config(loss="sampled-softmax", negatives=count), each, count=count)


def test_sampled_softmax_over_everything_else_is_the_exact_one():
    states, table, targets = drawn(8, 9)
    others = torch.stack([torch.tensor([item for item in range(9) if item != target]) for target in targets])

    found = value_and_gradients(
        sampled(Config(loss="sampled-softmax"), states, table, targets, Negatives(others)), states, table
    )

    for ours, theirs in zip(found, reference(states, table, targets), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["bce", "gbce", "bpr", "sampled-softmax"])
def test_what_equals_the_target_or_was_not_there_to_draw_is_left_out(loss):
    config = Config(loss=loss, negatives=3)
    states, table, _ = drawn(2, 9)
    targets = torch.tensor([4, 7])
    cluttered, clean = torch.tensor([[4, 2, -1], [7, -1, 3]]), torch.tensor([[2, 4, 4], [3, 7, 7]])

    found = sampled(config, states, table, targets, Negatives(cluttered))

    torch.testing.assert_close(found, sampled(config, states, table, targets, Negatives(clean)))
    reached = torch.autograd.grad(found, table)[0].any(dim=1).nonzero().flatten().tolist()
    assert reached == [2, 3, 4, 7]


@pytest.mark.parametrize("loss", ["bce", "gbce", "bpr", "sampled-softmax"])
def test_negatives_shared_by_all_are_those_repeated_for_each(loss):
    config = Config(loss=loss, sampler="uniform", negatives=4)
    states, table, targets = drawn(8, 9)
    shared, counts = torch.tensor([1, 3, 3, 8]), torch.tensor([0.3, -0.2, -0.2, 1.0]).double()

    once = sampled(config, states, table, targets, Negatives(shared, counts))
    repeated = sampled(config, states, table, targets, Negatives(shared.repeat(8, 1), counts.repeat(8, 1)))

    for ours, theirs in zip(
        value_and_gradients(once, states, table), value_and_gradients(repeated, states, table), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("positions", [1, 64, 65, 200])
@pytest.mark.parametrize("spread", [1.0, 300.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_shared_negatives_in_chunks_are_sampled_softmax_in_value_and_gradients(positions, spread, weighted):
    config = Config(loss="sampled-softmax", sampler="uniform", negatives=6)
    states, table, targets = drawn(positions, 9, spread=spread)
    weights = torch.linspace(0.0, 2.0, positions + 1, dtype=torch.float64)[1:] if weighted else None
    shared, counts = torch.tensor([1, 3, 3, -1, 8, 0]), torch.tensor([0.3, -0.2, -0.2, 9.0, 1.0, 0.0]).double()
    each = Negatives(shared.repeat(positions, 1), counts.repeat(positions, 1))  # which no chunks are made of

    once = sampled(config, states, table, targets, Negatives(shared, counts), weights)
    repeated = sampled(config, states, table, targets, each, weights)

    assert once.isfinite()
    for ours, theirs in zip(
        value_and_gradients(once, states, table), value_and_gradients(repeated, states, table), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_shared_negatives_that_all_equal_the_target_or_were_not_there_leave_a_loss_of_nothing():
    states, table, _ = drawn(3, 9)
    config = Config(loss="sampled-softmax", sampler="uniform")

    loss = sampled(config, states, table, torch.tensor([4, 4, 4]), Negatives(torch.tensor([4, -1, 4])))

    found = value_and_gradients(loss, states, table)
    assert [one.abs().sum().item() for one in found] == [0.0, 0.0, 0.0]


def test_logq_worked_by_hand():
    # Scores: target 1, negatives 2 and 0. Expected counts 2 and 1/2, so these become 2 - ln 2 and ln 2.
    states = torch.tensor([[1.0]], dtype=torch.float64)
    table = torch.tensor([[1.0], [2.0], [0.0]], dtype=torch.float64)
    negatives = Negatives(torch.tensor([[1, 2]]), torch.tensor([[2.0, 0.5]], dtype=torch.float64).log())

    loss = sampled(Config(loss="sampled-softmax", sampler="uniform"), states, table, torch.tensor([0]), negatives)

    assert loss.item() == pytest.approx(np.log(np.e + np.e**2 / 2 + 2) - 1, rel=1e-12)


def test_with_logq_many_draws_of_a_skewed_sampler_come_to_the_exact_loss():
    states, table, targets = drawn(1, 9, seed=5)
    chances = np.arange(1, 10) / 45
    rows = np.random.default_rng(0).choice(9, size=(1, 200_000), p=chances)
    kept = torch.from_numpy(rows)
    log_counts = torch.from_numpy(np.log(200_000 * chances[rows]))

    corrected = sampled(Config(loss="sampled-softmax"), states, table, targets, Negatives(kept, log_counts))
    plain = sampled(Config(loss="sampled-softmax"), states, table, targets, Negatives(kept))

    exact = reference(states, table, targets)[0].item()
    assert corrected.item() == pytest.approx(exact, rel=0.02)
    assert abs(plain.item() - exact) > 1


@pytest.mark.parametrize("loss", ["bce", "gbce", "bpr", "sampled-softmax"])
def test_a_weight_multiplies_the_loss_of_its_target(loss):
    config = Config(loss=loss, negatives=3)
    states, table, targets = drawn(8, 9)
    others, weights = negatives_for(targets, 3), weights_of(8)

    weighted = sampled(config, states, table, targets, Negatives(others), weights)
    each = torch.stack(
        [sampled(config, states[[row]], table, targets[[row]], Negatives(others[[row]])) for row in range(8)]
    )

    torch.testing.assert_close(weighted, (each * weights).sum() / weights.sum(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", ["bce", "gbce", "bpr", "sampled-softmax"])
def test_no_loss_forgets_a_confident_mistake(loss):
    states = torch.ones(1, 1, requires_grad=True)
    table = torch.tensor([[-500.0], [500.0]], requires_grad=True)

    value = sampled(Config(loss=loss), states, table, torch.tensor([0]), Negatives(torch.tensor([[1]])))
    value.backward()

    assert torch.isfinite(value)
    assert table.grad.flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)
