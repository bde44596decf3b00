"""How the learning rate goes from the first step to the last."""

import math

from sasrec.config import Config


def rate(config: Config, step: int, steps: int) -> float:
    """The learning rate of a step.

    Args:
        step: From 0.
        steps: Steps of all epochs.
    """
    highest = config.learning_rate
    if config.schedule == "constant":
        return highest
    # As torch's OneCycleLR starts and ends: a 25th of the highest rate, and a 10,000th of that.
    low, end = (highest / 25, highest / 25e4) if config.schedule == "one-cycle" else (0.0, 0.0)
    rising = max(config.warmup * steps - 1, 0.0)
    if step < rising:
        return _between(low, highest, step / rising)
    return _between(highest, end, (step - rising) / max(steps - 1 - rising, 1))


def _between(first: float, last: float, share: float) -> float:
    """From `first` to `last` along half a wave of a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
