"""How good a model is: ranks over the whole catalogue, metrics from ranks, and a report with its protocol."""
