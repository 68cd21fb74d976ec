"""K-neighbour search over an index: candidates, their true distances, and bounds that rule out the others."""
