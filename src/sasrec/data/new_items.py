"""A split in which some items are new, to see how items are ranked that nobody has had."""

from dataclasses import replace

import numpy as np

from sasrec.data.splits import Split, known_split
from sasrec.errors import ConfigError, DataError, check_share, check_whole


def hold_out_items(data: Split, share: float = 0.1, *, seed: int = 0) -> Split:
    """The same split in a world where nobody has had some of the items yet, to see how new items are ranked.

    Events of these items are left out of training and validation, and of the histories of the test; only as targets
    of the test are they still there, ranked among the whole catalogue.

    Args:
        share: Share of the items, each as likely as any other, in (0, 1).
        seed: Fixes which.

    Raises:
        ConfigError: `share` or `seed` is out of range, or items are held out already.
        DataError: Nobody is left to be tested.
    """
    check_share("share", share)
    check_whole("seed", seed, least=0)
    if len(known_split(data).new):
        raise ConfigError("data: this split holds items out already; give the one without")
    items = len(data.log.items)
    count = max(round(share * items), 1)
    new = np.sort(np.random.default_rng(seed).choice(items, count, replace=False))
    made = replace(data, new=new, rule=f"{data.rule}; {count:,} of {items:,} items are new in the test (seed {seed})")
    if not len(made.test):
        raise DataError(f"{data.log.source.name}: nobody is left to be tested without {count:,} items; hold out fewer")
    return made
