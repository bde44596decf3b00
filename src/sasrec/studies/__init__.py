"""Studies: what trains several models to answer one question."""
