"""Seeded dropout, from a generator that is passed in."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

_LEVELS = 256
_AHEAD = 2**18  # values whose noise is drawn at once: what one layer needs is mostly the cost of asking for it


@final
class Dropout:
    """Zeroes a share of values and scales the rest so that the mean stays. Source: Srivastava et al., JMLR 2014.

    Each value is decided by one random byte, eight of which come from one draw of the generator; torch's own
    Bernoulli draws cost about twenty times as much on a CPU and were a tenth of all training time. The share is
    therefore a multiple of 1/256, and the scale follows the share that is really dropped. Noise is drawn for several
    layers at once and handed out piece by piece.
    """

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        """Args: rate: Share of values to drop, in [0, 1)."""
        self._kept = max(1, round((1.0 - rate) * _LEVELS))
        self._generator = generator
        self._noise = torch.empty(0)

    def __call__(self, states: Tensor) -> Tensor:
        """The states with fresh noise."""
        if self._kept == _LEVELS:
            return states
        size = states.numel()
        if len(self._noise) < size or self._noise.device != states.device:
            # A new tensor: the gradients of the steps before may still need their pieces of the old one.
            self._noise = self._drawn(max(size, _AHEAD), states.device)
        noise, self._noise = self._noise[:size], self._noise[size:]
        return states * noise.view(states.shape).to(states.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """What the noise to come depends on, for `restore`."""
        return {"noise": self._noise, "generator": self._generator.get_state()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with the noise of another; ValueError or RuntimeError where the tensors are of something else."""
        if tensors["noise"].dtype != torch.float32 or tensors["noise"].dim() != 1:
            raise ValueError("noise is a row of float32")
        self._noise = tensors["noise"].to(self._generator.device)
        self._generator.set_state(tensors["generator"])

    def _drawn(self, size: int, device: torch.device) -> Tensor:
        """What so many values are to be multiplied by."""
        draws = torch.empty((size + 7) // 8, dtype=torch.int64, device=device)
        draws.random_(-(2**63), None, generator=self._generator)
        kept = draws.view(torch.uint8)[:size] < self._kept
        return kept.to(torch.float32).mul_(_LEVELS / self._kept)
