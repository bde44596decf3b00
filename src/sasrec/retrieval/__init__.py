"""From a history to ranked items: scorers, top-k, and the object that users hold."""
