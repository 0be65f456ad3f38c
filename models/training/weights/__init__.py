"""Weights from outside a training step: checkpoints, an earlier run's, and whether they are finite."""
