"""From settings to a network: which parts, and how their weights are drawn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sasrec.config import Config
from sasrec.errors import ConfigError
from sasrec.model.attention import Attention, Bias
from sasrec.model.biases import LearnedTimes, PlacesAndTimes, RelativePositions, RelativeTimes
from sasrec.model.blocks import PaperBlock, PreNormBlock, Shape
from sasrec.model.embeddings import ItemVectors, LearnedPositions, UserVectors
from sasrec.model.network import SASRec
from sasrec.model.stamp import Network, Stamp, View
from sasrec.model.variants import (
    BesideAttention,
    Convolution,
    KeyNormBlock,
    PositionNorm,
    PostNormBlock,
    QueryOnlyBlock,
    SinusoidalPositions,
)

_INITIAL_STD = 0.02
_LAST_EPSILON = 1e-8  # as in the paper's code and whoever follows it, also where blocks have another
_RELATIVE = ("relative", "both")
_VIEWS: dict[str, View] = {"stamp": "both", "stamp-memory": "memory", "stamp-last": "last"}


def build(
    config: Config,
    *,
    items: int,
    users: int = 0,
    features: tuple[Tensor, Tensor] | None = None,
    values: int = 0,
    vectors: Tensor | None = None,
    generator: torch.Generator | None,
) -> Network:
    """The network that the settings describe, with drawn weights or with none.

    Args:
        items: Catalogue size V.
        users: How many users are told apart, where the settings ask for user vectors.
        features: Values of the items' features; see `ItemVectors`.
        values: Number of different values of features.
        vectors: Vectors that were given of the items; see `ItemVectors`.
        generator: Draws the initial weights; None leaves them without memory, to be loaded.

    Raises:
        ConfigError: The width, the length or the positions are still "auto", which takes a log to settle.
    """
    for name in ("width", "length", "positions"):
        if getattr(config, name) == "auto":
            raise ConfigError(f"{name}: a network needs one that is settled, found 'auto'")
    # Torch's layers would draw weights of their own, from a generator that belongs to the caller.
    with torch.device("meta"):
        table = ItemVectors(items, int(config.width), features=features, values=values, vectors=vectors)
        network = (
            Stamp(table, view=_VIEWS[config.network]) if config.network in _VIEWS else _sasrec(table, users, config)
        )
    if generator is not None:
        # Features are data, not weights: they keep their memory.
        kept = {name: buffer for name, buffer in network.named_buffers() if not buffer.is_meta}
        network.to_empty(device=generator.device)
        for name, buffer in kept.items():
            network.get_buffer(name).copy_(buffer)
        _draw(network, config.initial, generator)
        if network.items.projection is not None:
            network.items.projection.data.mul_(config.given_start)
    return network


def _sasrec(vectors: ItemVectors, users: int, config: Config) -> SASRec:
    own = int(config.width)
    width = own + config.user_width

    def beside(attention: Attention) -> nn.Module:
        if config.branch == "none":
            return attention
        return BesideAttention(attention, branch=config.branch, width=width, share=config.branch_share)

    shape = Shape(
        width=width,
        length=int(config.length),
        heads=config.heads,
        attention_width=width if config.attention_width == "auto" else config.attention_width,
        feed_forward=width if config.feed_forward == "auto" else config.feed_forward,
        activation=config.activation,
        causal=not config.bidirectional,
        projected=config.projected,
        epsilon=config.epsilon,
        bias=lambda: _bias(config),
        beside=beside,
    )
    blocks: dict[str, Callable[[], nn.Module]] = {
        "paper": lambda: PaperBlock(shape),
        "query": lambda: PaperBlock(shape, raw_residual=True),
        "query-only": lambda: QueryOnlyBlock(shape),
        "pre": lambda: PreNormBlock(shape, gated=config.gated),
        "post": lambda: PostNormBlock(shape),
        "key": lambda: KeyNormBlock(shape),
    }
    positions: dict[str, Callable[[], nn.Module | None]] = {
        "learned": lambda: LearnedPositions(int(config.length), width),
        "sinusoidal": SinusoidalPositions,
        "relative": lambda: None,
        "both": lambda: LearnedPositions(int(config.length), width),
        "none": lambda: None,
    }
    stack = [blocks[config.norm]() for _ in range(config.blocks)]
    if config.times in ("learned", "both"):
        stack.insert(0, LearnedTimes(width))
    if config.norm == "query-only":
        stack.append(PositionNorm(shape))
    # Blocks that end with a norm need no other; those of LiGR go without.
    normal = config.norm in ("post", "query-only") or config.gated
    return SASRec(
        vectors,
        positions[config.positions](),
        UserVectors(users, config.user_width) if config.user_width else None,
        stack,
        None if normal else nn.LayerNorm(width, eps=_LAST_EPSILON),
        scales=(1.0, 1.0) if config.unscaled else (own**0.5, config.user_width**0.5),
        cosine=config.similarity == "cosine",
        temperature=config.temperature,
    )


def _bias(config: Config) -> Bias | None:
    """What one attention layer adds to its scores."""
    relative = config.positions in _RELATIVE
    places = RelativePositions(int(config.length), config.heads, causal=not config.bidirectional) if relative else None
    times = RelativeTimes(config.heads) if config.times in _RELATIVE else None
    if places is None or times is None:
        return times if places is None else places
    return PlacesAndTimes(places, times)


@torch.no_grad()
def _draw(network: nn.Module, initial: str, generator: torch.Generator) -> None:
    """Initial weights: vectors as asked for, layers by Xavier's rule, norms and branches as identities, distances 0."""
    xavier = {"xavier-normal": nn.init.xavier_normal_}.get(initial, nn.init.xavier_uniform_)
    norms = {name for name, part in network.named_modules() if isinstance(part, nn.LayerNorm | PositionNorm)}
    idle = Convolution | RelativePositions | RelativeTimes | LearnedTimes
    unused = {name for name, part in network.named_modules() if isinstance(part, idle)}
    for name, parameter in network.named_parameters():
        table = name.startswith(("items.", "positions.", "users."))
        if table and not initial.startswith("xavier"):
            nn.init.normal_(parameter, std=_INITIAL_STD, generator=generator)
        elif name.rpartition(".")[0] in norms:
            nn.init.constant_(parameter, float(name.endswith("weight")))
        elif parameter.dim() == 2 and name.rpartition(".")[0] not in unused:
            xavier(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
    if isinstance(network, SASRec) and network.users is not None:
        network.users.weight[network.users.unknown] = 0.0
