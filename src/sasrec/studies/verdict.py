"""What the numbers of a diagnosis mean, in plain words, by rules that stand here.

Every rule looks at the whole 95 % interval of a change, never at its middle alone. A change is called none where its
whole interval lies within `MARGIN`; a gain or a loss where it is not none and its whole interval lies on one side of
zero, and that of the difference itself too; and unclear elsewhere: so few users cannot tell. None is not told from
fewer than `ENOUGH_HITS` users with a score above 0: where none of n differs, up to 3/n may (the rule of three), and
their interval is a point all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MARGIN = 0.03
"""Share of a score that makes no difference in practice."""

ENOUGH_HITS = round(3 / MARGIN)
"""Users with a score above 0 from which a change can be called none."""

Effect = Literal["none", "gain", "loss", "unclear"]

_UNCLEAR = "cannot be judged from so few users"
_OF_SHUFFLING: dict[Effect, str] = {
    "none": "does not matter to this network",
    "loss": "matters",
    "gain": "misleads this network (are the times right?)",
    "unclear": _UNCLEAR,
}


@dataclass(frozen=True)
class Change:
    """How far a mean lies from that of something else over the same users, as a share of the latter.

    Attributes:
        share: The one over the other, less 1; so -1 at least.
        low, high: 95 % interval, for which both are means over the same drawn users.
        differs: Whether the whole interval of the difference itself lies on one side of zero. One hit that the other
            mean lacks is a change of -100 % in every draw that has it, and a third of the draws do not.
        sure: Whether the other mean is that of `ENOUGH_HITS`.
    """

    share: float
    low: float
    high: float
    differs: bool = True
    sure: bool = True

    @property
    def effect(self) -> Effect:
        """What the change is called."""
        if self.low >= -MARGIN and self.high <= MARGIN:
            return "none" if self.sure else "unclear"
        if self.differs and self.low > 0:
            return "gain"
        return "loss" if self.differs and self.high < 0 else "unclear"

    @property
    def percent(self) -> tuple[str, str, str]:
        """Share, low and high, in percent with their signs."""
        return f"{100 * self.share:+.1f}", f"{100 * self.low:+.1f}", f"{100 * self.high:+.1f}"

    def __str__(self) -> str:
        share, low, high = self.percent
        return f"{share} % ({low} to {high} %)"

    @property
    def kept(self) -> str:
        """What is left of the other mean, in words."""
        share, low, high = (f"{100 * (1 + one):.1f}" for one in (self.share, self.low, self.high))
        return f"{share} % ({low} to {high} %)"


@dataclass(frozen=True)
class Estimate:
    """A mean over users, and how far it lies from that of the whole network.

    Attributes:
        mean: The metric itself.
        difference: Its mean less the whole network's.
        low, high: 95 % interval of the difference, from users in pairs.
        change: The same as a share of the whole network's; None where that is 0.
    """

    mean: float
    difference: float
    low: float
    high: float
    change: Change | None


def on_order(shuffled: Change) -> str:
    """Does the order of what precedes the last item matter?

    Args:
        shuffled: NDCG@10 of the same network, shown each history shuffled but for its last item.
    """
    words = _OF_SHUFFLING[shuffled.effect]
    return f"Order {words}: shuffling all but the last item changes NDCG@10 by {shuffled}."


def on_last_item(shuffled: Change) -> str:
    """Does it matter which item is the last?

    Args:
        shuffled: NDCG@10 of the same network, shown each history shuffled as a whole.
    """
    words = _OF_SHUFFLING[shuffled.effect]
    return f"Which item is the last {words}: shuffling it too changes NDCG@10 by {shuffled}."


def on_history(shown: Mapping[int, Change], *, length: int, alone: Change | None) -> str:
    """How many recent items are enough, so that the network surely loses less than the margin?

    Args:
        shown: For every number of items, NDCG@10 of the same network when it is shown so many of the last; ascending.
        length: Items that the whole network looks at.
        alone: A network trained on the last item alone; None where there is none.
    """
    if not shown:
        return "History: the network sees one item as it is."
    enough = [count for count, change in shown.items() if change.sure and change.low >= -MARGIN]
    count = enough[0] if enough else max(shown)
    items = "the last item alone" if count == 1 else f"the last {count} items"
    if enough:
        words = f"{items} {'is' if count == 1 else 'are'} enough"
    elif shown[count].effect != "loss":
        words = f"how much is enough {_UNCLEAR}"
    else:
        words = f"more than {items} matters"
    kept = f"shown {items}, the network keeps {shown[count].kept} of its NDCG@10 with up to {length}"
    trained = "" if alone is None else f"; trained on the last item alone, it reaches {alone.kept}"
    return f"History: {words}: {kept}{trained}."


def on_network(name: str, best: Estimate, network: Change | None) -> str:
    """Is a network better than counting?

    Args:
        name: The counting model with the highest NDCG@10.
        best: That NDCG@10.
        network: How far the network's lies from it; None where it is 0.
    """
    if network is None:
        worth = "is not worth it" if best.change is None else "is worth it" if best.change.differs else _UNCLEAR
        return f"A network {worth}: its NDCG@10 is {best.mean - best.difference:.4f}, that of all that only counts 0."
    words = {
        "none": "is not worth it: it is as good as counting",
        "gain": "is worth it",
        "loss": "is not worth it: counting is better",
        "unclear": _UNCLEAR,
    }[network.effect]
    return f"A network {words}: its NDCG@10 differs from that of {name} by {network}."


def on_blocks(without: Change) -> str:
    """Are the blocks (attention and feed-forward layers) worth it?

    Args:
        without: NDCG@10 of a network without blocks, which knows the last item alone.
    """
    words = {
        "none": "are not worth it: the last item's vector does as well",
        "loss": "are worth it",
        "gain": "do harm: the last item's vector does better",
        "unclear": _UNCLEAR,
    }[without.effect]
    return f"Blocks {words}: without any, NDCG@10 changes by {without}."
