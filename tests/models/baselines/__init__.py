"""Tests of models.baselines."""
