"""SASRec as an ONNX model: the same arithmetic as in `sasrec.model`, on histories padded to the left with -1.

Padding is masked by a large negative number, not by -inf: the states of padding are computed too, and nothing that is
real looks at them, but a NaN would spread.

Axes: B histories, L longest of them, Q positions that ask (L or 1), D width, H heads, V catalogue.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import nn

from sasrec.config import Config
from sasrec.errors import ConfigError
from sasrec.export.gaps import Gaps
from sasrec.export.graph import Graph
from sasrec.model.attention import Attention, Bias
from sasrec.model.biases import LearnedTimes, PlacesAndTimes, RelativePositions, RelativeTimes
from sasrec.model.blocks import FeedForward, PaperBlock, PreNormBlock
from sasrec.model.network import SASRec
from sasrec.model.variants import (
    BesideAttention,
    Convolution,
    Identity,
    KeyNormBlock,
    Mean,
    PositionNorm,
    PostNormBlock,
    QueryOnlyBlock,
)
from sasrec.words import with_article

_FAR = -1e9  # added to the score of what must not be looked at

# Settings that shape the network and may have any value, or one of these; and those of training alone. A setting that
# is in neither has to stand at its default.
_ANY = set(
    "width length blocks heads epsilon projected attention_width feed_forward gated unscaled bidirectional temperature "
    "user_width branch_share times".split()
)
_ONE_OF = {
    "network": ("sasrec",),
    "norm": ("paper", "pre", "post", "query", "query-only", "key"),
    "activation": ("relu", "gelu", "swiglu"),
    "positions": ("learned", "sinusoidal", "none", "relative", "both"),
    "similarity": ("dot", "cosine"),
    "branch": ("none", "identity", "mean", "convolution"),
}
_TRAINING = set(
    "dropout initial given_start windows shortest learn weighted swap_items swap_users loss label_smoothing "
    "negatives sampler share_negatives logq calibration batch learning_rate beta2 item_updates weight_decay "
    "item_l2 schedule warmup average epochs patience validate_every seed threads precision device".split()
)


@torch.no_grad()
def to_onnx(network: nn.Module, config: Config) -> bytes:
    """The ONNX model that `sasrec.retrieval.exported` describes.

    Raises:
        ConfigError: A setting shapes the network in a way that cannot be exported.
    """
    _check(config)
    if not isinstance(network, SASRec):
        raise ConfigError(f"{with_article(type(network).__name__)} cannot be exported; only network='sasrec' can")
    graph = Graph()
    vectors = graph.array(_numbers(network.items()), "vectors")
    given = graph.node("Max", "items", graph.array(np.array(0, dtype=np.int64)))
    states = graph.node("Mul", graph.node("Gather", vectors, given), graph.number(network.scales[0]))
    own = _own(graph, network)
    if own is not None:
        states = _joined(graph, states, own)
    if network.positions is not None:
        added = _positions(network.positions, int(config.length), _states_width(network))
        states = graph.node("Add", states, _recent(graph, added))
    gaps = Gaps.of(graph, config)
    reader = _Reader(graph, padding=_padding(graph), causal=_causal(graph), gaps=gaps, looked=[])
    for block in network.blocks[:-1]:
        states = reader.block(block, states)
    ending = replace(reader, last=True)
    states = ending.block(network.blocks[-1], states) if len(network.blocks) else ending.ending(states)
    _score(graph, network, states, own, vectors)
    outputs: dict[str, tuple[str | int, ...]] = {
        "scores": ("histories", len(network.items.weight)),
        "vectors": tuple(network.items.weight.shape),
    }
    if reader.looked:
        mean = graph.node("Mean", *reader.looked)
        graph.node("Squeeze", mean, graph.whole(1, 2), name="attention")
        outputs["attention"] = ("histories", "length")
    inputs = {"items": ("histories", "length")} | ({} if own is None else {"users": ("histories",)})
    if config.times != "none":
        inputs |= {"times": ("histories", "length"), "asked": ("histories",)}
    return graph.to_bytes(inputs, outputs)


def _check(config: Config) -> None:
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        allowed = _ONE_OF.get(name, (field.default,))
        if name not in _ANY | _TRAINING and value not in allowed:
            raise ConfigError(
                f"{name}: a network with {value!r} cannot be exported; what can is {', '.join(map(repr, allowed))}"
            )


def _states_width(network: SASRec) -> int:
    """Size of the states, which user vectors are a part of."""
    return network.items.weight.shape[1] + (0 if network.users is None else network.users.weight.shape[1])


@dataclass(frozen=True)
class _Reader:
    """Adds the nodes of a network's parts to a graph.

    Attributes:
        padding: Added to what positions look at; (B, 1, 1, L).
        causal: Added to that where a position must not look ahead; (B, 1, L, L).
        gaps: How far apart events are.
        looked: What the last position has looked at, one value of shape (B, 1, 1, L) for each attention.
        last: Only the last position of every history asks.
    """

    graph: Graph
    padding: str
    causal: str
    gaps: Gaps
    looked: list[str]
    last: bool = False

    def block(self, block: nn.Module, states: str) -> str:
        """The states (B, Q, D) after one block."""
        if isinstance(block, PaperBlock):
            asking = self.ending(states)
            queries = self.norm(block.attention_norm, asking)
            taken = self.attention(block.attention, queries, states)
            states = self.norm(block.feed_forward_norm, self.sum(asking if block.raw_residual else queries, taken))
            return self.sum(states, self.feed_forward(block.feed_forward, states))
        if isinstance(block, PreNormBlock):
            normed = self.norm(block.attention_norm, states)
            taken = self.attention(block.attention, self.ending(normed), normed)
            states = self.ending(states)
            states = self.sum(states, self.gated(block.attention_gate, taken, states))
            made = self.feed_forward(block.feed_forward, self.norm(block.feed_forward_norm, states))
            return self.sum(states, self.gated(block.feed_forward_gate, made, states))
        if isinstance(block, QueryOnlyBlock):
            queries = self.position_norm(block.attention_norm, states)
            states = self.sum(queries, self.attention(block.attention, queries, states))
            return self.sum(states, self.feed_forward(block.feed_forward, states))
        if isinstance(block, PostNormBlock):
            asking = self.ending(states)
            taken = self.attention(block.attention, asking, states)
            states = self.norm(block.attention_norm, self.sum(asking, taken))
            made = self.feed_forward(block.feed_forward, states)
            return self.norm(block.feed_forward_norm, self.sum(states, made))
        if isinstance(block, KeyNormBlock):
            asking, keys = self.ending(states), self.norm(block.norm, states)
            taken = self.attention(block.attention, asking, states, keys=keys)
            states = self.sum(asking, self.norm(block.norm, taken))
            return self.sum(states, self.norm(block.norm, self.feed_forward(block.feed_forward, states)))
        if isinstance(block, PositionNorm):
            return self.position_norm(block, states)
        if isinstance(block, LearnedTimes) and self.gaps.own is not None:
            added = self.graph.node("Gather", self.graph.array(_numbers(block.weight)), self.gaps.own)
            return self.ending(self.sum(states, added))
        raise ConfigError(f"norm: {with_article(type(block).__name__)} cannot be exported")

    def attention(self, layer: nn.Module, queries: str, memory: str, *, keys: str | None = None) -> str:
        """What positions take from their history; see `sasrec.model.attention.Attention`."""
        if isinstance(layer, BesideAttention):
            taken = self.attention(layer.attention, queries, memory, keys=keys)
            return self.between(taken, self.branch(layer.branch, memory), self.graph.number(layer.share))
        if not isinstance(layer, Attention):
            raise ConfigError(f"attention: {with_article(type(layer).__name__)} cannot be exported")
        graph, inner = self.graph, layer.query.out_features
        # The scores' divisor is a part of the weights.
        scale = (inner // layer.heads) ** -0.5
        (key, value), (key_bias, value_bias) = layer.key_value.weight.chunk(2), layer.key_value.bias.chunk(2)
        query = self._heads(
            self._linear(queries, layer.query.weight * scale, layer.query.bias * scale), layer, (0, 2, 1, 3)
        )
        key_ = self._heads(self._linear(keys or memory, key, key_bias), layer, (0, 2, 3, 1))
        value_ = self._heads(self._linear(memory, value, value_bias), layer, (0, 2, 1, 3))
        # What is padding is in no last position's future, but in its past.
        mask = self.causal if layer.causal and not self.last else self.padding
        scores = self.sum(graph.node("MatMul", query, key_), mask)
        for bias in _biases(layer.bias):
            scores = self.sum(scores, self.bias(bias))
        weights = graph.node("Softmax", scores, attributes={"axis": -1})
        ends = graph.node("Gather", weights, graph.whole(-1), attributes={"axis": 2})
        self.looked.append(graph.node("ReduceMean", ends, graph.whole(1)))
        mixed = graph.node("Transpose", graph.node("MatMul", weights, value_), attributes={"perm": (0, 2, 1, 3)})
        taken = graph.node("Reshape", mixed, graph.whole(0, 0, inner))
        return taken if layer.project is None else self.linear(layer.project, taken)

    def branch(self, branch: nn.Module, states: str) -> str:
        """What a branch beside attention makes of the states; see `sasrec.model.variants`."""
        graph, own = self.graph, self.ending(states)
        if isinstance(branch, Identity):
            return own
        if isinstance(branch, Mean):
            # Looked at alike, all up to each position; no branch looks ahead.
            mask = graph.node("Squeeze", self.padding if self.last else self.causal, graph.whole(1))
            mean = graph.node("MatMul", graph.node("Softmax", mask, attributes={"axis": -1}), states)
            return self.between(own, mean, graph.array(_numbers(branch.weight)))
        if isinstance(branch, Convolution):
            return self.convolution(branch, own, states)
        raise ConfigError(f"branch: {with_article(type(branch).__name__)} cannot be exported")

    def convolution(self, branch: Convolution, own: str, states: str) -> str:
        """The states that ask, and the few before each times their weights; before the first there is nothing."""
        graph, earlier, axis = self.graph, len(branch.weight), self.graph.whole(1)
        empty = graph.node("Unsqueeze", _empty(graph), graph.whole(2))
        real = graph.node("Where", empty, graph.number(0.0), states)
        first = graph.node("Gather", real, graph.whole(*[0] * earlier), attributes={"axis": 1})
        real = graph.node("Concat", graph.node("Mul", first, graph.number(0.0)), real, attributes={"axis": 1})
        if self.last:
            real = graph.node("Slice", real, graph.whole(-1 - earlier), graph.whole(np.iinfo(np.int64).max), axis)
        for back, weight in enumerate(_numbers(branch.weight), start=1):
            moved = graph.node("Slice", real, graph.whole(earlier - back), graph.whole(-back), axis)
            own = self.sum(own, graph.node("Mul", moved, graph.array(weight)))
        return own

    def bias(self, bias: Bias) -> str:
        """What is added to the scores of every head, (B or 1, H, Q, L)."""
        table, gaps = None, None
        if isinstance(bias, RelativePositions):
            table, gaps = bias.distances, self.gaps.places
        elif isinstance(bias, RelativeTimes):
            table, gaps = bias.buckets, self.gaps.elapsed
        if table is None or gaps is None:
            raise ConfigError(f"positions, times: {with_article(type(bias).__name__)} cannot be exported")
        # Distances to what comes later are negative, and so count from the end of the table here too.
        found = self.graph.node("Gather", self.graph.array(_numbers(table)), self.ending(gaps, axis=1))
        return self.graph.node("Transpose", found, attributes={"perm": (0, 3, 1, 2)})

    def feed_forward(self, layer: FeedForward, states: str) -> str:
        """The states after both layers of the feed-forward half."""
        inner = self.activation(layer, self.linear(layer.inner, states))
        if layer.gate is not None:
            inner = self.graph.node("Mul", inner, self.linear(layer.gate, states))
        return self.linear(layer.outer, inner)

    def activation(self, layer: FeedForward, states: str) -> str:
        """ReLU, GELU or SiLU, as the layer has it."""
        if layer.activation is torch.relu:
            return self.graph.node("Relu", states)
        if layer.activation is nn.functional.gelu:
            return self.graph.node("Gelu", states)
        if layer.activation is nn.functional.silu:
            return self.graph.node("Mul", states, self.graph.node("Sigmoid", states))
        raise ConfigError(f"activation: {layer.activation} cannot be exported")

    def gated(self, gate: nn.Linear | None, made: str, states: str) -> str:
        """What a half of a block adds, through its gate if it has one."""
        if gate is None:
            return made
        return self.graph.node("Mul", made, self.graph.node("Sigmoid", self.linear(gate, states)))

    def norm(self, norm: nn.LayerNorm, states: str) -> str:
        """Layer norm."""
        gain, shift = self.graph.array(_numbers(norm.weight)), self.graph.array(_numbers(norm.bias))
        return self._normal(states, gain, shift, norm.eps)

    def position_norm(self, norm: PositionNorm, states: str) -> str:
        """Layer norm with gains and shifts of every position."""
        width = norm.weight.shape[1]
        ones, zeros = np.ones(width, dtype=np.float32), np.zeros(width, dtype=np.float32)
        normal = self._normal(self.ending(states), self.graph.array(ones), self.graph.array(zeros), norm.epsilon)
        gains, shifts = (self.ending(_recent(self.graph, _numbers(one)), axis=0) for one in (norm.weight, norm.bias))
        return self.sum(self.graph.node("Mul", normal, gains), shifts)

    def linear(self, layer: nn.Linear, states: str) -> str:
        """A linear layer."""
        return self._linear(states, layer.weight, layer.bias)

    def sum(self, one: str, other: str) -> str:
        """The sum of two values."""
        return self.graph.node("Add", one, other)

    def between(self, one: str, other: str, share: str) -> str:
        """As far from the one to the other as the share says."""
        return self.sum(one, self.graph.node("Mul", self.graph.node("Sub", other, one), share))

    def ending(self, states: str, *, axis: int = 1) -> str:
        """The states of the positions that ask."""
        if not self.last:
            return states
        return self.graph.node("Gather", states, self.graph.whole(-1), attributes={"axis": axis})

    def _normal(self, states: str, gain: str, shift: str, epsilon: float) -> str:
        attributes = {"axis": -1, "epsilon": epsilon}
        return self.graph.node("LayerNormalization", states, gain, shift, attributes=attributes)

    def _linear(self, states: str, weight: torch.Tensor, bias: torch.Tensor | None) -> str:
        made = self.graph.node("MatMul", states, self.graph.array(_numbers(weight.t())))
        return made if bias is None else self.sum(made, self.graph.array(_numbers(bias)))

    def _heads(self, states: str, layer: Attention, order: tuple[int, ...]) -> str:
        parted = self.graph.node("Reshape", states, self.graph.whole(0, 0, layer.heads, -1))
        return self.graph.node("Transpose", parted, attributes={"perm": order})


def _biases(bias: Bias | None) -> list[Bias]:
    """The terms of what attention adds to its scores."""
    if isinstance(bias, PlacesAndTimes):
        return [bias.places, bias.times]
    return [] if bias is None else [bias]


def _empty(graph: Graph) -> str:
    """Where there is no event; (B, L)."""
    return graph.node("Less", "items", graph.array(np.array(0, dtype=np.int64)))


def _padding(graph: Graph) -> str:
    """0 where there is an event, and far below where there is none; (B, 1, 1, L)."""
    far = graph.node("Mul", graph.node("Cast", _empty(graph), attributes={"to": 1}), graph.number(_FAR))
    return graph.node("Unsqueeze", far, graph.whole(1, 2))


def _causal(graph: Graph) -> str:
    """The same, and far below for what comes later too; (B, 1, L, L)."""
    ones = graph.node("Sub", "items", graph.node("Sub", "items", graph.array(np.array(1, dtype=np.int64))))
    places = graph.node("CumSum", ones, graph.array(np.array(1, dtype=np.int64)))
    own, other = (graph.node("Unsqueeze", places, graph.whole(axis)) for axis in (2, 1))
    later = graph.node("Cast", graph.node("Less", own, other), attributes={"to": 1})
    far = graph.node("Unsqueeze", graph.node("Mul", later, graph.number(_FAR)), graph.whole(1))
    return graph.node("Add", far, _padding(graph))


def _recent(graph: Graph, table: np.ndarray) -> str:
    """The rows of a table of ages that the longest history needs, the oldest first; (L, D)."""
    length = graph.node("Shape", "items", attributes={"start": 1})
    ends = graph.array(np.array([np.iinfo(np.int64).max]))
    return graph.node("Slice", graph.array(table[::-1]), graph.node("Neg", length), ends, graph.whole(0))


def _positions(positions: nn.Module, length: int, width: int) -> np.ndarray:
    """What is added at every age, whatever the states."""
    return _numbers(positions(torch.zeros(length, width), torch.arange(length)))


def _own(graph: Graph, network: SASRec) -> str | None:
    """The vector of every history's user as it enters, (B, 1, user); None where no users are told apart."""
    if network.users is None:
        return None
    table = _numbers(network.users.weight * network.scales[1])
    # The last row is the unknown user's: rows outside the table count as -1, which is the last one.
    known = graph.node("Less", "users", graph.array(np.array(network.users.unknown, dtype=np.int64)))
    rows = graph.node("Where", known, "users", graph.array(np.array(-1, dtype=np.int64)))
    rows = graph.node("Max", rows, graph.array(np.array(-1, dtype=np.int64)))
    return graph.node("Unsqueeze", graph.node("Gather", graph.array(table), rows), graph.whole(1))


