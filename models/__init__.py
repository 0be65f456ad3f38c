"""Features to towers: the two-tower model, its training, evaluation and export."""
