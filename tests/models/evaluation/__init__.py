"""Tests of models.evaluation."""
