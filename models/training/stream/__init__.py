"""Training on rows that memory does not hold: they are shuffled once into a file, and read some at a time."""
