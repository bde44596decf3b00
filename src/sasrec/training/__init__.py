"""From a split to trained weights: batches, losses, the loop."""
