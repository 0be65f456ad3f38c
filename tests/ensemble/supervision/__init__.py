"""Tests of ensemble.supervision."""