def _joined(graph: Graph, states: str, own: str) -> str:
    """User vectors beside the states at every position."""
    nothing = graph.node("Mul", graph.node("Cast", "items", attributes={"to": 1}), graph.number(0.0))
    everywhere = graph.node("Add", own, graph.node("Unsqueeze", nothing, graph.whole(2)))
    return graph.node("Concat", states, everywhere, attributes={"axis": 2})


def _score(graph: Graph, network: SASRec, states: str, own: str | None, vectors: str) -> None:
    """From the last states (B, 1, D) to `scores`."""
    if network.norm is not None:
        gain, shift = graph.array(_numbers(network.norm.weight)), graph.array(_numbers(network.norm.bias))
        attributes = {"axis": -1, "epsilon": network.norm.eps}
        states = graph.node("LayerNormalization", states, gain, shift, attributes=attributes)
    states = graph.node("Squeeze", states, graph.whole(1))
    common = None
    if own is not None and network.users is not None:
        sizes = (network.items.weight.shape[1], network.users.weight.shape[1])
        states, ends = _parted(graph, states, sizes)
        matched = graph.node("Mul", ends, graph.node("Squeeze", own, graph.whole(1)))
        common = graph.node("ReduceSum", matched, graph.whole(1))
    table = vectors
    if network.cosine:
        table = graph.array(_numbers(network.table()))
        norm = graph.node("Max", graph.node("ReduceL2", states, graph.whole(1)), graph.number(1e-12))
        states = graph.node("Div", states, norm)
    scores = graph.node("Gemm", states, table, attributes={"transB": 1})
    if common is not None:
        scores = graph.node("Add", scores, common)
    graph.node("Div", scores, graph.number(network.temperature), name="scores")


def _parted(graph: Graph, states: str, sizes: tuple[int, int]) -> tuple[str, str]:
    first = graph.node("Slice", states, graph.whole(0), graph.whole(sizes[0]), graph.whole(1))
    return first, graph.node("Slice", states, graph.whole(sizes[0]), graph.whole(sum(sizes)), graph.whole(1))


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
