"""The merlin-systems graph as a Triton model repository, and the Triton that serves it."""
