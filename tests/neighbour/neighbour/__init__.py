"""Three tiny papers of another package: what they need of the house, and no edit in it."""
