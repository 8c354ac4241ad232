"""The pure core: every decision of a node, as deterministic machines without I/O, clock or randomness."""
