"""Tests of ensemble.measure."""
