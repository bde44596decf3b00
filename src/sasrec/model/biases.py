"""What attention adds to its scores by how far apart two events are.

Axes: P real positions of all sequences, H heads, L slots of a bin.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sasrec.model.attention import Layout


@final
class RelativePositions(nn.Module):
    """A number for every head and every distance between who asks and who is attended to.

    The positions of a sequence lie side by side in a bin, so a distance of slots is one of positions, and one matrix
    does for all bins of a size: its gradient is summed over bins before it is looked at by distance.

    Source: the positional half of the bias of HSTU (Zhai et al., ICML 2024, arXiv:2402.17152); Raffel et al., JMLR
    2020 (T5), put distances into buckets, which here would save neither time nor a line.
    """

    def __init__(self, length: int, heads: int, *, causal: bool) -> None:
        """No memory for its weights yet.

        Args:
            length: Most positions of a sequence.
            causal: Nobody attends to what comes later, so there are no negative distances.
        """
        super().__init__()
        self.distances = nn.Parameter(torch.empty(length if causal else 2 * length - 1, heads))

    def added(
        self, masks: tuple[Float[Tensor, "_bins 1 _L _L"], ...], layout: Layout
    ) -> tuple[Float[Tensor, "_bins H _L _L"], ...]:
        """For each size of bins the mask and what is added between any two of its slots."""
        return tuple(mask + self._between(longest) for mask, (_, longest) in zip(masks, layout.shapes, strict=True))

    def of_lasts(self, layout: Layout) -> Float[Tensor, "P H"]:
        """What is added between the last position of each sequence, which asks, and every position of it."""
        ages = layout.spread(layout.lasts) - torch.arange(len(layout.slots), device=layout.slots.device)
        return nn.functional.embedding(ages, self.distances)

    def _between(self, longest: int) -> Float[Tensor, "H L L"]:
        places = torch.arange(longest, device=self.distances.device)
        # Distances to what comes later are negative and count from the end of the table; a causal mask hides them.
        distances = (places.unsqueeze(1) - places) % len(self.distances)
        return nn.functional.embedding(distances, self.distances).permute(2, 0, 1)
