"""What the numbers of a diagnosis mean, in plain words, by rules that stand here.

Every rule looks at the whole 95 % interval of a difference, never at its middle alone. A difference is called none
where its whole interval lies within `MARGIN` of the score that it is compared with; a gain or a loss where it is not
none and its whole interval lies on one side of zero; and unclear elsewhere: so few users cannot tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MARGIN = 0.03
"""Share of a score that makes no difference in practice."""

Effect = Literal["none", "gain", "loss", "unclear"]

_OF_SHUFFLING: dict[Effect, str] = {
    "none": "does not matter to this network",
    "loss": "matters",
    "gain": "misleads this network (are the times right?)",
    "unclear": "cannot be judged from so few users",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over users, and how far it lies from that of the whole network.

    Attributes:
        mean: The metric itself.
        difference: Its mean less the whole network's.
        low, high: 95 % interval of the difference, from users in pairs.
    """

    mean: float
    difference: float
    low: float
    high: float

    def shares(self, score: float) -> tuple[float, float, float]:
        """Difference, low and high as shares of a score > 0."""
        return self.difference / score, self.low / score, self.high / score

    def effect(self, score: float) -> Effect:
        """What the difference is called, beside a score > 0."""
        _, low, high = self.shares(score)
        if low >= -MARGIN and high <= MARGIN:
            return "none"
        if low > 0:
            return "gain"
        return "loss" if high < 0 else "unclear"

    def reversed(self) -> "Estimate":
        """The whole network's mean beside this one."""
        return Estimate(self.mean - self.difference, -self.difference, -self.high, -self.low)


def on_order(full: float, shuffled: Estimate) -> str:
    """Does the order of what precedes the last item matter?

    Args:
        full: NDCG@10 of the whole network, > 0.
        shuffled: The same network, shown each history shuffled but for its last item.
    """
    words = _OF_SHUFFLING[shuffled.effect(full)]
    return f"Order {words}: shuffling all but the last item changes NDCG@10 by {_change(shuffled, full)}."


def on_last_item(full: float, shuffled: Estimate) -> str:
    """Does it matter which item is the last?

    Args:
        full: NDCG@10 of the whole network, > 0.
        shuffled: The same network, shown each history shuffled as a whole.
    """
    words = _OF_SHUFFLING[shuffled.effect(full)]
    return f"Which item is the last {words}: shuffling it too changes NDCG@10 by {_change(shuffled, full)}."


def on_history(full: float, shown: Mapping[int, Estimate], *, length: int, alone: Estimate | None) -> str:
    """How many recent items are enough, so that the network surely loses less than the margin?

    Args:
        full: NDCG@10 of the whole network, > 0.
        shown: For every number of items, the same network when it is shown so many of the last; ascending.
        length: Items that the whole network looks at.
        alone: A network trained on the last item alone; None where there is none.
    """
    if not shown:
        return "History: the network sees one item as it is."
    enough = [count for count, estimate in shown.items() if estimate.low >= -MARGIN * full]
    count = enough[0] if enough else max(shown)
    items = "the last item alone" if count == 1 else f"the last {count} items"
    if enough:
        words = f"{items} {'is' if count == 1 else 'are'} enough"
    elif shown[count].effect(full) == "unclear":
        words = "how much is enough cannot be judged from so few users"
    else:
        words = f"more than {items} matters"
    kept = f"shown {items}, the network keeps {_kept(shown[count], full)} of its NDCG@10 with up to {length}"
    trained = "" if alone is None else f"; trained on the last item alone, it reaches {_kept(alone, full)}"
    return f"History: {words}: {kept}{trained}."


def on_network(counted: Mapping[str, Estimate]) -> str:
    """Is a network better than counting?

    Args:
        counted: NDCG@10 of the counting models by their names.
    """
    name, best = max(counted.items(), key=lambda one: one[1].mean)
    network = best.reversed()
    if best.mean == 0:
        worth = "is worth it" if network.mean > 0 else "is not worth it"
        return f"A network {worth}: its NDCG@10 is {network.mean:.4f}, that of all that only counts 0."
    words = {
        "none": "is not worth it: it is as good as counting",
        "gain": "is worth it",
        "loss": "is not worth it: counting is better",
        "unclear": "cannot be judged from so few users",
    }[network.effect(best.mean)]
    return f"A network {words}: its NDCG@10 differs from that of {name} by {_change(network, best.mean)}."


def on_blocks(full: float, without: Estimate) -> str:
    """Are the blocks (attention and feed-forward layers) worth it?

    Args:
        full: NDCG@10 of the whole network, > 0.
        without: A network without blocks, which knows the last item alone.
    """
    words = {
        "none": "are not worth it: the last item's vector does as well",
        "loss": "are worth it",
        "gain": "do harm: the last item's vector does better",
        "unclear": "cannot be judged from so few users",
    }[without.effect(full)]
    return f"Blocks {words}: without any, NDCG@10 changes by {_change(without, full)}."


def _change(estimate: Estimate, score: float) -> str:
    share, low, high = (f"{100 * one:+.1f}" for one in estimate.shares(score))
    return f"{share} % ({low} to {high} %)"


def _kept(estimate: Estimate, score: float) -> str:
    share, low, high = (f"{100 * (1 + one):.1f}" for one in estimate.shares(score))
    return f"{share} % ({low} to {high} %)"
