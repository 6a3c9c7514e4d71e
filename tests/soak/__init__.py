"""A soak: a million events at a steady rate under mild faults, and nothing in any process that grows with them."""
