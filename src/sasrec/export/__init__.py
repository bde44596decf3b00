"""Trained networks in the format of other programs."""
