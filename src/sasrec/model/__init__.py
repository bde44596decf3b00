"""The network: item rows in, states out. Torch only; never sees a raw id."""
