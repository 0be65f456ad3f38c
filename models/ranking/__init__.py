"""Pre-ranking: models that score a few hundred retrieved candidates by more than a dot product."""
